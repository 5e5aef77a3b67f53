#include <gtest/gtest.h>

#include "segcore/models/nn/resize.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/models/segmentors/sliding_logits.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"

namespace seg::test {
namespace {

/// A network of which every window sees something else. In double precision, so that classes that
/// are computed in another way are the same.
std::shared_ptr<Segmentor> sliding_model(const std::string& test_cfg,
                                         const std::string& head = "num_classes: 3") {
  auto model = Spec<Segmentor>::of(R"({
      type: EncoderDecoder,
      backbone: {type: UNet, in_channels: 3, base_channels: 4, num_stages: 2, strides: [1, 1],
                 enc_num_convs: [1, 1], dec_num_convs: [1], downsamples: [true],
                 enc_dilations: [1, 1], dec_dilations: [1], norm_cfg: {type: BN}},
      decode_head: {type: FCNHead, in_channels: 4, channels: 4, num_convs: 1, concat_input: false,
                    norm_cfg: {type: BN}, align_corners: false, )" +
                                   head + "}, test_cfg: " + test_cfg + "}")
                   .build();
  reference::fill(*model, 2.0);
  model->eval();
  for (auto& p : model->parameters()) p.set_data(p.to(torch::kFloat64));
  for (auto& b : model->buffers()) {
    if (b.is_floating_point()) b.set_data(b.to(torch::kFloat64));
  }
  return model;
}

SampleMeta sliding_meta(std::array<int64_t, 2> unpadded, std::array<int64_t, 2> original,
                        const std::string& flip = "") {
  SampleMeta meta;
  meta.img_shape = unpadded;
  meta.ori_shape = original;
  meta.flip = !flip.empty();
  meta.flip_direction = flip;
  return meta;
}

ModelInput sliding_input(torch::Tensor images, const std::vector<SampleMeta>& metas) {
  ModelInput input;
  input.images = std::move(images);
  input.metas = metas;
  return input;
}

/// Windows one after another over the whole image, then one resizing: [C, ori H, ori W].
torch::Tensor slid_logits(Segmentor& model, const ModelInput& input, int64_t image, Size2 crop,
                          Size2 stride) {
  const auto x = input.images.narrow(0, image, 1);
  const int64_t h = x.size(2), w = x.size(3);
  const auto begins = [](int64_t side, int64_t length, int64_t step) {
    std::vector<int64_t> out;
    for (int64_t at = 0;; at += step) {
      out.push_back(std::max<int64_t>(std::min(at, side - length), 0));
      if (at + length >= side) return out;
    }
  };
  torch::Tensor sum, count = torch::zeros({1, 1, h, w}, x.options());
  for (const int64_t top : begins(h, crop.h, stride.h)) {
    for (const int64_t left : begins(w, crop.w, stride.w)) {
      const auto window = [&](const torch::Tensor& t) {
        return t.narrow(2, top, std::min(crop.h, h)).narrow(3, left, std::min(crop.w, w));
      };
      const auto logits = model.encode_decode(window(x));
      if (!sum.defined()) sum = torch::zeros({1, logits.size(1), h, w}, x.options());
      window(sum).add_(logits);
      window(count).add_(1);
    }
  }
  const auto& meta = input.metas.at(static_cast<size_t>(image));
  auto out = (sum / count).narrow(2, 0, meta.img_shape[0]).narrow(3, 0, meta.img_shape[1]);
  if (meta.flip) out = out.flip({meta.flip_direction == "vertical" ? 2 : 3});
  return resize(out, Size2(meta.ori_shape[0], meta.ori_shape[1]))[0];
}

struct SlidingCase {
  std::array<int64_t, 2> crop, stride, size, unpadded, original;
  const char* flip = "";
  std::string test_cfg() const {
    return text("{mode: slide, crop_size: [", join(crop, ", "), "], stride: [", join(stride, ", "),
                "]}");
  }
};

torch::Tensor sliding_image(std::array<int64_t, 2> size, int64_t count = 1) {
  return reference::image({count, 3, size[0], size[1]}).to(torch::kFloat64);
}

TEST(PredictWindows, GivesTheClassesOfWindowsOverTheWholeImage) {
  const torch::NoGradGuard no_grad;
  const std::vector<SlidingCase> cases{
      {{16, 20}, {10, 12}, {53, 47}, {53, 47}, {53, 47}},
      {{16, 16}, {16, 16}, {40, 64}, {40, 64}, {40, 64}},
      {{32, 32}, {5, 9}, {30, 70}, {30, 70}, {30, 70}},
      {{16, 16}, {3, 3}, {34, 16}, {34, 16}, {34, 16}},
      {{16, 16}, {1, 16}, {34, 16}, {34, 16}, {50, 31}},
      {{16, 20}, {10, 12}, {53, 47}, {41, 40}, {41, 40}},
      {{16, 20}, {10, 12}, {53, 47}, {41, 40}, {97, 81}},
      {{16, 20}, {10, 12}, {53, 47}, {53, 47}, {19, 23}},
      {{16, 20}, {10, 12}, {53, 47}, {20, 30}, {47, 61}, "horizontal"},
      {{16, 20}, {10, 12}, {53, 47}, {50, 47}, {50, 47}, "vertical"},
      {{16, 20}, {10, 12}, {53, 47}, {30, 47}, {80, 60}, "vertical"},
      {{64, 64}, {64, 64}, {54, 46}, {54, 46}, {70, 60}}};
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(i);
    const SlidingCase& c = cases[i];
    const Size2 crop(c.crop[0], c.crop[1]), stride(c.stride[0], c.stride[1]);
    const auto input =
        sliding_input(sliding_image(c.size), {sliding_meta(c.unpadded, c.original, c.flip)});
    const auto slides = sliding_model(c.test_cfg());
    const auto expected = slid_logits(*slides, input, 0, crop, stride).argmax(0);
    EXPECT_GT(std::get<0>(at::_unique(expected)).numel(), 1);
    EXPECT_TRUE(torch::equal(slides->predict(input).at(0).ids, expected));
    const auto whole = sliding_model("{mode: whole}");
    EXPECT_TRUE(torch::equal(whole->predict_windows(input, crop, stride).ids, expected));
  }
}

/// Of one output map, a pixel is of the class where its probability is above the threshold.
TEST(PredictWindows, TakesAThresholdForOneMap) {
  const torch::NoGradGuard no_grad;
  const auto model =
      sliding_model("{mode: slide, crop_size: [16, 16], stride: [8, 8]}",
                    "num_classes: 2, out_channels: 1, threshold: 0.5, loss_decode: {type: "
                    "CrossEntropyLoss, use_sigmoid: true}");
  const auto input = sliding_input(sliding_image({40, 30}), {sliding_meta({40, 30}, {40, 30})});
  const auto expected = (slid_logits(*model, input, 0, 16, 8).sigmoid() > 0.5)[0].to(torch::kInt64);
  EXPECT_EQ(std::get<0>(at::_unique(expected)).numel(), 2);
  EXPECT_TRUE(torch::equal(model->predict(input).at(0).ids, expected));
  EXPECT_TRUE(torch::equal(model->predict_windows(input, 16, 8).ids, expected));
}

TEST(PredictWindows, TakesImagesOfABatchThatBecomeDifferentResults) {
  const torch::NoGradGuard no_grad;
  const auto model = sliding_model("{mode: slide, crop_size: [16, 20], stride: [10, 12]}");
  const std::vector<SampleMeta> alike{sliding_meta({53, 47}, {53, 47}),
                                      sliding_meta({30, 40}, {61, 77}, "horizontal"),
                                      sliding_meta({53, 20}, {11, 9})};
  std::vector<SampleMeta> mixed = alike;
  mixed[1] = sliding_meta({30, 40}, {61, 77}, "vertical");
  for (const auto& metas : {alike, mixed}) {
    const auto input = sliding_input(sliding_image({53, 47}, 3), metas);
    const auto ids = model->predict(input);
    ASSERT_EQ(ids.size(), 3u);
    for (int64_t i = 0; i < 3; ++i) {
      const auto expected = slid_logits(*model, input, i, {16, 20}, {10, 12}).argmax(0);
      EXPECT_TRUE(torch::equal(ids[static_cast<size_t>(i)].ids, expected)) << i;
    }
  }
}

TEST(PredictWindows, AveragesAugmentationsOfAnySizeAndFlip) {
  const torch::NoGradGuard no_grad;
  const auto model = sliding_model("{mode: slide, crop_size: [16, 20], stride: [10, 12]}");
  const std::array<int64_t, 2> original{53, 47};
  const auto images = sliding_image(original, 2);
  std::vector<ModelInput> augmented;
  for (const auto& [size, flip] :
       std::vector<std::pair<std::array<int64_t, 2>, std::string>>{{{53, 47}, ""},
                                                                   {{53, 47}, "vertical"},
                                                                   {{80, 70}, "horizontal"},
                                                                   {{27, 24}, "vertical"},
                                                                   {{106, 94}, ""}}) {
    auto x = resize(images, Size2(size[0], size[1]));
    if (!flip.empty()) x = x.flip({flip == "vertical" ? 2 : 3});
    const auto meta = sliding_meta(size, original, flip);
    augmented.push_back(sliding_input(x, {meta, meta}));
  }
  const auto ids = model->predict_tta(augmented);
  ASSERT_EQ(ids.size(), 2u);
  for (int64_t i = 0; i < 2; ++i) {
    torch::Tensor mean = torch::zeros({3, original[0], original[1]}, torch::kFloat64);
    for (const auto& input : augmented) {
      mean += slid_logits(*model, input, i, {16, 20}, {10, 12}).softmax(0);
    }
    EXPECT_GT(std::get<0>(at::_unique(mean.argmax(0))).numel(), 1);
    EXPECT_TRUE(torch::equal(ids[static_cast<size_t>(i)].ids, mean.argmax(0)));
  }
}

TEST(SlidingLogits, HoldsFewRowsAndAveragesHalfPrecisionInFloat) {
  // 1 + 2^-8 is no number of bfloat16, but the mean of two that are.
  int64_t windows = 0;
  SlidingLogits rows(
      [&](const torch::Tensor& x) -> SlidingLogits::WindowLogits {
        const double value = windows++ % 2 == 0 ? 1.0 : 1.0 + 1.0 / 128;
        return {{torch::full({1, 2, x.size(2), x.size(3)}, value, torch::kBFloat16)}, {false}};
      },
      torch::zeros({1, 3, 10, 6}), {4, 4}, {3, 2});
  EXPECT_EQ(rows.final_rows(), 0);
  rows.advance();
  EXPECT_EQ(rows.final_rows(), 3);
  EXPECT_EQ(rows.mean(0, 3).scalar_type(), torch::kFloat32);
  EXPECT_EQ(rows.mean(0, 1)[0][0][0][2].item<float>(), 1.0f + 1.0f / 256);
  EXPECT_THROW(rows.mean(0, 4), Error) << "row 3 lacks the windows below";
  rows.advance();
  EXPECT_EQ(rows.mean(2, 6).sizes(), at::IntArrayRef({1, 2, 4, 6}));
  EXPECT_THROW(rows.mean(1, 6), Error) << "row 1 was dropped";
  rows.advance();
  EXPECT_TRUE(rows.done());
  EXPECT_EQ(windows, 6);
}

/// As many channels as are resized in several parts.
TEST(SlidingLogits, AreThoseOfTheWindowsAtFullSize) {
  torch::manual_seed(0);
  const int64_t channels = 70, window = 260;
  const auto small = torch::randn({1, channels, 65, 65}), other = torch::randn_like(small);
  SlidingLogits rows(
      [&](const torch::Tensor&) -> SlidingLogits::WindowLogits {
        return {{small, other}, {false, true}, /*align_corners=*/true};
      },
      torch::zeros({1, 3, window, window}), Size2(window), Size2(window));
  rows.advance();
  const auto mirrored = resize(other, Size2(window), /*align_corners=*/true).flip({3});
  const auto expected = (resize(small, Size2(window), /*align_corners=*/true) + mirrored) / 2;
  EXPECT_TRUE(rows.mean(0, window).equal(expected));
}

}  // namespace
}  // namespace seg::test
