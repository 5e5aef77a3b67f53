// SegmentHead, FusionHead and YOLOSegHead: numbers computed by hand, sizes, training on backbones
// of every kind, messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/encoder_facts.hpp"

namespace seg::joining_heads_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Features = std::vector<FeatureInfo>;
const Features kTwoMaps{{1, 4}, {1, 8}};
/// Of ResNet-50.
const Features kStages{{256, 4}, {512, 8}, {1024, 16}, {2048, 32}};

std::shared_ptr<DecodeHead> head_of(const std::string& options, const Features& maps) {
  torch::manual_seed(0);
  return Spec<DecodeHead>::of("{" + options + "}").build(maps);
}

void set(const torch::nn::Module& head, const std::string& name,
         const std::vector<double>& values) {
  const torch::NoGradGuard no_grad;
  auto tensor = head.named_parameters()[name];
  tensor.copy_(torch::tensor(values).view(tensor.sizes()));
}
/// Makes a 3x3 convolution of one channel a factor of its middle pixel, for each input channel.
void set_middle(const torch::nn::Module& head, const std::string& name,
                const std::vector<double>& factors) {
  const torch::NoGradGuard no_grad;
  auto tensor = head.named_parameters()[name];
  tensor.zero_();
  for (size_t i = 0; i < factors.size(); ++i) {
    tensor[0][static_cast<int64_t>(i)][1][1] = factors[i];
  }
}

/// A map of 2x2 and one of a single pixel.
std::vector<torch::Tensor> two_maps() {
  return {torch::tensor({1.0f, 2.0f, 3.0f, 4.0f}).view({1, 1, 2, 2}),
          torch::tensor({10.0f}).view({1, 1, 1, 1})};
}

