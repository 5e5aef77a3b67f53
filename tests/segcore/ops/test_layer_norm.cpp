/// segcore::layer_norm against LibTorch's.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "registry/error.hpp"
#include "segcore/ops/layer_norm/layer_norm.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct LayerNormCase {
  const char* name;
  std::vector<int64_t> shape;
  bool with_weight = true, with_bias = true;
};

void PrintTo(const LayerNormCase& c, std::ostream* out) { *out << c.name; }

/// The result, and gradients by x, weight and bias as far as they are defined.
std::vector<at::Tensor> result_and_gradients(
    const std::vector<at::Tensor>& in, const at::Tensor& seed,
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& f) {
  std::vector<at::Tensor> leaves, learned;
  for (const auto& t : in) {
    leaves.push_back(t.defined() ? t.detach().requires_grad_() : t);
    if (t.defined()) learned.push_back(leaves.back());
  }
  const auto y = f(leaves);
  auto out = torch::autograd::grad({y}, learned, {seed});
  out.insert(out.begin(), y.detach());
  return out;
}

at::Tensor by_libtorch(const std::vector<at::Tensor>& in) {
  return at::layer_norm(in[0], {in[0].size(-1)}, in[1], in[2], 1e-5);
}
at::Tensor by_segcore(const std::vector<at::Tensor>& in) {
  return layer_norm(in[0], in[0].size(-1), in[1], in[2], 1e-5);
}

class LayerNormTest : public ::testing::TestWithParam<LayerNormCase> {};

TEST_P(LayerNormTest, IsThatOfLibTorch) {
  const LayerNormCase& c = GetParam();
  torch::manual_seed(0);
  const auto columns = c.shape.back();
  const auto x = at::randn(c.shape) * 3 + 5;
  const auto weight = c.with_weight ? at::rand({columns}) + 0.5 : at::Tensor();
  const auto bias = c.with_bias ? at::randn({columns}) : at::Tensor();
  const auto seed = at::randn(c.shape);
  const auto in_double = [](const at::Tensor& t) { return t.defined() ? t.to(at::kDouble) : t; };
  const auto expected = result_and_gradients({in_double(x), in_double(weight), in_double(bias)},
                                             in_double(seed), by_libtorch);
  const auto found = result_and_gradients({x, weight, bias}, seed, by_segcore);
  ASSERT_EQ(found.size(), expected.size());
  ASSERT_TRUE(has_layer_norm_kernel(x, std::nullopt, std::nullopt));
  for (size_t i = 0; i < found.size(); ++i) {
    const auto wanted = expected[i].to(at::kFloat);
    const double scale = std::max(1.0, wanted.abs().max().item<double>());
    EXPECT_LT((found[i] - wanted).abs().max().item<double>(), 3e-6 * scale) << "tensor " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, LayerNormTest,
    ::testing::Values(LayerNormCase{"whole_vectors", {2, 20, 32}},
                      LayerNormCase{"fewer_columns_than_lanes", {11, 5}},
                      LayerNormCase{"columns_behind_vectors", {3, 7, 45}},
                      LayerNormCase{"several_chunks", {1, 700, 16}},
                      LayerNormCase{"blocks_of_fewer_rows", {13, 320}},
                      LayerNormCase{"blocks_of_a_row", {3, 1101}},
                      LayerNormCase{"longest_rows", {2, 4096}}, LayerNormCase{"one_row", {24}},
                      LayerNormCase{"without_bias", {9, 16}, true, false},
                      LayerNormCase{"without_parameters", {9, 16}, false, false}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(LayerNormKernelTest, TakesRowsAsTheyLie) {
  torch::manual_seed(0);
  const auto map = at::randn({2, 16, 5, 4});
  const auto turned = map.permute({0, 2, 3, 1});
  const auto weight = at::rand({16}), bias = at::rand({16}), seed = at::randn({2, 5, 4, 16});
  const auto expected = result_and_gradients({turned.contiguous(), weight, bias}, seed, by_segcore);
  const auto found = result_and_gradients({turned, weight, bias}, seed, by_segcore);
  for (size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(found[i].equal(expected[i]));
}

TEST(LayerNormKernelTest, HasTheSameBitsOnAnyNumberOfThreads) {
  torch::manual_seed(0);
  const auto x = at::randn({3000, 24}), weight = at::rand({24}), bias = at::rand({24});
  const auto seed = at::randn({3000, 24});
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto expected = result_and_gradients({x, weight, bias}, seed, by_segcore);
  at::set_num_threads(3);
  const auto found = result_and_gradients({x, weight, bias}, seed, by_segcore);
  at::set_num_threads(before);
  for (size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(found[i].equal(expected[i]));
}

TEST(LayerNormKernelTest, LeavesTheRestToLibTorch) {
  const auto x = at::randn({4, 8}), weight = at::rand({8});
  for (const auto type : {at::kDouble, at::kBFloat16}) {
    EXPECT_FALSE(has_layer_norm_kernel(x.to(type), std::nullopt, std::nullopt));
    EXPECT_TRUE(layer_norm(x.to(type), 8, weight.to(type), {}, 1e-5)
                    .equal(at::layer_norm(x.to(type), {8}, weight.to(type), {}, 1e-5)));
  }
  EXPECT_FALSE(has_layer_norm_kernel(at::empty({1, 4097}), std::nullopt, std::nullopt));
  EXPECT_EQ(layer_norm(at::empty({0, 8}), 8, weight, {}, 1e-5).sizes(),
            (std::vector<int64_t>{0, 8}));
}

TEST(LayerNormKernelTest, RefusesRowsOfAnotherLength) {
  EXPECT_THROW(layer_norm(at::randn({8, 4}), 8, {}, {}, 1e-5), Error);
}

TEST(LayerNormKernelTest, MakesTheGradientsThatAreWanted) {
  const auto x = at::randn({4, 8}), weight = at::rand({8});
  const auto mean = x.mean(-1, true), invstd = (x.var(-1, false, true) + 1e-5).rsqrt();
  const auto all = layer_norm_backward(x, x, mean, invstd, weight, {true, true, true});
  for (const bool of_x : {false, true}) {
    const auto some = layer_norm_backward(x, x, mean, invstd, weight, {of_x, !of_x, false});
    EXPECT_EQ(std::get<0>(some).defined(), of_x);
    EXPECT_EQ(std::get<1>(some).defined(), !of_x);
    EXPECT_FALSE(std::get<2>(some).defined());
    EXPECT_TRUE(of_x ? std::get<0>(some).equal(std::get<0>(all))
                     : std::get<1>(some).equal(std::get<1>(all)));
  }
}

TEST(LayerNormKernelTest, HasNoSecondDerivative) {
  const auto x = at::randn({4, 8}).requires_grad_();
  const auto y = layer_norm(x, 8, {}, {}, 1e-5).square().sum();
  EXPECT_THROW(torch::autograd::grad({y}, {x}, {}, true, /*create_graph=*/true), Error);
}

}  // namespace
}  // namespace seg
