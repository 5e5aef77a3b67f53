#include <gtest/gtest.h>

#include <cmath>

#include "segcore/models/loss.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg {
namespace {

/// [2, 3, 2, 2]
torch::Tensor kldiv_logits() {
  std::vector<double> values;
  for (int i = 0; i < 24; ++i) values.push_back(std::sin(0.9 * i + 0.3));
  return torch::tensor(values, at::kDouble).reshape({2, 3, 2, 2}).set_requires_grad(true);
}

torch::Tensor kldiv_labels() {
  return torch::tensor({0, 1, 2, 0, 2, 2, 1, 0}, at::kLong).reshape({2, 2, 2});
}

struct KLDivCase {
  const char* config;
  double loss, first, fourteenth, norm;  ///< of the gradient
};

// MMSegmentation 1.2.2's class on PyTorch 2.11, in double precision: logits as above, as the target
// 1e6 in the label's class and 0 in the others, and the mean of what it returns.
constexpr KLDivCase kKLDivCases[] = {
    {"{type: KLDivLoss}", -0.0945179854160827, -0.00883746158270606, 0.0035551522097362954,
     0.029458699390108686},
    {"{type: KLDivLoss, reduction: sum, temperature: 2.0}", -4.936570265882465, -0.2225756679926786,
     0.10038686660776883, 0.7363154225645393},
    {"{type: KLDivLoss, reduction: none, temperature: 0.5}", -0.020573407318358848,
     -0.003460222505009953, 0.0011109621943351216, 0.01354358414435217}};

TEST(KLDivLoss, NumbersAreThoseOfMmsegmentationForCertainTargets) {
  for (const KLDivCase& c : kKLDivCases) {
    SCOPED_TRACE(c.config);
    torch::Tensor logits = kldiv_logits();
    const auto loss = Spec<Loss>::of(c.config).build();
    EXPECT_EQ(loss->loss_name(), "loss_kld");
    const torch::Tensor value = loss->forward(logits, kldiv_labels(), {}, 255);
    value.backward();
    const torch::Tensor grad = logits.grad().flatten();
    EXPECT_NEAR(value.item<double>(), c.loss, 1e-12);
    EXPECT_NEAR(grad[0].item<double>(), c.first, 1e-12);
    EXPECT_NEAR(grad[13].item<double>(), c.fourteenth, 1e-12);
    EXPECT_NEAR(grad.norm().item<double>(), c.norm, 1e-12);
  }
}

TEST(KLDivLoss, IgnoredPixelsAddNothing) {
  torch::Tensor labels = kldiv_labels();
  labels[0][0][0] = 255;
  torch::Tensor logits = kldiv_logits();
  const auto loss = Spec<Loss>::of("{type: KLDivLoss, reduction: sum}").build();
  const double whole = loss->forward(logits, kldiv_labels(), {}, 255).item<double>();
  const torch::Tensor value = loss->forward(logits, labels, {}, 255);
  const double pixel = logits.softmax(1)[0][0][0][0].item<double>();
  EXPECT_NEAR(value.item<double>(), whole + pixel / 2, 1e-12);
  value.backward();
  EXPECT_EQ(logits.grad()[0].index({at::indexing::Slice(), 0, 0}).abs().sum().item<double>(), 0);
}

TEST(KLDivLoss, ReportsOptionsThatDoNotFit) {
  EXPECT_EQ(test::spec_error<Loss>("{type: KLDivLoss, temperature: 0}"),
            "<default>:1:32: error: temperature: must not be 0\n1 error in the configuration");
}

}  // namespace
}  // namespace seg
