#include "segcore/models/known_labels.hpp"

#include <gtest/gtest.h>

#include "segcore/data/label_values.hpp"
#include "segcore/models/data_preprocessor.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

constexpr int64_t kIgnored = 255;

TEST(KnownLabels, ListsTheValuesOfAnnotations) {
  const auto labels = torch::tensor({{3, 3, -1, 300}, {0, 255, 300, -1}}, torch::kLong);
  EXPECT_EQ(label_values(labels), (std::vector<int64_t>{-1, 0, 3, 255, 300}));
  EXPECT_EQ(label_values(labels.t().narrow(0, 0, 2).to(torch::kByte)),
            (std::vector<int64_t>{0, 3, 255}));
  EXPECT_TRUE(label_values(torch::zeros({0, 4}, torch::kByte)).empty());
}

TEST(KnownLabels, FitWhereEachIsAClassOrIgnored) {
  EXPECT_FALSE(KnownLabels::all_fit({4, kIgnored, false})) << "nothing is known";
  const std::vector<std::vector<int64_t>> none, values{{0, 3, 255}, {2, -1}};
  {
    const KnownLabels known(values);
    EXPECT_FALSE(KnownLabels::all_fit({4, kIgnored, false}));
    EXPECT_TRUE(KnownLabels::all_fit({4, kIgnored, /*below_zero_ignored=*/true}));
    EXPECT_FALSE(KnownLabels::all_fit({3, kIgnored, true}));
    EXPECT_FALSE(KnownLabels::all_fit({4, /*ignore_index=*/254, true}));
    const KnownLabels inner(none);
    EXPECT_FALSE(KnownLabels::all_fit({4, kIgnored, true}));
  }
  EXPECT_FALSE(KnownLabels::all_fit({4, kIgnored, true}));
}

/// Tensors without values, of which nothing can be read back.
TEST(KnownLabels, AreNotReadBackFromADevice) {
  const auto labels = torch::zeros({1, 4, 4}, torch::dtype(torch::kLong).device(torch::kMeta));
  EXPECT_ANY_THROW(check_labels(labels, 4, kIgnored));
  const std::vector<std::vector<int64_t>> values{{0, 1, 255}};
  const KnownLabels known(values);
  EXPECT_NO_THROW(check_labels(labels, 4, kIgnored));
  EXPECT_ANY_THROW(check_labels(labels, 1, kIgnored)) << "reads which pixel is wrong";
}

TEST(KnownLabels, ComeWithABatchAndItsPadding) {
  const auto preprocessor =
      Spec<DataPreProcessor>::of("{type: SegDataPreProcessor, size: [4, 4], seg_pad_val: 200}")
          .build();
  const auto sample = [](int64_t width, std::vector<int64_t> values) {
    PackedSample out;
    out.image = torch::zeros({3, 4, width}, torch::kByte);
    out.labels = torch::ones({4, width}, torch::kByte);
    out.label_values = std::move(values);
    return out;
  };
  const auto of = [&](const Batch& batch) {
    return (*preprocessor)(batch, /*training=*/true, at::kCPU).label_values;
  };
  EXPECT_EQ(of({{sample(4, {1}), sample(3, {1})}}),
            (std::vector<std::vector<int64_t>>{{1}, {1, 200}}));
  EXPECT_TRUE(of({{sample(4, {1}), sample(3, {})}}).empty()) << "not known of all";
}

}  // namespace
}  // namespace seg
