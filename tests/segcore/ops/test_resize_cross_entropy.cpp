#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "registry/error.hpp"
#include "registry/text.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy_pixel.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/segcore/ops/gpu_gradient.hpp"

namespace seg {
namespace {

struct CrossEntropyCase {
  int64_t images, classes, height, width, out_height, out_width;
  bool align_corners = false, class_weight = false, pixel_weight = false;
};

std::ostream& operator<<(std::ostream& out, const CrossEntropyCase& c) {
  return out << c.images << "x" << c.classes << "x" << c.height << "x" << c.width << " to "
             << c.out_height << "x" << c.out_width << (c.align_corners ? " corners" : "")
             << (c.class_weight ? " class weights" : "")
             << (c.pixel_weight ? " pixel weights" : "");
}

at::Tensor values(const std::string& name, at::IntArrayRef shape, double scale) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return (reference::uniform(name, count).to(at::kFloat) * scale).reshape(shape);
}

class ResizeCrossEntropy : public ::testing::TestWithParam<CrossEntropyCase> {
 protected:
  ResizeCrossEntropy() {
    const auto& c = GetParam();
    logits = values("logits", {c.images, c.classes, c.height, c.width}, 12) - 6;
    logits.requires_grad_();
    // One label more than there are classes, which stands for ignored pixels.
    labels =
        values("labels", {c.images, c.out_height, c.out_width}, static_cast<double>(c.classes + 1))
            .to(at::kLong);
    labels.masked_fill_(labels == c.classes, 255);
    if (c.class_weight) class_weight = values("class weight", {c.classes}, 3) + 0.1;
    if (c.pixel_weight) {
      pixel_weight = values("pixel weight", {c.images, c.out_height, c.out_width}, 2);
      pixel_weight = pixel_weight.masked_fill(pixel_weight < 0.5, 0);
    }
  }
  /// By LibTorch's own resizing and loss, in double precision.
  at::Tensor by_torch(const at::Tensor& x) const {
    const auto& c = GetParam();
    const auto large = at::upsample_bilinear2d(x, {c.out_height, c.out_width}, c.align_corners);
    const auto loss = at::cross_entropy_loss(
        large, labels, c.class_weight ? class_weight.to(x.scalar_type()) : at::Tensor(),
        at::Reduction::None, 255);
    return (c.pixel_weight ? loss * pixel_weight : loss).sum();
  }

