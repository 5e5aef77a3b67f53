#include "segcore/models/layers/init.hpp"

#include <gtest/gtest.h>

#include "segcore/models/backbone.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/layers/conv_module.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::init_test {

/// Two convolutions and a norm, with rules.
class Sample final : public BaseModule {
 public:
  explicit Sample(const std::string& init_cfg) : BaseModule(init_cfg_of(init_cfg)) {
    first = register_module("first", std::make_shared<Conv2d>(ConvOptions{
                                         .in_channels = 64, .out_channels = 32, .kernel_size = 3}));
    second =
        register_module("second", std::make_shared<Conv2d>(ConvOptions{
                                      .in_channels = 64, .out_channels = 32, .kernel_size = 3}));
    norm = register_module("norm", norm_cfg_of("{type: BN}")->build(int64_t{8}));
    linear = register_module("linear", std::make_shared<Linear>(300, 200));
    torch::manual_seed(0);
    init_weights();
  }
  std::shared_ptr<Conv2d> first, second;
  std::shared_ptr<Norm> norm;
  std::shared_ptr<Linear> linear;
};

void expect_moments(const torch::Tensor& t, double mean, double std) {
  EXPECT_NEAR(t.mean().item<double>(), mean, 4 * std / std::sqrt(static_cast<double>(t.numel())));
  EXPECT_NEAR(t.std().item<double>(), std, 0.03 * std);
}

TEST(InitCfg, RulesReachTheLayersTheyName) {
  const Sample m(
      "[{type: Normal, std: 0.5, bias: 2, layer: Conv2d}, {type: Constant, val: 3, layer: "
      "_BatchNorm}]");
  expect_moments(m.first->weight, 0, 0.5);
  EXPECT_EQ(m.first->bias.min().item<double>(), 2);
  EXPECT_EQ(m.norm->weight.min().item<double>(), 3);
  EXPECT_EQ(m.norm->bias.max().item<double>(), 0);
}

TEST(InitCfg, DistributionsHaveTheMomentsOfTheirRules) {
  // fan in 64 * 9, fan out 32 * 9
  expect_moments(Sample("{type: Kaiming, layer: Conv2d}").first->weight, 0, std::sqrt(2.0 / 288));
  expect_moments(
      Sample("{type: Kaiming, layer: Conv2d, mode: fan_in, distribution: uniform}").first->weight,
      0, std::sqrt(2.0 / 576));
  expect_moments(
      Sample("{type: Kaiming, layer: Conv2d, a: 1, nonlinearity: leaky_relu}").first->weight, 0,
      std::sqrt(1.0 / 288));
  expect_moments(Sample("{type: Caffe2Xavier, layer: Conv2d}").first->weight, 0,
                 std::sqrt(1.0 / 3 / 576 * 3));
  expect_moments(Sample("{type: Xavier, layer: Linear}").linear->weight, 0, std::sqrt(2.0 / 500));
  const auto xavier =
      Sample("{type: Xavier, layer: Linear, distribution: uniform, gain: 2}").linear->weight;
  expect_moments(xavier, 0, 2 * std::sqrt(2.0 / 500));
  EXPECT_LE(xavier.abs().max().item<double>(), 2 * std::sqrt(6.0 / 500));
  const auto cut = Sample("{type: TruncNormal, layer: Linear, std: 1, a: -1, b: 1}").linear->weight;
  expect_moments(cut, 0, 0.5396);  // of a standard normal cut off at -1 and 1
  EXPECT_LE(cut.abs().max().item<double>(), 1);
  expect_moments(Sample("{type: Uniform, layer: Linear, a: 1, b: 2}").linear->weight, 1.5,
                 std::sqrt(1.0 / 12));
}

TEST(InitCfg, OrthogonalRowsHaveTheLengthOfTheGain) {
  const Sample m("{type: Orthogonal, layer: [Conv2d, Linear], gain: 3, bias: 1}");
  for (const auto& weight : {m.first->weight.flatten(1), m.linear->weight}) {  // fewer rows
    const auto angles = weight.mm(weight.t());
    EXPECT_LT((angles - 9 * torch::eye(weight.size(0))).abs().max().item<double>(), 1e-4);
  }
  EXPECT_EQ(m.first->bias.min().item<double>(), 1);
  EXPECT_EQ(test::config_error([] { Sample sample("{type: Orthogonal, layer: _BatchNorm}"); }),
            "<default>:1:8: error: init_cfg.type: Orthogonal is for weights of two and more "
            "dimensions; that of BatchNorm2d has 1. Name the layers that it is for: layer: Conv2d\n"
            "1 error in the configuration");
}

