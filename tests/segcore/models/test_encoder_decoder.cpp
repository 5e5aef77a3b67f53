#include <gtest/gtest.h>

#include "segcore/models/nn/resize.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::encoder_decoder_test {

using test::config_error;

std::string model_text(const std::string& more = "", const std::string& head = "") {
  return "{type: EncoderDecoder, backbone: {type: MixVisionTransformer, embed_dims: 8, num_layers: "
         "[1, 1, 1, 1]}, decode_head: {type: SegformerHead, channels: 16, num_classes: 5, "
         "norm_cfg: "
         "{type: BN}" +
         head + "}" + more + "}";
}

std::shared_ptr<Segmentor> model(const std::string& more = "", const std::string& head = "") {
  torch::manual_seed(0);
  auto m = Spec<Segmentor>::of(model_text(more, head)).build();
  m->eval();
  for (auto& p : m->parameters()) p.set_data(p.to(torch::kFloat64));
  for (auto& b : m->buffers()) {
    if (b.is_floating_point()) b.set_data(b.to(torch::kFloat64));
  }
  return m;
}

ModelInput input_of(const torch::Tensor& images) {
  ModelInput input;
  input.images = images;
  for (int64_t i = 0; i < images.size(0); ++i) {
    SampleMeta meta;
    meta.ori_shape = meta.img_shape = meta.pad_shape = {images.size(2), images.size(3)};
    input.metas.push_back(meta);
  }
  return input;
}

TEST(EncoderDecoder, PredictsTheBestClassOfEachPixel) {
  const torch::NoGradGuard no_grad;
  const auto m = model();
  const auto images = torch::randn({2, 3, 40, 56}, torch::kFloat64);
  const auto ids = m->predict(input_of(images));
  const auto expected = m->encode_decode(images).argmax(1);
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_TRUE(torch::equal(torch::stack({ids[0].ids, ids[1].ids}), expected));
}

TEST(EncoderDecoder, PredictsAtTheOriginalShape) {
  const torch::NoGradGuard no_grad;
  const auto m = model("", ", align_corners: true");
  const auto images = torch::randn({1, 3, 64, 64}, torch::kFloat64);
  auto input = input_of(images);
  auto& meta = input.metas[0];
  meta.img_shape = {48, 60};
  meta.ori_shape = {100, 130};
  meta.flip = true;
  meta.flip_direction = "horizontal";
  auto logits = m->encode_decode(images).narrow(2, 0, 48).narrow(3, 0, 60).flip({3});
  EXPECT_TRUE(
      torch::equal(m->predict(input)[0].ids, resize(logits, {100, 130}, true).argmax(1)[0]));
}

TEST(EncoderDecoder, SlidesAWindow) {
  const torch::NoGradGuard no_grad;
  const auto m = model(", test_cfg: {mode: slide, crop_size: [32, 32], stride: [20, 24]}");
  const auto images = torch::randn({1, 3, 50, 70}, torch::kFloat64);
  auto sum = torch::zeros({1, 5, 50, 70}, torch::kFloat64);
  auto count = torch::zeros({1, 1, 50, 70}, torch::kFloat64);
  for (const int64_t top : {0, 18}) {
    for (const int64_t left : {0, 24, 38}) {
      const auto window = [&](const torch::Tensor& t) {
        return t.narrow(2, top, 32).narrow(3, left, 32);
      };
      window(sum).add_(m->encode_decode(window(images)));
      window(count).add_(1);
    }
  }
  EXPECT_TRUE(torch::allclose(m->inference(images), sum / count, 1e-10, 1e-10));
  EXPECT_TRUE(torch::equal(m->predict(input_of(images))[0].ids, (sum / count).argmax(1)[0]));
}

TEST(EncoderDecoder, PredictsWindowsInBatches) {
  const torch::NoGradGuard no_grad;
  const std::string slide = ", test_cfg: {mode: slide_flip, crop_size: [32, 32], stride: [20, 24]";
  const auto one = model(slide + "}");
  const auto images = torch::randn({2, 3, 50, 70}, torch::kFloat64);
  for (const char* batch : {"2", "3", "8"}) {
    const auto several = model(slide + ", batch: " + batch + "}");
    EXPECT_TRUE(torch::allclose(several->inference(images), one->inference(images), 1e-10, 1e-10));
  }
}

TEST(EncoderDecoder, AWindowLargerThanTheImageIsTheImage) {
  const torch::NoGradGuard no_grad;
  const auto m = model(", test_cfg: {mode: slide, crop_size: 128, stride: 85}");
  const auto images = torch::randn({1, 3, 50, 70}, torch::kFloat64);
  EXPECT_TRUE(torch::allclose(m->inference(images), m->encode_decode(images)));
}