  at::Tensor logits, labels, class_weight, pixel_weight;
};

TEST_P(ResizeCrossEntropy, IsThatOfResizedLogits) {
  const auto& c = GetParam();
  const auto found =
      resize_cross_entropy(logits, labels, class_weight, pixel_weight, 255, c.align_corners);
  const auto exact = logits.detach().to(at::kDouble).requires_grad_();
  const auto expected = by_torch(exact);
  EXPECT_NEAR(found.loss.item<double>(), expected.item<double>(), 2e-6 * expected.item<double>());
  const auto factor = 0.37;
  (found.loss * factor).backward();
  (expected * factor).backward();
  EXPECT_LT((logits.grad().to(at::kDouble) - exact.grad()).abs().max().item<double>(),
            3e-6 * exact.grad().abs().max().item<double>() + 1e-6);

  const auto valid = labels != 255;
  EXPECT_EQ(found.counts[1].item<int64_t>(), valid.sum().item<int64_t>());
  const auto best =
      at::upsample_bilinear2d(exact.detach(), {c.out_height, c.out_width}, c.align_corners)
          .argmax(1);
  // Pixels whose two best classes differ in the last place may be counted either way.
  EXPECT_NEAR(found.counts[0].item<double>(), ((best == labels) & valid).sum().item<double>(), 2);
  const auto weights =
      c.class_weight
          ? class_weight.index_select(0, labels.masked_select(valid)).sum().item<double>()
          : valid.sum().item<double>();
  EXPECT_NEAR(found.weight.item<double>(), weights, 1e-5 * weights);
}

TEST_P(ResizeCrossEntropy, TheKernelForCpusAgreesWithTheDefinition) {
  const auto& c = GetParam();
  const auto optional = [](const at::Tensor& t) {
    return t.defined() ? std::optional<at::Tensor>(t) : std::nullopt;
  };
  const auto [loss, weight, counts, gradient] =
      composed_resize_cross_entropy(logits.detach(), labels, optional(class_weight),
                                    optional(pixel_weight), 255, c.align_corners, true);
  const auto found =
      resize_cross_entropy(logits, labels, class_weight, pixel_weight, 255, c.align_corners);
  found.loss.backward();
  EXPECT_NEAR(found.loss.item<double>(), loss.item<double>(), 1e-5 * loss.item<double>());
  EXPECT_NEAR(found.weight.item<double>(), weight.item<double>(), 1e-5 * weight.item<double>());
  EXPECT_NEAR(found.counts[0].item<double>(), counts[0].item<double>(), 2);
  EXPECT_EQ(found.counts[1].item<int64_t>(), counts[1].item<int64_t>());
  EXPECT_LT((logits.grad() - gradient).abs().max().item<double>(),
            1e-5 * gradient.abs().max().item<double>() + 1e-6);
}

TEST_P(ResizeCrossEntropy, OfEachPixelIsThatOfResizedLogits) {
  const auto& c = GetParam();
  const auto found = resize_pixel_cross_entropy(logits, labels, 255, c.align_corners);
  EXPECT_FALSE(found.requires_grad());
  const auto large = at::upsample_bilinear2d(logits.detach().to(at::kDouble),
                                             {c.out_height, c.out_width}, c.align_corners);
  const auto expected = at::cross_entropy_loss(large, labels, {}, at::Reduction::None, 255);
  EXPECT_LT((found.to(at::kDouble) - expected).abs().max().item<double>(), 2e-5);
  EXPECT_TRUE(torch::allclose(
      composed_resize_pixel_cross_entropy(logits.detach(), labels, 255, c.align_corners), found,
      1e-5, 1e-5));
}

/// What the kernels of a GPU compute, one thread after the other.
struct OfKernels {
  double loss = 0, weight = 0;
  int64_t right = 0, valid = 0;
  at::Tensor pixels, gradient;
};

template <class Real, class Value>
OfKernels by_gpu_arithmetic(const at::Tensor& logits, const at::Tensor& labels,
                            const at::Tensor& class_weight, const at::Tensor& pixel_weight,
                            bool align_corners) {
  const ResizedCall call(logits, labels, align_corners);
  const auto real = call.real();
  const at::Tensor of_class = class_weight.defined() ? class_weight.to(real) : class_weight;
  const at::Tensor of_pixel = pixel_weight.defined() ? pixel_weight.to(real) : pixel_weight;
  const CrossEntropyOperands<Real, Value> in{
      call.logit_data<Value>(), labels.const_data_ptr<int64_t>(), data_or_null<Real>(of_class),
      data_or_null<Real>(of_pixel), 255};
  OfKernels out{.pixels = at::empty(labels.sizes(), logits.options().dtype(real))};
  std::vector<CrossEntropyNote<Real>> notes;
  for (int64_t i = 0; i < labels.numel(); ++i) {
    const auto pixel = cross_entropy_pixel(in, call.geometry, i);
    notes.push_back(pixel.note);
    out.pixels.data_ptr<Real>()[i] = pixel.loss;
    out.loss += static_cast<double>(pixel.note.weight) * pixel.loss;
    out.weight += pixel.class_weight;
    out.right += pixel.right;
    out.valid += pixel.valid;
  }
  out.gradient = gradient_by_gpu_arithmetic<Real, Value>(CrossEntropyGradient<Real>{notes.data()},
                                                         call, lanes_of_place(call.geometry));
  return out;
}

TEST_P(ResizeCrossEntropy, ArithmeticOfGpuKernelsIsTheDefinition) {
  const auto& c = GetParam();
  const auto check = [&](const OfKernels& found, const at::Tensor& x, double allowed) {
    const auto exact = x.to(at::kDouble);
    const auto wide = [](const at::Tensor& t) {
      return t.defined() ? std::optional(t.to(at::kDouble)) : std::nullopt;
    };
    const auto [loss, weight, counts, gradient] = composed_resize_cross_entropy(
        exact, labels, wide(class_weight), wide(pixel_weight), 255, c.align_corners, true);
    EXPECT_NEAR(found.loss, loss.item<double>(), allowed * loss.item<double>());
    EXPECT_NEAR(found.weight, weight.item<double>(), allowed * weight.item<double>());
    // Equal classes of half precision and rounded ones may be counted either way.
    EXPECT_NEAR(static_cast<double>(found.right), counts[0].item<double>(), allowed < 1e-9 ? 0 : 2);
    EXPECT_EQ(found.valid, counts[1].item<int64_t>());
    EXPECT_LE((found.gradient.to(at::kDouble) - gradient).abs().max().item<double>(),
              allowed * gradient.abs().max().item<double>());
    const auto pixels = composed_resize_pixel_cross_entropy(exact, labels, 255, c.align_corners);
    EXPECT_LE((found.pixels.to(at::kDouble) - pixels).abs().max().item<double>(),
              allowed * pixels.max().item<double>());
  };
  const auto x = logits.detach();
  const auto exact = x.to(at::kDouble);
  check(
      by_gpu_arithmetic<double, double>(exact, labels, class_weight, pixel_weight, c.align_corners),
      exact, 1e-12);
  check(by_gpu_arithmetic<float, float>(x, labels, class_weight, pixel_weight, c.align_corners), x,
        1e-5);
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    const auto half = x.to(type);
    const auto found = type == at::kHalf
                           ? by_gpu_arithmetic<float, at::Half>(half, labels, class_weight,
                                                                pixel_weight, c.align_corners)
                           : by_gpu_arithmetic<float, at::BFloat16>(half, labels, class_weight,
                                                                    pixel_weight, c.align_corners);
    check(found, half, 1e-5);
  }
}

