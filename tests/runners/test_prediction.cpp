#include <gtest/gtest.h>

#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference.hpp"
#include "segcore/torch.hpp"

namespace seg::test {
namespace {

/// A network of which every window sees something else.
std::shared_ptr<Segmentor> sliding_model(const std::string& test_cfg) {
  auto model = Spec<Segmentor>::of(R"({
      type: EncoderDecoder,
      backbone: {type: UNet, in_channels: 3, base_channels: 4, num_stages: 2, strides: [1, 1],
                 enc_num_convs: [1, 1], dec_num_convs: [1], downsamples: [true],
                 enc_dilations: [1, 1], dec_dilations: [1], norm_cfg: {type: BN}},
      decode_head: {type: FCNHead, in_channels: 4, channels: 4, num_convs: 1, concat_input: false,
                    num_classes: 3, norm_cfg: {type: BN}, align_corners: false,
                    loss_decode: {type: CrossEntropyLoss}},
      test_cfg: )" + test_cfg + "}")
                   .build();
  reference::fill(*model, 2.0);
  model->eval();
  return model;
}

ModelInput sliding_input(torch::Tensor images, std::array<int64_t, 2> unpadded,
                         std::array<int64_t, 2> original, const std::string& flip) {
  ModelInput input;
  input.images = std::move(images);
  SampleMeta meta;
  meta.img_shape = unpadded;
  meta.ori_shape = original;
  meta.flip = !flip.empty();
  meta.flip_direction = flip;
  input.metas.push_back(meta);
  return input;
}

TEST(PredictWindows, GivesWhatTheModelGivesForTheWholeImage) {
  const torch::NoGradGuard no_grad;
  struct Case {
    std::array<int64_t, 2> crop, stride, size, unpadded, original;
    const char* flip = "";
  };
  const std::vector<Case> cases{{{16, 20}, {10, 12}, {53, 47}, {53, 47}, {53, 47}},
                                {{16, 16}, {16, 16}, {40, 64}, {40, 64}, {40, 64}},
                                {{32, 32}, {5, 9}, {30, 70}, {30, 70}, {30, 70}},
                                {{16, 16}, {3, 3}, {34, 16}, {34, 16}, {34, 16}},
                                {{16, 16}, {1, 16}, {34, 16}, {34, 16}, {50, 31}},
                                {{16, 20}, {10, 12}, {53, 47}, {41, 40}, {41, 40}},
                                {{16, 20}, {10, 12}, {53, 47}, {41, 40}, {97, 81}},
                                {{16, 20}, {10, 12}, {53, 47}, {53, 47}, {19, 23}},
                                {{16, 20}, {10, 12}, {53, 47}, {20, 30}, {47, 61}, "horizontal"},
                                {{16, 20}, {10, 12}, {53, 47}, {50, 47}, {50, 47}, "vertical"},
                                {{64, 64}, {64, 64}, {54, 46}, {54, 46}, {70, 60}}};
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(i);
    const Case& c = cases[i];
    const auto model = sliding_model(text("{mode: slide, crop_size: [", join(c.crop, ", "),
                                          "], stride: [", join(c.stride, ", "), "]}"));
    const auto input =
        sliding_input(reference::image({1, 3, c.size[0], c.size[1]}).to(torch::kFloat32),
                      c.unpadded, c.original, c.flip);
    const auto whole = model->predict(input).at(0);
    const auto rows =
        model->predict_windows(input, {c.crop[0], c.crop[1]}, {c.stride[0], c.stride[1]});
    ASSERT_EQ(rows.sizes(), whole.sizes());
    EXPECT_EQ(rows.ne(whole).sum().item<int64_t>(), 0);
    EXPECT_GT(std::get<0>(at::_unique(whole)).numel(), 1);
  }
}

/// Of one output map, a pixel is of the class where its probability is above the threshold.
TEST(PredictWindows, TakesAThresholdForOneMap) {
  const torch::NoGradGuard no_grad;
  const auto model = Spec<Segmentor>::of(R"({
      type: EncoderDecoder,
      backbone: {type: UNet, in_channels: 3, base_channels: 4, num_stages: 2, strides: [1, 1],
                 enc_num_convs: [1, 1], dec_num_convs: [1], downsamples: [true],
                 enc_dilations: [1, 1], dec_dilations: [1], norm_cfg: {type: BN}},
      decode_head: {type: FCNHead, in_channels: 4, channels: 4, num_convs: 1, concat_input: false,
                    num_classes: 2, out_channels: 1, threshold: 0.5, norm_cfg: {type: BN},
                    align_corners: false, loss_decode: {type: CrossEntropyLoss, use_sigmoid: true}},
      test_cfg: {mode: slide, crop_size: [16, 16], stride: [8, 8]}})")
                         .build();
  reference::fill(*model, 2.0);
  model->eval();
  const auto input =
      sliding_input(reference::image({1, 3, 40, 30}).to(torch::kFloat32), {40, 30}, {40, 30}, "");
  const auto whole = model->predict(input).at(0);
  EXPECT_TRUE(torch::equal(model->predict_windows(input, 16, 8), whole));
  EXPECT_EQ(std::get<0>(at::_unique(whole)).numel(), 2);
}

}  // namespace
}  // namespace seg::test
