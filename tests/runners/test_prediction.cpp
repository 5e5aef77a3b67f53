#include <gtest/gtest.h>

#include "runners/prediction.hpp"
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

TEST(PredictByRows, GivesWhatTheModelGivesForTheWholeImage) {
  const torch::NoGradGuard no_grad;
  struct Case {
    const char* test_cfg;
    SlideWindow window;
    int64_t height, width;
  };
  const std::vector<Case> cases{
      {"{mode: slide, crop_size: [16, 20], stride: [10, 12]}", {16, 20, 10, 12}, 53, 47},
      {"{mode: slide, crop_size: [16, 16], stride: [16, 16]}", {16, 16, 16, 16}, 40, 64},
      {"{mode: slide, crop_size: [32, 32], stride: [5, 9]}", {32, 32, 5, 9}, 30, 70},
      {"{mode: slide, crop_size: [16, 16], stride: [3, 3]}", {16, 16, 3, 3}, 34, 16}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.test_cfg);
    auto model = sliding_model(c.test_cfg);
    const auto image = reference::image({1, 3, c.height, c.width}).to(torch::kFloat32);
    const auto whole = model->inference(image).argmax(1)[0];
    const auto rows = predict_by_rows(*model, image, c.window);
    ASSERT_EQ(rows.sizes(), whole.sizes());
    EXPECT_EQ(rows.ne(whole).sum().item<int64_t>(), 0);
    EXPECT_GT(std::get<0>(at::_unique(whole)).numel(), 1);
  }
}

}  // namespace
}  // namespace seg::test
