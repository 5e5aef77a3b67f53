// Overlap along the outlines of classes, and the other names of measures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/evaluation/metric.hpp"
#include "segcore/torch.hpp"

namespace seg::boundary_iou_test {

using ::testing::Contains;
using ::testing::Pair;

MetricResult measured(const std::string& metric, const torch::Tensor& ids,
                      const torch::Tensor& labels) {
  DatasetMeta meta;
  meta.classes = {"ground", "house"};
  const auto built = Spec<Metric>::of(metric).build(meta);
  Prediction prediction;
  prediction.ids = ids;
  PackedSample sample;
  sample.labels = labels;
  built->process(prediction, sample);
  SingleProcess alone;
  return built->compute(alone);
}

TEST(BoundaryIoUMetric, CountsPixelsNearOutlines) {
  // A house of 6x6 in 12x12, found one column to the right; outlines are one pixel wide.
  auto labels = torch::zeros({12, 12}, torch::kLong), ids = labels.clone();
  labels.slice(0, 3, 9).slice(1, 3, 9).fill_(1);
  ids.slice(0, 3, 9).slice(1, 4, 10).fill_(1);
  const auto result = measured("{type: BoundaryIoUMetric, dilation_ratio: 0.0589}", ids, labels);
  // Outlines of 20 pixels each, which share five of the top row and five of the bottom one.
  EXPECT_THAT(result.per_class, Contains(Pair("BIoU.house", 33.33)));
  // Outside: the image's border of 44, and a ring of 28 around each house. The rings share seven
  // of the top row and seven of the bottom one.
  EXPECT_THAT(result.per_class, Contains(Pair("BIoU.ground", 67.44)));
  EXPECT_THAT(result.scalars, Contains(Pair("mBIoU", 50.39)));
}

TEST(BoundaryIoUMetric, IsWholeForThePerfectPredictionAndIgnoresWhatIsIgnored) {
  auto labels = torch::zeros({12, 12}, torch::kLong);
  labels.slice(1, 0, 5).fill_(1);
  labels.slice(0, 10, 12).fill_(255);
  auto ids = labels.clone();
  ids.slice(0, 10, 12).fill_(1);
  const auto result = measured("{type: BoundaryIoUMetric}", ids, labels);
  EXPECT_THAT(result.scalars, Contains(Pair("mBIoU", 100.0)));
}

TEST(IoUMetric, HasTheOtherNamesOfMeasures) {
  const auto labels = torch::tensor({0, 0, 0, 0, 1, 1, 1, 1}, torch::kLong).view({2, 4});
  const auto ids = torch::tensor({0, 0, 0, 1, 1, 1, 0, 0}, torch::kLong).view({2, 4});
  const auto result = measured("{type: IoUMetric, iou_metrics: [mF1, mF2, PA, MPA]}", ids, labels);
  EXPECT_THAT(result.scalars, Contains(Pair("PA", 62.5)));
  EXPECT_THAT(result.scalars, Contains(Pair("MPA", 62.5)));
  EXPECT_THAT(result.per_class, Contains(Pair("CPA.ground", 75.0)));
  EXPECT_THAT(result.per_class, Contains(Pair("CPA.house", 50.0)));
  // Precision 3/5 and recall 3/4; precision 2/3 and recall 2/4.
  EXPECT_THAT(result.per_class, Contains(Pair("F1.ground", 66.67)));
  EXPECT_THAT(result.per_class, Contains(Pair("F2.ground", 71.43)));
  EXPECT_THAT(result.per_class, Contains(Pair("F2.house", 52.63)));
  EXPECT_THAT(result.scalars, Contains(Pair("mF2", 62.03)));
}

}  // namespace seg::boundary_iou_test
