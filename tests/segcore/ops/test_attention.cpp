#include "segcore/ops/attention/attention.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "registry/error.hpp"
#include "segcore/ops/product_tile.hpp"
#include "segcore/profile/flops.hpp"
#include "tests/segcore/ops/signed_values.hpp"

namespace seg {
namespace {

struct AttentionCase {
  std::vector<int64_t> leading;
  int64_t queries, keys, width, value_width;
  std::vector<int64_t> bias;  ///< leading dimensions of the bias; {-1}: none

  bool has_bias() const { return bias != std::vector<int64_t>{-1}; }
  std::vector<int64_t> shape(int64_t rows, int64_t columns) const {
    auto out = leading;
    out.insert(out.end(), {rows, columns});
    return out;
  }
  std::vector<int64_t> bias_shape() const {
    auto out = bias;
    out.insert(out.end(), {queries, keys});
    return out;
  }
};

std::ostream& operator<<(std::ostream& out, const AttentionCase& c) {
  return out << at::IntArrayRef(c.leading) << " " << c.queries << " queries " << c.keys << " keys "
             << c.width << " to " << c.value_width << " bias " << at::IntArrayRef(c.bias);
}

/// Of rows whose heads lie side by side, as linear layers give them.
at::Tensor head_rows(const char* name, const AttentionCase& c, int64_t rows, int64_t columns) {
  auto shape = c.shape(rows, columns);
  const size_t last = shape.size() - 1;
  std::swap(shape[last - 1], shape[last - 2]);
  return (signed_values(name, shape) * 4).transpose(-2, -3);
}

/// Inputs of one type, the result of `attend`, and all gradients.
struct AttentionOutcome {
  at::Tensor q, k, v, bias, y;

  template <class Attend>
  AttentionOutcome(const AttentionCase& c, at::ScalarType type, const Attend& attend) {
    const auto leaf = [&](const at::Tensor& t) {
      return t.to(type, /*non_blocking=*/false, /*copy=*/true).requires_grad_();
    };
    q = leaf(head_rows("q", c, c.queries, c.width));
    k = leaf(head_rows("k", c, c.keys, c.width));
    v = leaf(head_rows("v", c, c.keys, c.value_width));
    if (c.has_bias()) bias = leaf(signed_values("bias", c.bias_shape()) * 3);
    y = attend(*this);
    (y * signed_values("gradient", y.sizes()).to(type)).sum().backward();
  }
  std::vector<at::Tensor> all() const {
    std::vector<at::Tensor> out{y, q.grad(), k.grad(), v.grad()};
    if (bias.defined()) out.push_back(bias.grad());
    return out;
  }
};

AttentionOutcome kernel_outcome(const AttentionCase& c, double scale = 0.3) {
  return {c, at::kFloat, [&](const AttentionOutcome& o) {
            return attention(o.q, o.k, o.v, o.bias, {.scale = scale});
          }};
}

void expect_close(const std::vector<at::Tensor>& ours, const std::vector<at::Tensor>& exact) {
  ASSERT_EQ(ours.size(), exact.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    ASSERT_EQ(ours[i].sizes(), exact[i].sizes()) << i;
    const auto difference = (ours[i].to(at::kDouble) - exact[i]).abs().max().item<double>();
    EXPECT_LT(difference, 3e-6 * exact[i].abs().max().item<double>() + 1e-7) << i;
  }
}

class AttentionOperator : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionOperator, IsTheSumOfValuesByTheSoftmaxOfScores) {
  const auto& c = GetParam();
  const AttentionOutcome exact(c, at::kDouble, [](const AttentionOutcome& o) {
    auto scores = at::matmul(o.q, o.k.transpose(-1, -2)) * 0.3;
    if (o.bias.defined()) scores = scores + o.bias;
    return at::matmul(scores.softmax(-1), o.v);
  });
  expect_close(kernel_outcome(c).all(), exact.all());
}

TEST_P(AttentionOperator, TheKernelForCpusAgreesWithTheDefinition) {
  const auto& c = GetParam();
  const auto exact = [&](const char* name, int64_t rows, int64_t columns) {
    return head_rows(name, c, rows, columns);
  };
  const auto q = exact("q", c.queries, c.width), k = exact("k", c.keys, c.width),
             v = exact("v", c.keys, c.value_width);
  std::optional<at::Tensor> bias;
  if (c.has_bias()) bias = signed_values("bias", c.bias_shape()) * 3;
  const auto [out, log_sums] = composed_attention(q, k, v, bias, 0.3);
  const auto grad = signed_values("gradient", out.sizes());
  const auto [by_q, by_k, by_v, by_bias] =
      composed_attention_backward(grad, q, k, v, bias, out, log_sums, 0.3, c.has_bias());
  std::vector<at::Tensor> defined{out, by_q, by_k, by_v};
  if (c.has_bias()) defined.push_back(by_bias);
  expect_close(kernel_outcome(c).all(), defined);
}

TEST_P(AttentionOperator, TheNumberOfThreadsChangesNothing) {
  const auto& c = GetParam();
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> first;
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    const auto all = kernel_outcome(c).all();
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(torch::equal(all[i], first[i])) << i;
  }
  at::set_num_threads(threads);
}

