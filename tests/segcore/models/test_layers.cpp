#include <gtest/gtest.h>
#include <torch/nn/functional.h>
#include <torch/nn/modules/activation.h>

#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/ppm.hpp"
#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::layers_test {

std::vector<std::string> names_of(const torch::nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& p : module.named_parameters()) names.push_back(p.key());
  return names;
}

using Names = std::vector<std::string>;

torch::Tensor activated(const std::string& yaml, const torch::Tensor& x, bool inplace = false) {
  return Spec<Activation>::of(yaml).build(inplace)->forward(x);
}

TEST(Activations, AreTheFunctionsOfTheirNames) {
  const auto x = torch::linspace(-4, 4, 17, torch::kFloat64);
  const auto expect = [&](const std::string& yaml, const torch::Tensor& expected) {
    EXPECT_TRUE(torch::allclose(activated(yaml, x.clone()), expected, 1e-12, 1e-12)) << yaml;
    EXPECT_TRUE(torch::allclose(activated(yaml, x.clone(), true), expected, 1e-12, 1e-12)) << yaml;
  };
  expect("{type: ReLU}", x.clamp_min(0));
  expect("{type: ReLU6}", x.clamp(0, 6));
  expect("{type: LeakyReLU, negative_slope: 0.1}", torch::where(x > 0, x, x * 0.1));
  expect("{type: ELU}", torch::where(x > 0, x, torch::exp(x) - 1));
  expect("{type: Sigmoid}", 1 / (1 + torch::exp(-x)));
  expect("{type: Tanh}", torch::tanh(x));
  expect("{type: SiLU}", x / (1 + torch::exp(-x)));
  expect("{type: Swish}", x / (1 + torch::exp(-x)));
  expect("{type: HSwish}", x * (x + 3).clamp(0, 6) / 6);
  expect("{type: HSigmoid}", ((x + 3) / 6).clamp(0, 1));
  expect("{type: HSigmoid, bias: 1, divisor: 2}", ((x + 1) / 2).clamp(0, 1));
  expect("{type: GELU}", x * (1 + torch::erf(x / std::sqrt(2.0))) / 2);
  expect("{type: Clamp}", x.clamp(-1, 1));
  expect("{type: Clip, max: 2}", x.clamp(-1, 2));
}

TEST(Activations, PReLULearnsItsSlope) {
  const auto prelu = Spec<Activation>::of("{type: PReLU, init: 0.5}").build(false);
  const auto x = torch::tensor({-2.0f, 3.0f});
  EXPECT_TRUE(torch::equal(prelu->forward(x), torch::tensor({-1.0f, 3.0f})));
  EXPECT_EQ(names_of(*prelu), (Names{"weight"}));
}

TEST(Activations, OverwriteTheirInputOnlyWhereAllowed) {
  const auto once = [](const std::string& yaml, bool inplace) {
    const auto x = torch::tensor({-1.0, 1.0});
    activated(yaml, x, inplace);
    return x[0].item<double>() == 0;
  };
  EXPECT_FALSE(once("{type: ReLU}", false));
  EXPECT_TRUE(once("{type: ReLU}", true));
  EXPECT_FALSE(once("{type: ReLU, inplace: false}", true));
  EXPECT_TRUE(once("{type: ReLU, inplace: true}", false));
}

TEST(Norms, BearTheNamesOfPython) {
  const auto norm = Spec<Norm>::of("{type: SyncBN, requires_grad: false}").build(int64_t{4});
  EXPECT_EQ(names_of(*norm), (Names{"weight", "bias"}));
  EXPECT_FALSE(norm->weight.requires_grad());
  EXPECT_EQ(norm->abbreviation(), "bn");
  EXPECT_EQ(norm->named_buffers().keys(),
            (Names{"running_mean", "running_var", "num_batches_tracked"}));
  EXPECT_EQ(layer_names(*norm), (Names{"SyncBatchNorm", "_BatchNorm"}));
  EXPECT_TRUE(is_norm(*norm));
}