TEST(EncoderDecoder, OneChannelPredictsByItsThreshold) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(0);
  auto m = Spec<Segmentor>::of(
               "{type: EncoderDecoder, backbone: {type: MixVisionTransformer, embed_dims: 8, "
               "num_layers: [1, 1, 1, 1]}, decode_head: {type: SegformerHead, channels: 16, "
               "num_classes: 2, out_channels: 1, threshold: 0.6, loss_decode: {type: "
               "CrossEntropyLoss, use_sigmoid: true}}}")
               .build();
  m->eval();
  const auto images = torch::randn({1, 3, 32, 32});
  const auto expected = (m->encode_decode(images).sigmoid() > 0.6)[0][0].to(torch::kLong);
  EXPECT_TRUE(torch::equal(m->predict(input_of(images))[0].ids, expected));
}

TEST(EncoderDecoder, AveragesAugmentations) {
  const torch::NoGradGuard no_grad;
  const auto m = model();
  const auto images = torch::randn({1, 3, 32, 48}, torch::kFloat64);
  auto plain = input_of(images);
  auto flipped = input_of(images.flip({3}));
  flipped.metas[0].flip = true;
  flipped.metas[0].flip_direction = "horizontal";
  const auto mean = (m->encode_decode(images).softmax(1) +
                     m->encode_decode(images.flip({3})).flip({3}).softmax(1)) /
                    2;
  EXPECT_TRUE(torch::equal(m->predict_tta({plain, flipped})[0].ids, mean.argmax(1)[0]));
}

TEST(EncoderDecoder, AuxiliaryHeadsHavePrefixes) {
  const std::string aux =
      "{type: SegformerHead, channels: 8, num_classes: 5, norm_cfg: {type: BN}}";
  const auto names = [](const LossMap& losses) {
    std::vector<std::string> out;
    for (const auto& [name, value] : losses) out.push_back(name);
    return out;
  };
  const auto images = torch::randn({2, 3, 32, 32}, torch::kFloat64);
  const auto labels = torch::randint(0, 5, {2, 32, 32}, torch::kLong);
  using Names = std::vector<std::string>;
  EXPECT_EQ(names(model(", auxiliary_head: " + aux)->loss(images, labels)),
            (Names{"decode.loss_ce", "decode.acc_seg", "aux.loss_ce", "aux.acc_seg"}));
  const auto two = model(", auxiliary_head: [" + aux + ", " + aux + "]");
  EXPECT_EQ(names(two->loss(images, labels)),
            (Names{"decode.loss_ce", "decode.acc_seg", "aux_0.loss_ce", "aux_0.acc_seg",
                   "aux_1.loss_ce", "aux_1.acc_seg"}));
  EXPECT_TRUE(two->named_parameters().contains("auxiliary_head.1.conv_seg.weight"));
}

TEST(EncoderDecoder, AnswersWhatItsOptionsAre) {
  const auto m = model(", test_cfg: {mode: slide, crop_size: [32, 40], stride: 20}");
  EXPECT_EQ(m->ignore_index(), 255);
  EXPECT_EQ(model("", ", ignore_index: 7")->ignore_index(), 7);
  EXPECT_EQ(model("", ", ignore_index: null")->ignore_index(), -100);
  EXPECT_EQ(m->bands(), 3);
  EXPECT_TRUE(m->test_cfg().slides());
  EXPECT_EQ(m->test_cfg().crop_size, Size2(32, 40));
  EXPECT_FALSE(model()->test_cfg().slides());
}

TEST(EncoderDecoder, ReportsMistakes) {
  const auto error = [](const std::string& text) {
    return config_error([&] { Spec<Segmentor>::of(text).build(); });
  };
  EXPECT_NE(error(model_text(", test_cfg: {mode: slide}")).find("is needed by mode 'slide'"),
            std::string::npos);
  EXPECT_NE(error(model_text(", test_cfg: {mode: slide, crop_size: 32, stride: 40}"))
                .find("stride: is larger than crop_size: pixels between windows have no scores"),
            std::string::npos);
  EXPECT_NE(error("{type: EncoderDecoder, backbone: {type: MixVisionTransformer}, decode_head: "
                  "[{type: SegformerHead, channels: 16, num_classes: 5}]}")
                .find("decode_head: must be one head; a list needs the type CascadeEncoderDecoder"),
            std::string::npos);
}

}  // namespace seg::encoder_decoder_test