TEST_P(ResizeCrossEntropy, HalfPrecisionIsWidened) {
  const auto& c = GetParam();
  const auto half = logits.detach().to(at::kBFloat16).requires_grad_();
  const auto wide = half.detach().to(at::kFloat).requires_grad_();
  const auto of_half =
      resize_cross_entropy(half, labels, class_weight, pixel_weight, 255, c.align_corners);
  const auto of_wide =
      resize_cross_entropy(wide, labels, class_weight, pixel_weight, 255, c.align_corners);
  EXPECT_TRUE(torch::equal(of_half.loss, of_wide.loss));
  EXPECT_TRUE(torch::equal(of_half.counts, of_wide.counts));
  of_half.loss.backward();
  of_wide.loss.backward();
  EXPECT_TRUE(torch::equal(half.grad(), wide.grad().to(at::kBFloat16)));
  EXPECT_TRUE(torch::equal(resize_pixel_cross_entropy(half, labels, 255, c.align_corners),
                           resize_pixel_cross_entropy(wide, labels, 255, c.align_corners)));
  const auto defined = [](const at::Tensor& t) {
    return t.defined() ? std::optional(t) : std::nullopt;
  };
  const auto [loss, weight, counts, gradient] =
      composed_resize_cross_entropy(half.detach(), labels, defined(class_weight),
                                    defined(pixel_weight), 255, c.align_corners, true);
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  EXPECT_EQ(gradient.scalar_type(), at::kBFloat16);
  EXPECT_NEAR(loss.item<double>(), of_wide.loss.item<double>(), 1e-5 * loss.item<double>());
}

INSTANTIATE_TEST_SUITE_P(Shapes, ResizeCrossEntropy,
                         ::testing::Values(CrossEntropyCase{2, 19, 9, 13, 36, 52},
                                           CrossEntropyCase{1, 150, 10, 10, 40, 40},
                                           CrossEntropyCase{2, 2, 7, 5, 50, 41, true},
                                           CrossEntropyCase{1, 8, 16, 16, 16, 16},
                                           CrossEntropyCase{1, 11, 33, 29, 17, 12},
                                           CrossEntropyCase{2, 21, 5, 6, 33, 47, false, true},
                                           CrossEntropyCase{1, 5, 1, 1, 19, 3, false, false, true},
                                           CrossEntropyCase{1, 5, 1, 4, 1, 1, true},
                                           CrossEntropyCase{1, 9, 12, 20, 48, 80, true, true,
                                                            true}));

TEST(ResizeCrossEntropyKernel, DoesNotDependOnTheNumberOfThreads) {
  const auto labels =
      (reference::uniform("labels", 3 * 70 * 70) * 20).to(at::kLong).reshape({3, 70, 70});
  std::vector<at::Tensor> losses, gradients;
  const int before = at::get_num_threads();
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    auto logits = values("logits", {3, 20, 18, 18}, 9).requires_grad_();
    losses.push_back(resize_cross_entropy(logits, labels, {}, {}, 255, false).loss);
    losses.back().backward();
    gradients.push_back(logits.grad());
  }
  at::set_num_threads(before);
  for (size_t i = 1; i < losses.size(); ++i) {
    EXPECT_TRUE(torch::equal(losses[i], losses[0]));
    EXPECT_TRUE(torch::equal(gradients[i], gradients[0]));
  }
}