TEST(Norms, BatchNormKeepsMeansWithoutMomentum) {
  const auto norm = Spec<Norm>::of("{type: BN, momentum: null}").build(int64_t{1});
  norm->forward(torch::full({2, 1, 2, 2}, 3.0));
  norm->forward(torch::full({2, 1, 2, 2}, 5.0));
  EXPECT_NEAR(norm->named_buffers()["running_mean"].item<double>(), 4.0, 1e-6);
}

TEST(Norms, BatchNormOfOneValueIsRefused) {
  const auto norm = Spec<Norm>::of("{type: BN}").build(int64_t{3});
  try {
    norm->forward(torch::zeros({1, 3, 1, 1}));
    FAIL();
  } catch (const DataError& e) {
    EXPECT_STREQ(e.what(),
                 "batch norm cannot be trained on one value per channel, got [1, 3, 1, 1]: take a "
                 "batch of at least 2 images, a larger crop or another norm");
  }
  norm->eval();
  EXPECT_NO_THROW(norm->forward(torch::zeros({1, 3, 1, 1})));
}

TEST(Norms, GroupsMustDivideChannels) {
  EXPECT_EQ(
      test::config_error([] { Spec<Norm>::of("{type: GN, num_groups: 3}").build(int64_t{8}); }),
      "<default>:1:24: error: num_groups: 8 channels cannot be cut into 3 groups\n"
      "1 error in the configuration");
}

TEST(ConvModule, BearsTheNamesOfMmcv) {
  const ConvModule plain({.in_channels = 2, .out_channels = 4, .kernel_size = 3});
  EXPECT_EQ(names_of(plain), (Names{"conv.weight", "conv.bias"}));
  const ConvModule normed(
      {.in_channels = 2, .out_channels = 4, .norm_cfg = norm_cfg_of("{type: BN}")});
  EXPECT_EQ(names_of(normed), (Names{"conv.weight", "bn.weight", "bn.bias"}));
  const ConvModule group({.in_channels = 2,
                          .out_channels = 4,
                          .bias = true,
                          .norm_cfg = norm_cfg_of("{type: GN, num_groups: 2}"),
                          .act_cfg = act_cfg_of("{type: PReLU}")});
  EXPECT_EQ(names_of(group),
            (Names{"conv.weight", "conv.bias", "gn.weight", "gn.bias", "activate.weight"}));
}

TEST(ConvModule, OrderAndPaddingMode) {
  torch::manual_seed(0);
  ConvModule module({.in_channels = 2,
                     .out_channels = 3,
                     .kernel_size = 3,
                     .padding = 1,
                     .norm_cfg = norm_cfg_of("{type: BN}"),
                     .inplace = false,
                     .padding_mode = "reflect",
                     .order = {'a', 'n', 'c'}});
  EXPECT_EQ(module.norm()->weight.size(0), 2);
  module.eval();
  const auto x = torch::randn({1, 2, 5, 6});
  const auto expected = at::conv2d(
      at::reflection_pad2d(x.relu() / std::sqrt(1 + 1e-5), {1, 1, 1, 1}), module.conv()->weight);
  EXPECT_TRUE(torch::allclose(module.forward(x), expected, 1e-5, 1e-6));
}

TEST(Convolutions, AdaptivePaddingCoversTheImage) {
  const ConvOptions options{
      .in_channels = 1, .out_channels = 1, .kernel_size = 3, .stride = 2, .padding = 1};
  const auto conv = Spec<Conv2d>::of("{type: Conv2dAdaptivePadding}").build(options);
  EXPECT_EQ(conv->forward(torch::zeros({1, 1, 7, 8})).sizes(), at::IntArrayRef({1, 1, 4, 4}));
}