TEST_P(AttentionOperator, HasAKernelWhoseHeadsLieSideBySide) {
  const auto& c = GetParam();
  const auto found = kernel_outcome(c);
  ASSERT_EQ(has_attention_kernel(found.q, found.k, found.v, std::nullopt), has_fast_products());
  if (!has_fast_products()) return;
  EXPECT_TRUE(found.y.transpose(-2, -3).is_contiguous());
  EXPECT_NE(found.y.grad_fn()->name().find("AttentionFunction"), std::string::npos);
}

const std::vector<int64_t> kNoBias{-1};
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionOperator,
                         ::testing::Values(AttentionCase{{2, 1}, 300, 25, 32, 32, kNoBias},
                                           AttentionCase{{1, 2}, 70, 550, 64, 48, kNoBias},
                                           AttentionCase{{1, 1}, 1, 1, 16, 16, kNoBias},
                                           AttentionCase{{20, 3}, 49, 49, 32, 32, {3}},
                                           AttentionCase{{2, 3}, 130, 131, 16, 32, {1, 3}},
                                           AttentionCase{{2, 2}, 140, 270, 32, 32, {2, 1}},
                                           AttentionCase{{2, 4, 3}, 9, 9, 16, 16, {4, 3}},
                                           AttentionCase{{2, 2, 3}, 9, 20, 16, 16, {2, 1, 1}}));

AttentionCase small_case(std::vector<int64_t> bias = {-1}) {
  return {{2, 3}, 10, 20, 16, 16, std::move(bias)};
}

TEST(AttentionMask, LeavesKeysOutAndMakesRowsWithoutAnyZero) {
  const auto c = small_case();
  const auto mask = signed_values("mask", {2, 1, 10, 20}) > 0;
  mask.select(2, 4).fill_(false);
  const auto masked = [&](const AttentionOutcome& o) { return attention(o.q, o.k, o.v, mask); };
  const AttentionOutcome found(c, at::kFloat, masked), exact(c, at::kDouble, masked);
  expect_close(found.all(), exact.all());
  EXPECT_EQ(found.y.select(2, 4).abs().max().item<float>(), 0);
  EXPECT_EQ(found.q.grad().select(2, 4).abs().max().item<float>(), 0);
}

TEST(AttentionMask, OfAllQueriesMayBeARow) {
  const auto c = small_case();
  const auto keep = signed_values("keep", {20}) > 0;
  const auto found = AttentionOutcome(c, at::kFloat, [&](const AttentionOutcome& o) {
    return attention(o.q, o.k, o.v, keep.view({1, 1, 1, 20}));
  });
  const auto exact = AttentionOutcome(c, at::kDouble, [&](const AttentionOutcome& o) {
    return attention(o.q, o.k, o.v, keep.expand({2, 3, 10, 20}));
  });
  expect_close(found.all(), exact.all());
}

TEST(AttentionOfWindows, SharesABiasBetweenImagesOnAnyDevice) {
  AttentionCase c{{2, 4, 3}, 9, 9, 16, 16, {4, 3}};
  // Doubles have no kernel of ours, so that LibTorch's are given four dimensions.
  const AttentionOutcome of_torch(c, at::kDouble, [](const AttentionOutcome& o) {
    return attention(o.q, o.k, o.v, o.bias, {.scale = 0.3});
  });
  expect_close(kernel_outcome(c).all(), of_torch.all());
}