std::vector<float> values_of(const torch::Tensor& t) {
  const auto flat = t.detach().flatten().contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

// --- Numbers ------------------------------------------------------------------------------------

TEST(SegmentHead, JoinsMapsAtTheSizeOfTheFinest) {
  const std::string options =
      "type: SegmentHead, channels: 1, num_classes: 2, in_index: [0, 1], dropout_ratio: 0, "
      "fusion: ";
  for (const bool sum : {true, false}) {
    const auto head = head_of(options + (sum ? "sum" : "concat"), kTwoMaps);
    for (const auto& item : head->named_parameters()) {
      if (item.key().ends_with("bias")) set(*head, item.key(), std::vector<double>(item->numel()));
    }
    set_middle(*head, "scale_convs.0.conv.weight", {2});
    set_middle(*head, "scale_convs.1.conv.weight", {1});
    set_middle(*head, "fusion_conv.conv.weight", sum ? std::vector{1.0} : std::vector{1.0, -0.5});
    set(*head, "conv_seg.weight", {1, -3});
    const auto logits = head->forward(two_maps());
    EXPECT_EQ(logits.sizes(), at::IntArrayRef({1, 2, 2, 2}));
    // Twice 1, 2, 3, 4; plus 10, or minus 5 and not below 0.
    if (sum) {
      EXPECT_THAT(values_of(logits), ElementsAre(12, 14, 16, 18, -36, -42, -48, -54));
    } else {
      EXPECT_THAT(values_of(logits), ElementsAre(0, 0, 1, 3, 0, 0, -3, -9));
    }
  }
}

TEST(SegmentHead, LearnsAtEachScaleWhereToldTo) {
  const std::string options =
      "type: SegmentHead, channels: 4, num_classes: 3, in_index: [0, 1], dropout_ratio: 0, "
      "scale_loss_weight: ";
  const auto losses = [&](const std::string& weight) {
    const auto head = head_of(options + weight, kTwoMaps);
    reference::fill(*head, 1);
    const std::vector<torch::Tensor> maps{reference::image({2, 1, 8, 8}).to(torch::kFloat),
                                          reference::image({2, 1, 4, 4}).to(torch::kFloat)};
    std::map<std::string, double> out;
    for (const auto& [name, value] : head->loss(maps, reference::labels({2, 16, 16}, 3))) {
      EXPECT_EQ(out.count(name), 0u) << name;
      out[name] = value.item<double>();
    }
    return out;
  };
  const auto plain = losses("0"), once = losses("1"), half = losses("0.5");
  EXPECT_EQ(plain.size(), 2u);  // loss and accuracy
  ASSERT_EQ(once.size(), 4u);
  for (const char* name : {"loss_ce_scale0", "loss_ce_scale1"}) {
    ASSERT_TRUE(once.contains(name));
    EXPECT_GT(once.at(name), 0.1);
    EXPECT_NEAR(half.at(name), once.at(name) / 2, 1e-6);
  }
  EXPECT_EQ(once.at("loss_ce"), plain.at("loss_ce"));
}

TEST(FusionHead, AddsMapsByWeightsWhoseSumIsOne) {
  const std::string options =
      "type: FusionHead, channels: 1, num_classes: 2, in_index: [0, 1], num_convs: 0, "
      "dropout_ratio: 0, weighting: ";
  for (const bool fast : {true, false}) {
    const auto head = head_of(options + (fast ? "fast" : "softmax"), kTwoMaps);
    for (const char* name : {"projections.0.conv.", "projections.1.conv."}) {
      set(*head, text(name, "weight"), {1});
      set(*head, text(name, "bias"), {0});
    }
    set(*head, "conv_seg.weight", {1, -1});
    set(*head, "conv_seg.bias", {0, 0});
    const auto first = [&](double a, double b) {
      set(*head, "fusion_weights", {a, b});
      return head->forward(two_maps()).flatten()[1].item<double>();  // of 2 and 10
    };
    EXPECT_NEAR(first(1, 1), 6, 1e-3);
    if (fast) {
      EXPECT_NEAR(first(1, 3), (2 + 30) / 4.0001, 1e-5);
      EXPECT_NEAR(first(-5, 2), 20 / 2.0001, 1e-5);
    } else {
      EXPECT_NEAR(first(0, std::log(3)), (2 + 30) / 4.0, 1e-5);
    }
  }
}

TEST(FusionHead, BeginsWithOneWeightForAllAndLearnsThem) {
  const auto head = head_of("type: FusionHead, channels: 4, num_classes: 2", kStages);
  set(*head, "fusion_weights", {1, 2, 3, 4});
  head->initialize();
  const auto weights = head->named_parameters()["fusion_weights"];
  EXPECT_THAT(values_of(weights), ElementsAre(1, 1, 1, 1));
  std::vector<torch::Tensor> maps;
  for (const auto& f : kStages) {
    maps.push_back(torch::randn({1, f.channels, 64 / f.stride, 64 / f.stride}));
  }
  head->forward(maps).square().sum().backward();
  EXPECT_GT(weights.grad().abs().min().item<double>(), 0);
}

TEST(YOLOSegHead, JoinsTheEnlargedMapWithTheFinerOne) {
  // Layers whose convolutions pass the mean of their inputs, or the middle pixel of that, without a
  // norm's shift: each acts by SiLU.
  const auto head = head_of(
      "type: YOLOSegHead, block: C3, channels: 2, num_classes: 2, in_index: [0, 1], "
      "dropout_ratio: 0",
      kTwoMaps);
  {
    const torch::NoGradGuard no_grad;
    for (const auto& item : head->named_parameters()) {
      auto p = item.value();
      if (item.key().ends_with("conv.weight")) {
        p.zero_();
        p.select(3, p.size(3) / 2)
            .select(2, p.size(2) / 2)
            .fill_(1.0 / static_cast<double>(p.size(1)));
      }
    }
  }
  set(*head, "conv_seg.weight", {1, 0, 0, -1});
  set(*head, "conv_seg.bias", {0, 0});
  head->eval();
  const auto act = [](const torch::Tensor& x) {
    const auto normed = x / std::sqrt(1 + 1e-3);  // mean 0, variance 1, YOLO's eps
    return normed * normed.sigmoid();
  };
  const auto maps = two_maps();
  const auto coarse = act(maps[1]).expand({1, 1, 2, 2});
  // Both channels of the enlarged map, and the finer one.
  const auto joined = (2 * coarse + maps[0]) / 3;
  const auto beside = act(joined);
  const auto block = beside + act(act(beside));  // one channel wide, with its shortcut
  const auto out = act((block + beside) / 2);
  const auto logits = head->forward(maps);
  EXPECT_TRUE(torch::allclose(logits, at::cat({out, -out}, 1), 1e-5, 1e-6));
}

// --- Sizes --------------------------------------------------------------------------------------

TEST(JoiningHeads, HaveAsManyParametersAsTheirConvolutions) {
  const auto count = [](const std::string& options) {
    return test::count_parameters(
        *head_of("channels: 64, num_classes: 150, norm_cfg: {type: BN}, " + options, kStages));
  };
  const int64_t classes = 64 * 150 + 150;
  const auto conv = [](int64_t in, int64_t out, int64_t kernel) {
    return in * out * kernel * kernel + 2 * out;  // with a norm, without a bias
  };
  const int64_t scales =
      conv(256, 64, 3) + conv(512, 64, 3) + conv(1024, 64, 3) + conv(2048, 64, 3);
  EXPECT_EQ(count("type: SegmentHead"), scales + conv(4 * 64, 64, 3) + classes);
  EXPECT_EQ(count("type: SegmentHead, fusion: sum, scale_loss_weight: 1"),
            scales + conv(64, 64, 3) + 5 * classes);
  EXPECT_EQ(count("type: FusionHead"), conv(256, 64, 1) + conv(512, 64, 1) + conv(1024, 64, 1) +
                                           conv(2048, 64, 1) + 4 + 2 * conv(64, 64, 3) + classes);
  const auto c2f = [&](int64_t in, int64_t out) {
    const int64_t half = out / 2;
    return conv(in, out, 1) + 2 * conv(half, half, 3) + conv(3 * half, out, 1);
  };
  EXPECT_EQ(count("type: YOLOSegHead"), conv(2048, 256, 1) + c2f(256 + 1024, 256) +
                                            conv(256, 128, 1) + c2f(128 + 512, 128) +
                                            conv(128, 64, 1) + c2f(64 + 256, 64) + classes);
  const auto c3 = [&](int64_t in, int64_t out) {
    const int64_t half = out / 2;
    return 2 * conv(in, half, 1) + 2 * (conv(half, half, 1) + conv(half, half, 3)) +
           conv(2 * half, out, 1);
  };
  EXPECT_EQ(count("type: YOLOSegHead, block: C3, num_blocks: 2, widths: [64, 32, 48]"),
            conv(2048, 48, 1) + c3(48 + 1024, 48) + conv(48, 32, 1) + c3(32 + 512, 32) +
                conv(32, 64, 1) + c3(64 + 256, 64) + classes);
}

// --- Models -------------------------------------------------------------------------------------

TEST(JoiningHeads, TrainOnBackbonesOfEveryKind) {
  const std::string narrow = "base_channels: 4, stem_channels: 4, depth: 18";
  const std::vector<std::string> backbones{
      "{type: ResNet, " + narrow + "}",
      // Three maps of one size.
      "{type: ResNetV1c, " + narrow + ", dilations: [1, 1, 2, 4], strides: [1, 2, 1, 1]}",
      "{type: InternImage, channels: 8, depths: [1, 1, 1, 1], groups: [1, 2, 2, 4]}",
      "{type: SwinTransformer, embed_dims: 8, depths: [1, 1, 1, 1], num_heads: [1, 1, 1, 1], "
      "window_size: 4}",
      "{type: ConvNeXt, arch: {depths: [1, 1, 1, 1], channels: [4, 8, 12, 16]}, out_indices: [0, "
      "1, 2, 3]}",
      "{type: MixVisionTransformer, embed_dims: 8, num_heads: [1, 1, 1, 1], num_layers: [1, 1, 1, "
      "1]}"};
  const std::vector<std::string> heads{
      "type: SegmentHead, norm_cfg: {type: BN}, scale_loss_weight: 0.4",
      "type: FusionHead, norm_cfg: {type: BN}", "type: YOLOSegHead",
      "type: YOLOSegHead, block: C3, conv_cfg: {type: DCNv2}, norm_cfg: {type: BN}"};
  for (const auto& backbone : backbones) {
    for (const auto& head : heads) {
      const auto options = text("type: EncoderDecoder, backbone: ", backbone,
                                ", decode_head: {channels: 8, num_classes: 3, ", head, "}");
      SCOPED_TRACE(options);
      torch::manual_seed(0);
      const auto model = Spec<Segmentor>::of("{" + options + "}").build();
      model->initialize();
      set_drop_probability(*model, 0);
      const auto images = torch::randn({2, 3, 69, 93});
      const auto labels = torch::randint(0, 3, {2, 69, 93}, torch::kLong);
      total_loss(model->loss(images, labels)).backward();
      test::expect_gradients_where_trained(*model);
      model->eval();
      const torch::NoGradGuard no_grad;
      EXPECT_EQ(model->encode_decode(images).sizes(), at::IntArrayRef({2, 3, 69, 93}));
    }
  }
}

// --- Messages -----------------------------------------------------------------------------------

TEST(JoiningHeads, CheckTheirOptions) {
  const auto error = [](const std::string& options) {
    return test::config_error([&] { head_of("channels: 8, num_classes: 3, " + options, kStages); });
  };
  for (const std::string type : {"SegmentHead", "FusionHead", "YOLOSegHead"}) {
    EXPECT_THAT(error("type: " + type + ", input_transform: resize_concat"),
                HasSubstr("input_transform: must be multiple_select"));
    EXPECT_THAT(error("type: " + type + ", in_index: [0, 2, 1]"),
                HasSubstr("in_index: must name maps from fine to coarse, but stride 8 follows 16"));
  }
  EXPECT_THAT(error("type: SegmentHead, fusion: mean"),
              HasSubstr("fusion: unknown value 'mean'. Known: concat, sum"));
  EXPECT_THAT(error("type: FusionHead, weighting: slow"),
              HasSubstr("weighting: unknown value 'slow'. Known: fast, softmax"));
  const std::string yolo = "type: YOLOSegHead, ";
  EXPECT_THAT(error(yolo + "in_index: [3]"),
              HasSubstr("in_index: must name at least two maps, which are joined"));
  EXPECT_THAT(error(yolo + "widths: [8, 16]"),
              HasSubstr("widths: has 2 values for 4 maps: all but the coarsest need one"));
  EXPECT_THAT(error(yolo + "widths: [16, 16, 16]"),
              HasSubstr("widths: the first must be channels, 8"));
  EXPECT_THAT(error(yolo + "conv_cfg: {type: DCNv2}"),
              HasSubstr("conv_cfg: is for the 3x3 convolutions of C3; C2f has plain ones"));
  EXPECT_THAT(test::config_error(
                  [] { head_of("type: YOLOSegHead, channels: 1, num_classes: 3", kStages); }),
              HasSubstr("channels: must be at least 2: layers have two halves"));
  EXPECT_THAT(test::spec_warnings<DecodeHead>("{channels: 8, num_classes: 3, " + yolo +
                                              "act_cfg: {type: ReLU}}"),
              HasSubstr("act_cfg: has no effect: YOLO's layers have SiLU"));
}

}  // namespace seg::joining_heads_test