TEST(DepthwiseSeparable, TakesNormsOfItsOwn) {
  const DepthwiseSeparableConvModule module([] {
    DepthwiseSeparableOptions o;
    o.in_channels = 4;
    o.out_channels = 6;
    o.kernel_size = 3;
    o.norm_cfg = norm_cfg_of("{type: BN}");
    o.pw_norm_cfg = NormCfg();
    return o;
  }());
  EXPECT_EQ(names_of(module), (Names{"depthwise_conv.conv.weight", "depthwise_conv.bn.weight",
                                     "depthwise_conv.bn.bias", "pointwise_conv.conv.weight",
                                     "pointwise_conv.conv.bias"}));
}

TEST(Drop, DropPathKeepsTheMean) {
  torch::manual_seed(0);
  DropPath drop(0.25);
  const auto y = drop.forward(torch::ones({4000, 2, 3}));
  EXPECT_NEAR(y.mean().item<double>(), 1, 0.05);
  // Whole samples are dropped.
  EXPECT_TRUE(torch::equal(y.amin({1, 2}), y.amax({1, 2})));
  set_drop_probability(drop, 0);
  EXPECT_TRUE(torch::equal(drop.forward(torch::ones({4, 2})), torch::ones({4, 2})));
  drop.eval();
  drop.set_drop_probability(0.9);
  EXPECT_TRUE(torch::equal(drop.forward(torch::ones({4, 2})), torch::ones({4, 2})));
}

TEST(Attention, IsTorchsMultiheadAttention) {
  torch::manual_seed(0);
  PackedAttention ours(12, 3);
  ours.to(torch::kFloat64);
  torch::nn::MultiheadAttention theirs(12, 3);
  theirs->to(torch::kFloat64);
  torch::NoGradGuard no_grad;
  for (const auto& p : ours.named_parameters()) {
    p.value().normal_();
    theirs->named_parameters()[p.key()].copy_(p.value());
  }
  const auto q = torch::randn({2, 5, 12}, torch::kFloat64);
  const auto k = torch::randn({2, 7, 12}, torch::kFloat64);
  const auto v = torch::randn({2, 7, 12}, torch::kFloat64);
  const auto expect = [&](const torch::Tensor& key, const torch::Tensor& value) {
    const auto [out, weights] =
        theirs->forward(q.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1));
    EXPECT_TRUE(torch::allclose(ours.forward(q, key, value), out.transpose(0, 1), 1e-10, 1e-10));
  };
  expect(q, q);
  expect(k, k);
  expect(k, v);
}

TEST(Transformers, FeedForwardBearsTheNamesOfMmcv) {
  const FFN ffn(
      {.embed_dims = 4, .feedforward_channels = 8, .num_fcs = 3, .layer_scale_init_value = 1});
  EXPECT_EQ(names_of(ffn),
            (Names{"layers.0.0.weight", "layers.0.0.bias", "layers.1.0.weight", "layers.1.0.bias",
                   "layers.2.weight", "layers.2.bias", "gamma2.weight"}));
}

TEST(Patches, EmbedPadsAtTheCorner) {
  PatchEmbed embed({.in_channels = 1, .embed_dims = 2, .kernel_size = 4});
  const auto [tokens, size] = embed.forward(torch::zeros({1, 1, 9, 4}));
  EXPECT_EQ(size, Size2(3, 1));
  EXPECT_EQ(tokens.sizes(), at::IntArrayRef({1, 3, 2}));
  EXPECT_EQ(embed.output_size({9, 4}), Size2(3, 1));
}

TEST(Patches, MergingJoinsTwoByTwo) {
  PatchMerging merge({.in_channels = 3, .out_channels = 5});
  const auto [tokens, size] = merge.forward(torch::zeros({2, 15, 3}), {3, 5});
  EXPECT_EQ(size, Size2(2, 3));
  EXPECT_EQ(tokens.sizes(), at::IntArrayRef({2, 6, 5}));
}

TEST(Pooling, PyramidHasOneMapForEachScale) {
  PPM ppm({.pool_scales = {1, 2}, .in_channels = 3, .channels = 4});
  const auto maps = ppm.forward(torch::zeros({2, 3, 7, 9}));
  ASSERT_EQ(maps.size(), 2u);
  EXPECT_EQ(maps[1].sizes(), at::IntArrayRef({2, 4, 7, 9}));
  EXPECT_EQ(names_of(ppm),
            (Names{"0.1.conv.weight", "0.1.conv.bias", "1.1.conv.weight", "1.1.conv.bias"}));
}