TEST(AttentionOfLibTorch, IsForDropoutAndOtherTypesAndWidths) {
  const auto q = signed_values("q", {1, 2, 5, 16}), narrow = signed_values("q", {1, 2, 5, 12});
  EXPECT_FALSE(has_attention_kernel(q, q, q, std::nullopt));
  EXPECT_TRUE(torch::equal(attention(q, q, q), at::scaled_dot_product_attention(q, q, q)));
  const auto floats = narrow.to(at::kFloat);
  EXPECT_FALSE(has_attention_kernel(floats, floats, floats, std::nullopt));
  EXPECT_TRUE(torch::equal(attention(floats, floats, floats),
                           at::scaled_dot_product_attention(floats, floats, floats)));
  const auto fits = q.to(at::kFloat);
  torch::manual_seed(1);
  const auto dropped = attention(fits, fits, fits, {}, {.dropout = 0.5});
  torch::manual_seed(1);
  EXPECT_TRUE(
      torch::equal(dropped, at::scaled_dot_product_attention(fits, fits, fits, std::nullopt, 0.5)));
}

TEST(AttentionKernel, KeepsWhatIsNoNumber) {
  auto q = at::ones({1, 1, 3, 16});
  q[0][0][1][2] = std::numeric_limits<float>::quiet_NaN();
  const auto y = attention(q, at::ones({1, 1, 7, 16}), at::ones({1, 1, 7, 16}));
  EXPECT_TRUE(y[0][0][1].isnan().all().item<bool>());
  EXPECT_FALSE(y[0][0][0].isnan().any().item<bool>());
}

TEST(AttentionKernel, TakesLargeScores) {
  // Products that floats hold exactly, up to 1250 after the scale of 1/4.
  const auto q = at::full({1, 1, 3, 16}, 100.0), v = signed_values("v", {1, 1, 600, 16});
  auto k = at::zeros({1, 1, 600, 16}, at::kDouble);
  k.select(3, 0).copy_((signed_values("k", {1, 1, 600}) * 100).round());
  expect_close({attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat))},
               {at::scaled_dot_product_attention(q.to(at::kDouble), k, v)});
}

TEST(AttentionKernel, GivesWhoeverAsksForTwiceTheGradientAnError) {
  const auto q = signed_leaf("q", {1, 1, 3, 16});
  const auto y = attention(q, q, q).sum();
  if (!has_fast_products()) GTEST_SKIP() << "no kernel without AVX2";
  EXPECT_THROW(torch::autograd::grad({y}, {q}, {}, true, /*create_graph=*/true), Error);
}

TEST(AttentionFlops, AreThoseOfTheProducts) {
  const int64_t product = 2 * 3 * 10 * 20 * 16;
  const auto count = [](const std::function<void()>& run) {
    int64_t sum = 0;
    for (const auto& [name, flops] : count_flops(run)) {
      if (name.find("attention") != std::string::npos) sum += flops;
    }
    return sum;
  };
  const auto c = small_case();
  const auto q = head_rows("q", c, 10, 16).to(at::kFloat).requires_grad_();
  const auto k = head_rows("k", c, 20, 16).to(at::kFloat);
  at::Tensor y;
  EXPECT_EQ(count([&] { y = attention(q, k, k); }), 2 * product);
  if (!has_fast_products()) GTEST_SKIP() << "LibTorch's backward pass is not counted";
  EXPECT_EQ(count([&] { y.sum().backward(); }), 5 * product);
}

TEST(SplitHeads, AreQueriesKeysAndValuesOfALinearLayer) {
  const auto qkv = signed_values("qkv", {2, 5, 3 * 4 * 6});
  const auto parts = split_heads(qkv, 4);
  const auto expected = qkv.view({2, 5, 3, 4, 6}).permute({2, 0, 3, 1, 4});
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(torch::equal(parts[static_cast<size_t>(i)], expected[i])) << i;
  }
}

}  // namespace
}  // namespace seg
