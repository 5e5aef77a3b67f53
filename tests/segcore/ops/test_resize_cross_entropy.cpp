#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/text.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"

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