TEST(Resizing, ByAFactorMapsPositionsByTheFactor) {
  namespace F = torch::nn::functional;
  const auto x = torch::randn({1, 2, 7, 5}, torch::kFloat64);
  const auto expected = F::interpolate(x, F::InterpolateFuncOptions()
                                              .scale_factor(std::vector<double>{1.5, 1.5})
                                              .mode(torch::kBilinear)
                                              .align_corners(false));
  EXPECT_TRUE(torch::allclose(resize_by(x, 1.5), expected));
}

TEST(Resize, ByProductsIsTheSameWithTheSameGradient) {
  torch::manual_seed(0);
  const auto x = torch::randn({2, 3, 9, 14}).requires_grad_();
  const auto check = [&](const torch::Tensor& found, const torch::Tensor& expected,
                         const char* what) {
    EXPECT_TRUE(found.is_contiguous()) << what;
    EXPECT_TRUE(torch::allclose(found, expected, 1e-5, 1e-5)) << what;
    const auto g = torch::randn(expected.sizes());
    const auto gradient = [&](const torch::Tensor& y) {
      return torch::autograd::grad({y}, {x}, {g})[0];
    };
    EXPECT_TRUE(torch::allclose(gradient(found), gradient(expected), 1e-4, 1e-5)) << what;
  };
  for (const bool align : {false, true}) {
    for (const Size2 size : {Size2(36, 56), Size2(5, 7), Size2(1, 1), Size2(9, 20)}) {
      check(resize_by_products(x, size, align), resize(x, size, align), align ? "aligned" : "not");
    }
  }
  check(resize_by_products(x, {22, 35}, false, 2.5), resize_by(x, 2.5), "by a factor");
}

/// What a ConvModule makes of resized and joined maps, and the gradients of maps and weights.
std::vector<torch::Tensor> outcome_of_joining(ConvModule& module, bool joined,
                                              const std::string& mode) {
  torch::manual_seed(1);
  const std::vector<torch::Tensor> maps{torch::randn({2, 3, 8, 6}, torch::requires_grad()),
                                        torch::randn({2, 5, 4, 3}, torch::requires_grad()),
                                        torch::randn({2, 2, 2, 2}, torch::requires_grad()),
                                        torch::randn({2, 4, 16, 12}, torch::requires_grad())};
  std::vector<torch::Tensor> resized;
  for (const auto& map : maps) resized.push_back(resize(map, {8, 6}, false, mode));
  module.zero_grad();
  const auto out = joined ? module.forward(at::cat(resized, 1))
                          : module.forward_resized(maps, {8, 6}, false, mode);
  out.square().sum().backward();
  std::vector<torch::Tensor> all{out};
  for (const auto& map : maps) all.push_back(map.grad());
  for (const auto& p : module.parameters()) all.push_back(p.grad().clone());
  return all;
}

TEST(ConvModule, JoinsResizedMapsWithoutHoldingThem) {
  for (const char* mode : {"bilinear", "nearest", "bicubic", "area"}) {
    for (const int64_t kernel : {1, 3}) {
      for (const bool norm : {false, true}) {
        torch::manual_seed(0);
        ConvModuleOptions options{
            .in_channels = 14, .out_channels = 6, .kernel_size = kernel, .padding = kernel / 2};
        if (norm) options.norm_cfg = norm_cfg_of("{type: BN}");
        ConvModule module(options);
        const auto expected = outcome_of_joining(module, true, mode);
        const auto found = outcome_of_joining(module, false, mode);
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT_TRUE(torch::allclose(found[i], expected[i], 1e-4, 1e-4))
              << mode << " " << kernel << " " << norm << " " << i << " "
              << (found[i] - expected[i]).abs().max().item<double>();
        }
      }
    }
  }
}

}  // namespace seg::layers_test
