/// Maps whose positions attend to each other: by which formula, and what the backward pass keeps.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <algorithm>

#include "segcore/memory/recomputation.hpp"
#include "segcore/models/blocks/non_local.hpp"
#include "segcore/models/blocks/self_attention_block.hpp"
#include "segcore/torch.hpp"
#include "tests/segcore/ops/signed_values.hpp"

namespace seg::non_local_test {
namespace {

/// Keeps tensors as autograd does, and notes how many values the largest has.
class NotesLargest final : public torch::autograd::SavedVariableHooks {
 public:
  explicit NotesLargest(int64_t& largest) : largest_(largest) {}
  void call_pack_hook(const at::Tensor& x) override {
    kept_ = x.detach();
    largest_ = std::max(largest_, x.numel());
  }
  at::Tensor call_unpack_hook() override { return kept_; }

 private:
  int64_t& largest_;
  at::Tensor kept_;
};

/// Values of the largest tensor that is kept for the backward pass of `forward`.
template <class Forward>
int64_t largest_kept(const Forward& forward) {
  int64_t largest = 0;
  at::Tensor out;
  {
    const SavesTensorsBy notes([&] { return std::make_unique<NotesLargest>(largest); });
    out = forward();
  }
  out.square().sum().backward();
  return largest;
}

constexpr int64_t kSide = 24, kPositions = kSide * kSide;

at::Tensor map() { return signed_leaf("x", {1, 32, kSide, kSide}); }

TEST(NonLocal2d, KeepsNoMatrixOfPositions) {
  for (const std::string mode : {"gaussian", "embedded_gaussian"}) {
    NonLocalOptions options;
    options.mode = mode;
    options.reduction = mode == "gaussian" ? 1 : 2;
    NonLocal2d block(32, options);
    const auto x = map();
    EXPECT_LT(largest_kept([&] { return block.forward(x); }), kPositions * kPositions) << mode;
    EXPECT_TRUE(x.grad().defined());
  }
}

TEST(SelfAttentionBlock, KeepsNoMatrixOfPositions) {
  SelfAttentionOptions options;
  options.key_in_channels = options.query_in_channels = options.out_channels = 32;
  options.channels = 16;
  SelfAttentionBlock block(options);
  const auto x = map();
  EXPECT_LT(largest_kept([&] { return block.forward(x, x); }), kPositions * kPositions);
  EXPECT_TRUE(x.grad().defined());
}

TEST(NonLocal2d, WeighsByItsMode) {
  at::manual_seed(0);
  const auto x = signed_values("x", {2, 16, 5, 4}).to(at::kFloat);
  const auto pixels = x.flatten(2);  // [N, C, H*W]
  for (const std::string mode : {"gaussian", "dot_product"}) {
    NonLocalOptions options;
    options.mode = mode;
    options.reduction = 1;
    options.zeros_init = false;
    NonLocal2d block(16, options);
    auto weights = block.named_parameters();
    const auto of = [&](const std::string& child, const at::Tensor& map) {
      return at::conv2d(map, weights[child + ".conv.weight"], weights[child + ".conv.bias"]);
    };
    at::Tensor shares;
    if (mode == "gaussian") {
      shares = at::matmul(pixels.transpose(1, 2), pixels).softmax(-1);
    } else {
      shares = at::matmul(of("theta", x).flatten(2).transpose(1, 2), of("phi", x).flatten(2)) / 20;
    }
    const auto values = of("g", x).flatten(2);
    const auto expected = x + of("conv_out", at::matmul(values, shares.transpose(1, 2)).view_as(x));
    EXPECT_TRUE(at::allclose(block.forward(x), expected, 1e-5, 1e-6)) << mode;
  }
}

}  // namespace
}  // namespace seg::non_local_test
