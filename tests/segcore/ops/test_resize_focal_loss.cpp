#include "segcore/ops/resize_focal_loss/resize_focal_loss.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>

#include "registry/error.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/ops/resize_focal_loss/resize_focal_loss_pixel.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/segcore/ops/gpu_gradient.hpp"

namespace seg::resize_focal_loss_test {

struct Case {
  int64_t images, classes, height, width, out_height, out_width;
  double gamma = 2;
  bool align_corners = false, weighted = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.images << "x" << c.classes << "x" << c.height << "x" << c.width << " to "
             << c.out_height << "x" << c.out_width << ", gamma " << c.gamma
             << (c.align_corners ? ", corners" : "") << (c.weighted ? ", weights" : "");
}

at::Tensor values(const std::string& name, at::IntArrayRef shape, double scale) {
  return (reference::uniform(name, c10::multiply_integers(shape)) * scale).reshape(shape);
}

double largest_difference(const at::Tensor& found, const at::Tensor& expected) {
  return (found.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
}

class ResizeFocalLoss : public ::testing::TestWithParam<Case> {
 protected:
  ResizeFocalLoss() {
    const auto& c = GetParam();
    exact = values("logits", {c.images, c.classes, c.height, c.width}, 16).to(at::kFloat) - 8;
    exact = exact.to(at::kDouble).requires_grad_();
    // Two labels more than there are classes: ignored ones, and background.
    const std::vector<int64_t> size{c.images, c.out_height, c.out_width};
    labels = values("labels", size, static_cast<double>(c.classes + 2)).to(at::kLong);
    labels.masked_fill_(labels == c.classes + 1, 255);
    options.gamma = c.gamma;
    options.align_corners = c.align_corners;
    if (c.weighted) {
      options.absent_weight = values("absent", {c.classes}, 2);
      options.present_weight = values("present", {c.classes}, 3);
      pixel_weight = values("pixel weight", labels.sizes(), 2);
      pixel_weight = pixel_weight.masked_fill(pixel_weight < 0.5, 0);
    }
  }
  /// The loss of each pixel by LibTorch's own binary cross entropy, with labels as a one-hot map.
  at::Tensor pixels_by_torch(const at::Tensor& x) const {
    const auto large = at::upsample_bilinear2d(x, labels.sizes().slice(1), options.align_corners);
    const auto classes = at::arange(x.size(1), at::kLong).view({1, -1, 1, 1});
    const auto truth = (labels.unsqueeze(1) == classes).to(at::kDouble);
    const auto wrong = truth * (1 - large.sigmoid()) + (1 - truth) * large.sigmoid();
    auto loss = wrong.pow(options.gamma) *
                at::binary_cross_entropy_with_logits(large, truth, {}, {}, at::Reduction::None);
    if (options.absent_weight.defined()) {
      loss = loss * (truth * options.present_weight.view({-1, 1, 1}) +
                     (1 - truth) * options.absent_weight.view({-1, 1, 1}));
    }
    return loss.sum(1) * (labels != 255);
  }
  at::Tensor exact, labels, pixel_weight;
  FocalOptions options;
};

TEST_P(ResizeFocalLoss, IsThatOfResizedLogits) {
  const auto pixels = pixels_by_torch(exact);
  const auto expected = (pixel_weight.defined() ? pixels * pixel_weight : pixels).sum();
  (expected * 0.37).backward();
  const double scale = exact.grad().abs().max().item<double>();
  for (const auto type : {at::kDouble, at::kFloat}) {
    const double allowed = type == at::kDouble ? 1e-11 : 6e-6;  // places are floats, too
    const auto x = exact.detach().to(type).requires_grad_();
    const auto found = resize_focal_loss(x, labels, pixel_weight, options);
    EXPECT_EQ(found.scalar_type(), type);
    EXPECT_NEAR(found.item<double>(), expected.item<double>(), allowed * expected.item<double>());
    (found * 0.37).backward();
    EXPECT_LE(largest_difference(x.grad(), exact.grad()), allowed * scale);
    const auto of_pixels = resize_pixel_focal_loss(x, labels, options);
    EXPECT_FALSE(of_pixels.requires_grad());
    EXPECT_LE(largest_difference(of_pixels, pixels), allowed * pixels.max().item<double>());
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(torch::equal(resize_focal_loss(x, labels, pixel_weight, options), found));
  }
}

TEST_P(ResizeFocalLoss, OfHalfPrecisionIsThatOfFloat) {
  const auto half = exact.detach().to(at::kBFloat16).requires_grad_();
  const auto wide = half.detach().to(at::kFloat).requires_grad_();
  const auto of_half = resize_focal_loss(half, labels, pixel_weight, options);
  const auto of_wide = resize_focal_loss(wide, labels, pixel_weight, options);
  EXPECT_TRUE(torch::equal(of_half, of_wide));
  of_half.backward();
  of_wide.backward();
  EXPECT_TRUE(torch::equal(half.grad(), wide.grad().to(at::kBFloat16)));
}

/// What the kernels of a GPU compute, one thread after the other.
struct OfKernels {
  double loss = 0;
  at::Tensor pixels;  ///< without their weights, 0 where these are
  at::Tensor gradient;
};

template <class Real, class Value>
OfKernels by_gpu_arithmetic(const at::Tensor& x, const at::Tensor& labels,
                            const at::Tensor& pixel_weight, const FocalOptions& o) {
  const ResizedCall call(x, labels, o.align_corners);
  const auto real = [&](const at::Tensor& t) { return t.defined() ? call.in_real(t) : t; };
  const auto absent = real(o.absent_weight), present = real(o.present_weight),
             of_pixel = real(pixel_weight);
  const FocalLossPixels<Real, Value> pixels{
      {call.logit_data<Value>(), call.labels.const_data_ptr<int64_t>(), data_or_null<Real>(absent),
       data_or_null<Real>(present), data_or_null<Real>(of_pixel), static_cast<Real>(o.gamma),
       o.ignore_index}};
  OfKernels out{.pixels = at::zeros(labels.sizes(), call.real())};
  for (int64_t pixel = 0; pixel < labels.numel(); ++pixel) {
    const auto note = pixels.note(pixel);
    if (!note.has_gradient()) continue;
    const Real loss = pixels.loss(note, call.geometry, pixel);
    out.pixels.template mutable_data_ptr<Real>()[pixel] = loss;
    out.loss += static_cast<double>(note.weight) * loss;
  }
  out.gradient =
      gradient_by_gpu_arithmetic<Real, Value>(pixels, call, lanes_of_place(call.geometry));
  return out;
}

TEST_P(ResizeFocalLoss, ArithmeticOfGpuKernelsIsTheDefinition) {
  const auto check = [&](const OfKernels& found, const at::Tensor& x, double allowed) {
    const auto wide = x.to(at::kDouble);
    const auto absent = if_defined(options.absent_weight);
    const auto present = if_defined(options.present_weight);
    const auto [loss, gradient] = composed_resize_focal_loss(
        wide, labels, absent, present, if_defined(pixel_weight), options.gamma,
        options.ignore_index, options.align_corners, /*with_gradient=*/true);
    EXPECT_NEAR(found.loss, loss.item<double>(), allowed * loss.item<double>());
    EXPECT_LE(largest_difference(found.gradient, gradient),
              allowed * gradient.abs().max().item<double>());
    auto pixels = composed_resize_pixel_focal_loss(wide, labels, absent, present, options.gamma,
                                                   options.ignore_index, options.align_corners);
    if (pixel_weight.defined()) pixels.mul_(pixel_weight != 0);
    EXPECT_LE(largest_difference(found.pixels, pixels), allowed * pixels.max().item<double>());
  };
  const auto x = exact.detach();
  check(by_gpu_arithmetic<double, double>(x, labels, pixel_weight, options), x, 1e-11);
  const auto single = x.to(at::kFloat), half = x.to(at::kHalf), brain = x.to(at::kBFloat16);
  check(by_gpu_arithmetic<float, float>(single, labels, pixel_weight, options), single, 1e-5);
  check(by_gpu_arithmetic<float, at::Half>(half, labels, pixel_weight, options), half, 1e-5);
  check(by_gpu_arithmetic<float, at::BFloat16>(brain, labels, pixel_weight, options), brain, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ResizeFocalLoss,
    ::testing::Values(Case{2, 19, 9, 13, 36, 52}, Case{1, 150, 8, 8, 32, 32, 0},
                      Case{2, 2, 7, 5, 50, 41, 2, true}, Case{1, 8, 16, 16, 16, 16, 0.5},
                      Case{1, 11, 33, 29, 17, 12, 1}, Case{2, 21, 5, 6, 33, 47, 0, false, true},
                      Case{1, 1, 4, 3, 19, 13, 2}, Case{1, 1, 4, 3, 19, 13, 0},
                      Case{1, 5, 1, 4, 1, 1, 3, true},
                      Case{1, 9, 12, 20, 48, 80, 1.5, true, true}));

TEST(ResizeFocalLossKernel, DoesNotDependOnTheNumberOfThreads) {
  const auto labels =
      (reference::uniform("labels", 3 * 70 * 70) * 20).to(at::kLong).reshape({3, 70, 70});
  std::vector<at::Tensor> losses, gradients;
  const int before = at::get_num_threads();
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    auto x = values("logits", {3, 20, 18, 18}, 9).to(at::kFloat).requires_grad_();
    losses.push_back(resize_focal_loss(x, labels, {}, {.gamma = 2}));
    losses.back().backward();
    gradients.push_back(x.grad());
  }
  at::set_num_threads(before);
  for (size_t i = 1; i < losses.size(); ++i) {
    EXPECT_TRUE(torch::equal(losses[i], losses[0]));
    EXPECT_TRUE(torch::equal(gradients[i], gradients[0]));
  }
}

TEST(ResizeFocalLossKernel, SurvivesLargeLogitsAndIgnoresNegativeLabels) {
  for (const double gamma : {0.0, 0.5, 2.0}) {
    auto x = (values("logits", {1, 6, 4, 4}, 4000) - 2000).to(at::kFloat).requires_grad_();
    const auto loss = resize_focal_loss(x, at::zeros({1, 16, 16}, at::kLong), {}, {.gamma = gamma});
    loss.backward();
    EXPECT_TRUE(std::isfinite(loss.item<double>()));
    EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
    auto unseen = values("logits", {1, 6, 4, 4}, 2).to(at::kFloat).requires_grad_();
    const auto none =
        resize_focal_loss(unseen, at::full({1, 16, 16}, -1, at::kLong), {}, {.gamma = gamma});
    none.backward();
    EXPECT_EQ(none.item<double>(), 0);
    EXPECT_EQ(unseen.grad().abs().sum().item<double>(), 0);
  }
}

/// Relative to the loss itself: 1 + e loses small e, and log(1 + e) must not.
TEST(ResizeFocalLossKernel, IsPreciseForSureAndForUnsureClasses) {
  const auto logits = at::linspace(-40, 40, 4001, at::kFloat).view({1, 1, 1, -1});
  const auto found = resize_pixel_focal_loss(logits, at::ones({1, 1, 4001}, at::kLong), {});
  const auto exact = at::log1p(logits.to(at::kDouble).exp()).view_as(found);
  EXPECT_LT(((found.to(at::kDouble) - exact).abs() / exact).max().item<double>(), 5e-7);
}

TEST(ResizeFocalLossKernel, HasNoSecondDerivative) {
  const auto x = at::ones({1, 6, 4, 4}).requires_grad_();
  const auto loss = resize_focal_loss(x, at::zeros({1, 8, 8}, at::kLong), {}, {});
  EXPECT_THROW(torch::autograd::grad({loss}, {x}, {}, true, /*create_graph=*/true), Error);
}

TEST(ResizeFocalLossKernel, IsAnOperatorOfTheDispatcher) {
  for (const char* name : {"segcore::resize_focal_loss", "segcore::resize_pixel_focal_loss"}) {
    const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
    EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::CPU)) << name;
    EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd)) << name;
  }
}

}  // namespace seg::resize_focal_loss_test