TEST(ResizeCrossEntropyKernel, SurvivesLargeLogitsAndIgnoredImages) {
  auto logits = values("logits", {1, 6, 4, 4}, 2000).requires_grad_();
  const auto labels = at::zeros({1, 16, 16}, at::kLong);
  const auto found = resize_cross_entropy(logits, labels, {}, {}, 255, false);
  found.loss.backward();
  EXPECT_TRUE(std::isfinite(found.loss.item<double>()));
  EXPECT_TRUE(logits.grad().isfinite().all().item<bool>());
  auto unseen = values("logits", {1, 6, 4, 4}, 2).requires_grad_();
  const auto none =
      resize_cross_entropy(unseen, at::full({1, 16, 16}, 255, at::kLong), {}, {}, 255, false);
  none.loss.backward();
  EXPECT_EQ(none.loss.item<double>(), 0);
  EXPECT_EQ(none.counts.sum().item<int64_t>(), 0);
  EXPECT_EQ(unseen.grad().abs().sum().item<double>(), 0);
}

/// A class that cannot be has a logit of minus infinity; of logits at full size it is that of its
/// own pixel alone.
TEST(ResizeCrossEntropyKernel, OfFullSizeKeepsInfiniteLogitsToTheirPixels) {
  for (const int64_t classes : {2, 6}) {
    auto x = values("logits", {1, classes, 4, 5}, 2).to(at::kFloat);
    x[0][1][2] = -std::numeric_limits<float>::infinity();
    const auto labels = at::zeros({1, 4, 5}, at::kLong);
    auto found_x = x.clone().requires_grad_(), expected_x = x.clone().requires_grad_();
    const auto found = resize_cross_entropy(found_x, labels, {}, {}, 255, false).loss;
    const auto expected = at::cross_entropy_loss(expected_x, labels, {}, at::Reduction::Sum);
    found.backward();
    expected.backward();
    EXPECT_TRUE(at::allclose(found, expected)) << classes << " classes";
    EXPECT_TRUE(at::allclose(found_x.grad(), expected_x.grad(), 1e-5, 1e-6)) << classes;
  }
}

TEST(ResizeCrossEntropyKernel, SaysWhatDoesNotFit) {
  const auto x = at::ones({2, 6, 4, 4}).requires_grad_();
  const auto labels = at::zeros({2, 8, 8}, at::kLong);
  const auto message = [&](const at::Tensor& class_weight, const at::Tensor& pixel_weight) {
    try {
      resize_cross_entropy(x, labels, class_weight, pixel_weight, 255, false);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message(at::ones({6}), at::ones({2, 8, 8})), "no error");
  EXPECT_THAT(message(at::ones({5}), {}), ::testing::HasSubstr("weights [5] do not fit 6 classes"));
  EXPECT_THAT(message({}, at::ones({2, 8, 7})),
              ::testing::HasSubstr("weights [2, 8, 7] do not fit labels [2, 8, 8]"));
  const auto loss = resize_cross_entropy(x, labels, {}, {}, 255, false).loss;
  EXPECT_THROW(torch::autograd::grad({loss}, {x}, {}, true, /*create_graph=*/true), Error)
      << "there is no second derivative";
}

TEST(ResizeCrossEntropyKernel, CountsTheFirstOfEqualClassesAsTheBest) {
  const auto logits = at::ones({1, 4, 2, 2});
  const auto counts = [&](int64_t label) {
    return resize_cross_entropy(logits, at::full({1, 8, 8}, label, at::kLong), {}, {}, 255, false)
        .counts[0]
        .item<int64_t>();
  };
  EXPECT_EQ(counts(0), 64);
  EXPECT_EQ(counts(1), 0);
  EXPECT_EQ(counts(3), 0);
}

TEST(ResizeCrossEntropyKernel, IsAnOperatorOfTheDispatcher) {
  const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("segcore::resize_cross_entropy", "");
  EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::CPU));
  EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::Autograd));
  EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd));
}

}  // namespace
}  // namespace seg
