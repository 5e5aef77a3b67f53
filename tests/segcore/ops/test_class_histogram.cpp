#include "segcore/ops/class_histogram/class_histogram.hpp"

#include <ATen/core/dispatch/Dispatcher.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/error.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Classes 0 to 4; 5 and -1 are no class; 7 is ignored.
struct HistogramCase {
  at::Tensor labels =
      (reference::uniform("labels", 60 * 70) * 9).to(at::kLong).reshape({60, 70}) - 1;
  at::Tensor prediction =
      torch::where((reference::uniform("right", 60 * 70) < 0.5).reshape({60, 70}), labels,
                   (reference::uniform("guess", 60 * 70) * 7).to(at::kLong).reshape({60, 70}) - 1);
};

TEST(ClassHistogram, CountsEachClass) {
  const HistogramCase given;
  const auto counts = class_histogram(given.prediction, given.labels, 5, 7);
  ASSERT_EQ(counts.sizes(), (at::IntArrayRef{3, 6}));
  const auto counted = given.labels.ne(7);
  for (int64_t c = 0; c < 5; ++c) {
    EXPECT_EQ(counts[1][c].item<int64_t>(),
              given.prediction.eq(c).logical_and(counted).sum().item<int64_t>());
    EXPECT_EQ(counts[2][c].item<int64_t>(), given.labels.eq(c).sum().item<int64_t>());
    EXPECT_EQ(counts[0][c].item<int64_t>(),
              given.labels.eq(c).logical_and(given.prediction.eq(c)).sum().item<int64_t>());
  }
  // The last column holds what is no class.
  EXPECT_EQ(counts[1].sum().item<int64_t>(), counted.sum().item<int64_t>());
  EXPECT_EQ(counts[2].sum().item<int64_t>(), counted.sum().item<int64_t>());
}

TEST(ClassHistogram, TheKernelForCpusAgreesWithTheDefinition) {
  const HistogramCase given;
  EXPECT_TRUE(torch::equal(class_histogram(given.prediction, given.labels, 5, 7),
                           composed_class_histogram(given.prediction, given.labels, 5, 7)));
  const auto clean = given.labels.clamp_min(0);
  const auto expected = composed_class_histogram(given.prediction, clean, 5, 7);
  EXPECT_TRUE(torch::equal(class_histogram(given.prediction, clean, 5, 7), expected));
  EXPECT_TRUE(torch::equal(class_histogram(given.prediction, clean.to(at::kByte), 5, 7), expected));
  // Not contiguous.
  EXPECT_TRUE(torch::equal(class_histogram(given.prediction.t(), clean.t(), 5, 7), expected));
}

TEST(ClassHistogram, IsAnOperatorOfTheDispatcher) {
  const HistogramCase given;
  torch::jit::Stack stack{given.prediction, given.labels, int64_t{5}, int64_t{7}};
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("segcore::class_histogram", "");
  EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::CPU));
  EXPECT_TRUE(op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd));
  op.callBoxed(stack);
  EXPECT_TRUE(torch::equal(stack.at(0).toTensor(),
                           composed_class_histogram(given.prediction, given.labels, 5, 7)));
}

TEST(ClassHistogram, RefusesLabelsOfAnotherSize) {
  const auto ids = torch::zeros({2, 3}, at::kLong);
  try {
    class_histogram(ids, torch::zeros({3, 3}, at::kLong), 5, 7);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("labels [3, 3] for predictions [2, 3]"));
  }
}

}  // namespace
}  // namespace seg
