#include "segcore/ops/batch_norm_relu/batch_norm_relu.hpp"

#include <gtest/gtest.h>

#include "segcore/models/nn/norm.hpp"
#include "tests/segcore/ops/signed_values.hpp"

namespace seg {
namespace {

struct BatchNormCase {
  std::vector<int64_t> shape;
  bool training = true, residual = false, affine = true, channels_last = false;

  /// A map as the case has it in memory.
  at::Tensor in_layout(const at::Tensor& map) const {
    return channels_last ? map.contiguous(at::MemoryFormat::ChannelsLast) : map.contiguous();
  }
};

std::ostream& operator<<(std::ostream& out, const BatchNormCase& c) {
  return out << at::IntArrayRef(c.shape) << (c.training ? " training" : " evaluation")
             << (c.residual ? " residual" : "") << (c.affine ? " affine" : "")
             << (c.channels_last ? " channels-last" : "");
}

at::Tensor drawn(const std::string& name, at::IntArrayRef shape, double scale, double shift) {
  return signed_values(name, shape) * scale + shift;
}

/// Inputs of one type, the result of `make`, and all gradients.
struct BatchNormOutcome {
  at::Tensor x, residual, weight, bias, mean, var, y;

  template <class Make>
  BatchNormOutcome(const BatchNormCase& c, at::ScalarType type, const Make& make) {
    const int64_t channels = c.shape[1];
    const auto leaf = [&](const at::Tensor& t) {
      return t.to(type, /*non_blocking=*/false, /*copy=*/true).requires_grad_();
    };
    // A mean that is large beside the spread, where sums of squares would cancel.
    x = leaf(c.in_layout(drawn("x", c.shape, 4, 50)));
    if (c.residual) residual = leaf(c.in_layout(drawn("residual", c.shape, 2, 0)));
    if (c.affine) {
      weight = leaf(drawn("weight", {channels}, 2, 0.6));
      bias = leaf(drawn("bias", {channels}, 1, 0.1));
    }
    mean = drawn("mean", {channels}, 1, 49).to(type);
    var = drawn("var", {channels}, 1, 1.5).to(type);
    y = make(*this);
    (y * drawn("gradient", c.shape, 3, 0).to(type)).sum().backward();
  }
  std::vector<at::Tensor> all() const {
    std::vector<at::Tensor> out{y, mean, var, x.grad()};
    if (residual.defined()) out.push_back(residual.grad());
    if (weight.defined()) out.insert(out.end(), {weight.grad(), bias.grad()});
    return out;
  }
};

class BatchNormRelu : public ::testing::TestWithParam<BatchNormCase> {};

TEST_P(BatchNormRelu, IsBatchNormThenTheSumThenRelu) {
  const auto& c = GetParam();
  const BatchNormOutcome found(c, at::kFloat, [&](BatchNormOutcome& o) {
    return batch_norm_relu(o.x, o.residual, o.weight, o.bias, o.mean, o.var,
                           {.training = c.training, .momentum = 0.3, .eps = 1e-3});
  });
  const BatchNormOutcome exact(c, at::kDouble, [&](BatchNormOutcome& o) {
    auto y = torch::batch_norm(o.x, o.weight, o.bias, o.mean, o.var, c.training, 0.3, 1e-3, false);
    return at::relu(c.residual ? y + o.residual : y);
  });
  const auto ours = found.all(), expected = exact.all();
  ASSERT_EQ(ours.size(), expected.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    const auto difference = (ours[i].to(at::kDouble) - expected[i]).abs();
    // A value at the edge of ReLU may fall on either side.
    const auto allowed = 2e-5 * expected[i].abs().max().item<double>() + 2e-5;
    EXPECT_LT(difference.max().item<double>(), allowed) << i;
  }
}

TEST_P(BatchNormRelu, TheKernelForCpusAgreesWithTheDefinition) {
  const auto& c = GetParam();
  const at::NoGradGuard no_grad;
  const auto x = c.in_layout(drawn("x", c.shape, 4, 5).to(at::kFloat));
  const auto optional = [](bool given, const at::Tensor& t) {
    return given ? std::optional<at::Tensor>(t.to(at::kFloat)) : std::nullopt;
  };
  const int64_t channels = c.shape[1];
  const auto residual = optional(c.residual, drawn("residual", c.shape, 2, 0));
  const auto weight = optional(c.affine, drawn("weight", {channels}, 2, 0.6));
  const auto bias = optional(c.affine, drawn("bias", {channels}, 1, 0.1));
  auto mean = drawn("mean", {channels}, 1, 4).to(at::kFloat);
  auto var = drawn("var", {channels}, 1, 1.5).to(at::kFloat);
  const auto [y, own_mean, invstd] = composed_batch_norm_relu(
      x, residual, weight, bias, mean.clone(), var.clone(), c.training, 0.3, 1e-3);
  const auto ours =
      batch_norm_relu(x, residual.value_or(at::Tensor()), weight.value_or(at::Tensor()),
                      bias.value_or(at::Tensor()), mean, var,
                      {.training = c.training, .momentum = 0.3, .eps = 1e-3});
  EXPECT_TRUE(torch::allclose(ours, y, 1e-4, 1e-4));
  EXPECT_EQ(ours.strides(), x.strides());
}

TEST_P(BatchNormRelu, TheNumberOfThreadsChangesNothing) {
  const auto& c = GetParam();
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> first;
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    const BatchNormOutcome found(c, at::kFloat, [&](BatchNormOutcome& o) {
      return batch_norm_relu(o.x, o.residual, o.weight, o.bias, o.mean, o.var,
                             {.training = c.training});
    });
    const auto all = found.all();
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(torch::equal(all[i], first[i])) << i;
  }
  at::set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, BatchNormRelu,
    ::testing::Values(BatchNormCase{{2, 5, 7, 9}}, BatchNormCase{{3, 4, 64, 70}, true, true},
                      BatchNormCase{{1, 6, 5, 3}, true, true, false},
                      BatchNormCase{{2, 3, 8, 8}, false}, BatchNormCase{{2, 3, 13, 5}, false, true},
                      BatchNormCase{{6, 4}, true}, BatchNormCase{{2, 2, 3, 4, 5}, true, true},
                      BatchNormCase{{2, 5, 7, 9}, true, false, true, true},
                      BatchNormCase{{3, 18, 64, 70}, true, true, true, true},
                      BatchNormCase{{1, 16, 5, 3}, true, true, false, true},
                      BatchNormCase{{2, 19, 8, 8}, false, true, true, true}));

TEST_P(BatchNormRelu, SharesOfABatchHaveItsResultAndGradients) {
  const auto& c = GetParam();
  if (!c.training || c.shape[0] < 2) return;
  const at::NoGradGuard no_grad;
  const auto x = c.in_layout(drawn("x", c.shape, 4, 50).to(at::kFloat));
  const auto gradient = drawn("gradient", c.shape, 3, 0).to(at::kFloat);
  const auto weight = drawn("weight", {c.shape[1]}, 2, 0.6).to(at::kFloat);
  const auto bias = drawn("bias", {c.shape[1]}, 1, 0.1).to(at::kFloat);
  const auto [y, mean, invstd] =
      batch_norm_relu_forward(x, std::nullopt, weight, bias, std::nullopt, std::nullopt, {});
  const auto [by_x, none, by_weight, by_bias] =
      batch_norm_relu_backward(gradient, x, y, weight, mean, invstd, false, /*of_batch=*/true);

  const auto moments = batch_norm_moments(x);
  EXPECT_TRUE(torch::allclose(moments, composed_batch_norm_moments(x), 1e-6, 1e-6));
  const auto sums = batch_norm_relu_sums(gradient, x, y, moments[0]);
  EXPECT_TRUE(
      torch::allclose(sums, composed_batch_norm_relu_sums(gradient, x, y, moments[0]), 1e-4, 1e-3));
  std::vector<at::Tensor> gradients;
  auto shared_sums = at::zeros_like(sums);
  const auto shares = x.chunk(2), share_gradients = gradient.chunk(2);
  std::vector<at::Tensor> share_results;
  for (size_t i = 0; i < shares.size(); ++i) {
    const auto share = c.in_layout(shares[i]);
    const auto [part, unused_mean, unused_invstd] = batch_norm_relu_forward(
        share, std::nullopt, weight, bias, moments[0], moments[1], {.training = false});
    share_results.push_back(part);
    shared_sums += batch_norm_relu_sums(share_gradients[i], share, part, moments[0]);
  }
  EXPECT_TRUE(torch::equal(at::cat(share_results), y));
  EXPECT_TRUE(torch::allclose((shared_sums[1] * invstd).to(at::kFloat), by_weight, 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(shared_sums[0].to(at::kFloat), by_bias, 1e-5, 1e-5));
  for (size_t i = 0; i < shares.size(); ++i) {
    const auto [part, part_none, part_weight, part_bias] = batch_norm_relu_backward(
        share_gradients[i], c.in_layout(shares[i]), share_results[i], weight, mean, invstd, false,
        true, SharedBatch{shared_sums, x.numel() / x.size(1)});
    EXPECT_FALSE(part_weight.defined());
    gradients.push_back(part);
  }
  EXPECT_TRUE(torch::allclose(at::cat(gradients), by_x, 1e-5, 1e-5));
}

TEST(BatchNormReluKernel, KeepsWhatIsNoNumber) {
  auto x = at::ones({2, 1, 2, 2});
  x[0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
  const auto y = batch_norm_relu(x, {}, {}, {}, {}, {}, {});
  EXPECT_TRUE(y.isnan().any().item<bool>());
}

TEST(BatchNormReluKernel, MayBeUsedTwiceInOneStep) {
  auto norm = Spec<Norm>::of("{type: BN}").build(3);
  auto x = drawn("x", {2, 3, 4, 4}, 2, 0).to(at::kFloat).requires_grad_();
  norm->forward_relu(norm->forward_relu(x), x).sum().backward();
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
  EXPECT_EQ(norm->named_buffers()["num_batches_tracked"].item<int64_t>(), 2);
}

}  // namespace
}  // namespace seg
