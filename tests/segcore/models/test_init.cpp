#include "segcore/models/weights/init.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "segcore/models/backbone.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"

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
            "<default>:1:8: error: init_cfg.type: Orthogonal is for weights of two or more "
            "dimensions; that of BatchNorm2d has 1. Name the layers that it is for: layer: Conv2d\n"
            "1 error in the configuration");
}

TEST(InitCfg, RulesByFanNameALayerThatHasNone) {
  for (const char* rule : {"Xavier", "Kaiming", "Caffe2Xavier"}) {
    EXPECT_THAT(
        test::config_error([&] { Sample s(text("{type: ", rule, ", layer: _BatchNorm}")); }),
        ::testing::HasSubstr("is for weights of two or more dimensions; that of "
                             "BatchNorm2d has 1"));
  }
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

TEST(InitCfg, ReportsMistakes) {
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

TEST(InitCfg, AllIsForTheWholeModelAfterItsParts) {
  torch::manual_seed(0);
  const auto model =
      Spec<Segmentor>::of(
          "{type: EncoderDecoder, init_cfg: {type: Orthogonal, layer: all}, backbone: {type: "
          "ResNet, depth: 18, base_channels: 8, stem_channels: 8}, decode_head: {type: FCNHead, "
          "channels: 8, num_convs: 1, num_classes: 3}}")
          .build();
  model->initialize();
  const auto parameters = model->named_parameters();
  // Also where the parts have rules of their own: the head's classifier, the backbone.
  for (const std::string name : {"decode_head.conv_seg.weight", "decode_head.convs.0.conv.weight",
                                 "backbone.conv1.weight"}) {
    const auto rows = parameters[name].flatten(1);
    const auto wide = rows.size(0) <= rows.size(1) ? rows : rows.t();
    EXPECT_TRUE(torch::allclose(wide.matmul(wide.t()), torch::eye(wide.size(0)), 1e-4, 1e-5))
        << name;
  }
  // Norms keep their ones.
  EXPECT_EQ(parameters["backbone.bn1.weight"].min().item<double>(), 1);
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

// --- Whole models -------------------------------------------------------------------------------

/// Sums over the values of a tensor in several initialisations.
struct Moments {
  double count = 0, sum = 0, squares = 0, fourths = 0, least = 1e30, greatest = -1e30;
  void add(const torch::Tensor& tensor) {
    const auto x = tensor.detach().to(torch::kFloat64);
    count += static_cast<double>(x.numel());
    sum += x.sum().item<double>();
    squares += x.square().sum().item<double>();
    fourths += x.pow(4).sum().item<double>();
    least = std::min(least, x.min().item<double>());
    greatest = std::max(greatest, x.max().item<double>());
  }
  double mean() const { return sum / count; }
  double std() const { return std::sqrt(std::max(0.0, squares / count - mean() * mean())); }
  double kurtosis() const { return fourths / count / (squares / count) / (squares / count); }
};

/// How a tensor differs from originals with these moments; "" if it does not.
std::string difference(const Moments& found, const std::vector<double>& expected) {
  if (expected.size() == 1) {
    const double value = expected[0], allowed = 1e-6 * std::abs(value);
    if (std::abs(found.least - value) <= allowed && std::abs(found.greatest - value) <= allowed) {
      return "";
    }
    return text("all are ", value, " in Python, from ", found.least, " to ", found.greatest,
                " here");
  }
  const double mean = expected.at(1), std = expected.at(2), kurtosis = expected.at(3);
  // Six standard errors of the two samples' difference: what chance brings is far below.
  const double chance = 6 * std::sqrt(1 / expected.at(0) + 1 / found.count);
  if (std::abs(found.mean() - mean) > chance * std) {
    return text("the mean is ", mean, " in Python, ", found.mean(), " here");
  }
  // The fourth moment shows how much variances vary; a few values do not determine it.
  if (std::abs(found.std() - std) > chance * std * std::max(1.0, std::sqrt(kurtosis - 1) / 2)) {
    return text("the deviation is ", std, " in Python, ", found.std(), " here");
  }
  // A single value far out, as a cut normal distribution has one at times, decides the kurtosis.
  if (expected.at(0) >= 500 && found.count >= 500 && kurtosis < 10 && found.kurtosis() < 10) {
    if (std::abs(found.kurtosis() - kurtosis) > chance * kurtosis * std::sqrt(24.0) / 2) {
      return text("the kurtosis is ", kurtosis, " in Python, ", found.kurtosis(), " here");
    }
    const double range = expected.at(5) - expected.at(4);
    const double slack = range * (0.01 + 10 / std::min(found.count, expected.at(0)));
    const bool uniform = std::abs(kurtosis - 1.8) < 0.1;
    if (uniform && (std::abs(found.least - expected.at(4)) > slack ||
                    std::abs(found.greatest - expected.at(5)) > slack)) {
      return text("values are from ", expected.at(4), " to ", expected.at(5), " in Python, from ",
                  found.least, " to ", found.greatest, " here");
    }
  }
  return "";
}

/// The models of a file below tests/data, each initialised a few times.
void expect_moments_of_originals(const std::string& name_of_file, size_t models) {
  std::ifstream file(source_path("tests/data/" + name_of_file));
  ASSERT_TRUE(file);
  const auto data = nlohmann::json::parse(file);
  for (const auto& entry : data.at("models")) {
    const std::string name = entry.at("name");
    SCOPED_TRACE(name);
    const auto spec = Spec<Segmentor>::of(entry.at("model").dump());
    std::map<std::string, Moments> moments;
    for (int seed = 0; seed < 3; ++seed) {
      torch::manual_seed(seed);
      const auto model = spec.build();
      model->init_weights();
      for (const auto& item : model->named_parameters()) moments[item.key()].add(item.value());
    }
    size_t seen = 0;
    for (const auto& [tensor, expected] : entry.at("tensors").items()) {
      const auto found = moments.find(tensor);
      ASSERT_NE(found, moments.end()) << tensor;
      ++seen;
      const auto wrong = difference(found->second, expected.get<std::vector<double>>());
      EXPECT_TRUE(wrong.empty()) << tensor << ": " << wrong;
    }
    EXPECT_EQ(seen, moments.size());
  }
  EXPECT_GE(data.at("models").size(), models);
}

TEST(Initialisation, EachTensorOfAModelHasTheMomentsOfItsOriginal) {
  expect_moments_of_originals("initialisation.json", 22);
}

TEST(Initialisation, EachTensorOfARealTimeNetworkHasTheMomentsOfItsOriginal) {
  expect_moments_of_originals("initialisation_real_time.json", 8);
}

}  // namespace seg::init_test
