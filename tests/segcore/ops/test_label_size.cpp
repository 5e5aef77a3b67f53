#include "segcore/ops/label_size.hpp"

#include <gtest/gtest.h>

#include "segcore/torch.hpp"

namespace seg::label_size_test {

TEST(LabelSize, GradientByProductsIsThatOfResizing) {
  torch::manual_seed(0);
  for (const bool align_corners : {false, true}) {
    for (const auto& [height, width] :
         std::vector<std::pair<int64_t, int64_t>>{{20, 31}, {5, 7}, {3, 40}, {1, 1}}) {
      const auto logits = torch::randn({2, 3, 5, 7}, torch::kFloat64).requires_grad_();
      const auto labels = torch::zeros({2, height, width}, torch::kLong);
      const auto large = at_label_size(logits, labels, align_corners);
      const auto gradient = torch::randn_like(large);
      large.backward(gradient);
      EXPECT_TRUE(torch::allclose(from_label_size_by_products(gradient, logits, align_corners),
                                  logits.grad(), 1e-12, 1e-12));
      EXPECT_TRUE(torch::allclose(from_label_size(gradient, logits, align_corners), logits.grad(),
                                  1e-12, 1e-12));
    }
  }
}

}  // namespace seg::label_size_test