TEST(InitCfg, BiasByProbability) {
  const Sample m("{type: Normal, layer: Linear, bias_prob: 0.01}");
  EXPECT_NEAR(torch::sigmoid(m.linear->bias).mean().item<double>(), 0.01, 1e-6);
}

TEST(InitCfg, OverridesTakeTheOuterRuleOrTheirOwn) {
  const Sample same("{type: Constant, val: 4, override: {name: second}}");
  EXPECT_EQ(same.second->weight.min().item<double>(), 4);
  EXPECT_NE(same.first->weight.min().item<double>(), 4);
  const Sample own(
      "{type: Constant, val: 4, layer: Conv2d, override: [{type: Constant, name: second, val: 5, "
      "bias: 6}]}");
  EXPECT_EQ(own.first->weight.max().item<double>(), 4);
  EXPECT_EQ(own.second->weight.max().item<double>(), 5);
  EXPECT_EQ(own.second->bias.max().item<double>(), 6);
}

TEST(InitCfg, MistakesAreTold) {
  EXPECT_EQ(test::config_error([] { Sample m("{type: Normal, override: {name: secnd}}"); }),
            "<default>:1:26: error: init_cfg.override: Sample has no child 'secnd'. Did you mean "
            "'second'? Known: first, second, norm, linear\n1 error in the configuration");
  EXPECT_EQ(test::config_error([] { init_cfg_of("{type: Normal, override: {std: 1}}"); }),
            "<default>:1:26: error: init_cfg.override: expected mapping with 'name', got {std: 1}\n"
            "1 error in the configuration");
  EXPECT_EQ(test::config_error([] { init_cfg_of("{type: Kaiming, mode: fan}"); }),
            "<default>:1:23: error: init_cfg.mode: unknown value 'fan'. Did you mean 'fan_in'? "
            "Known: fan_in, fan_out\n1 error in the configuration");
}

TEST(Initialisation, ConvModulesAreKaimingsNormal) {
  torch::manual_seed(0);
  const ConvModule relu({.in_channels = 64, .out_channels = 32, .kernel_size = 3});
  expect_moments(relu.conv()->weight, 0, std::sqrt(2.0 / 288));
  const ConvModule leaky({.in_channels = 64,
                          .out_channels = 32,
                          .kernel_size = 3,
                          .act_cfg = act_cfg_of("{type: LeakyReLU, negative_slope: 1}")});
  expect_moments(leaky.conv()->weight, 0, std::sqrt(1.0 / 288));
}

TEST(Initialisation, MixVisionTransformerAsItsAuthors) {
  torch::manual_seed(0);
  const auto mit = Spec<Backbone>::of("{type: MixVisionTransformer, embed_dims: 32}").build();
  mit->init_weights();
  const auto parameters = mit->named_parameters();
  expect_moments(parameters["layers.3.1.0.attn.attn.out_proj.weight"], 0, 0.02);
  EXPECT_EQ(parameters["layers.0.1.0.norm1.weight"].min().item<double>(), 1);
  // A depthwise convolution's fan out is its kernel.
  expect_moments(parameters["layers.3.1.0.ffn.layers.1.weight"], 0, std::sqrt(2.0 / 9));
  expect_moments(parameters["layers.3.0.projection.weight"], 0, std::sqrt(2.0 / (9 * 256)));
}

TEST(Initialisation, HeadsClassifyWithSmallWeights) {
  torch::manual_seed(0);
  const auto head =
      Spec<DecodeHead>::of(
          "{type: SegformerHead, channels: 256, num_classes: 150, norm_cfg: {type: BN}}")
          .build(std::vector<FeatureInfo>{{32, 4}, {64, 8}, {160, 16}, {256, 32}});
  head->init_weights();
  const auto parameters = head->named_parameters();
  expect_moments(parameters["conv_seg.weight"], 0, 0.01);
  EXPECT_EQ(parameters["conv_seg.bias"].abs().max().item<double>(), 0);
  expect_moments(parameters["fusion_conv.conv.weight"], 0, std::sqrt(2.0 / 256));
}

}  // namespace seg::init_test
