#include "segcore/evaluation/prediction_writer.hpp"

#include <gtest/gtest.h>

#include "segcore/image/image_io.hpp"
#include "segcore/torch.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

TEST(PredictionWriter, WritesClassIdsAsTheDataSetNumbersThem) {
  for (const bool reduced : {false, true}) {
    const test::TempDir folder;
    const PredictionWriter writer({.folder = folder.path().string(), .only = false, .values = {}});
    SampleMeta meta;
    meta.reduce_zero_label = reduced;
    const Prediction prediction{
        .ids = torch::tensor({{0, 1, 2}, {0, 1, 2}}, at::kLong), .scores = {}, .depth = {}};
    writer.write(prediction, "north/street", meta, default_palette(3));
    const cv::Mat written = read_labels(folder / "north/street.png");
    ASSERT_EQ(written.rows, 2);
    ASSERT_EQ(written.cols, 3);
    EXPECT_EQ(written.at<uint8_t>(1, 2), reduced ? 3 : 2);
  }
}

TEST(PredictionWriter, EachFolderOfTheMetricsHasOne) {
  std::vector<std::unique_ptr<Metric>> metrics;
  for (const char* metric :
       {"{type: IoUMetric}", "{type: IoUMetric, output_dir: a}",
        "{type: IoUMetric, output_dir: b, format_only: true}", "{type: IoUMetric, output_dir: a}",
        "{type: IoUMetric, format_only: true}"}) {
    metrics.push_back(Spec<Metric>::of(metric).build(DatasetMeta{}));
  }
  const auto writers = prediction_writers(metrics);
  ASSERT_EQ(writers.size(), 2u);
  EXPECT_EQ(writers[0].folder(), "a");
  EXPECT_EQ(writers[1].folder(), "b");
}

}  // namespace
}  // namespace seg
