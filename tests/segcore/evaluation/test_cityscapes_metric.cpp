// CityscapesMetric against cityscapesScripts (tests/data/augmentation/augmentation.json).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "segcore/evaluation/metric.hpp"
#include "segcore/evaluation/prediction_writer.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using nlohmann::json;
using test::TempDir;
using ::testing::HasSubstr;

const DatasetMeta& cityscapes_meta() {
  static const auto data =
      Spec<Dataset>::of("{type: CityscapesDataset, data_root: /nowhere, lazy_init: true}").build();
  return data->meta();
}

at::Tensor cityscapes_map(const json& rows) {
  std::vector<int64_t> values;
  for (const json& row : rows) {
    for (const json& value : row) values.push_back(value);
  }
  const auto height = static_cast<int64_t>(rows.size());
  return torch::tensor(values).view({height, -1});
}

std::unique_ptr<Metric> cityscapes_metric(const std::string& more = "") {
  return Spec<Metric>::of("{type: CityscapesMetric, output_dir: out" + more + "}")
      .build(cityscapes_meta());
}

TEST(CityscapesMetric, NumbersOfCityscapesScripts) {
  const TempDir dir;
  const json numbers = json::parse(
      std::ifstream(source_path("tests/data/augmentation/augmentation.json")))["cityscapes"];
  const auto metric = cityscapes_metric();
  int number = 0;
  for (const json& image : numbers["images"]) {
    const std::string base = std::to_string(number++) + "_gtFine_";
    const at::Tensor instances = cityscapes_map(image["instances"]).to(torch::kInt).contiguous();
    cv::Mat file(static_cast<int>(instances.size(0)), static_cast<int>(instances.size(1)), CV_32S,
                 instances.mutable_data_ptr());
    file.convertTo(file, CV_16U);
    write_png(dir / (base + "instanceIds.png"), file);
    PackedSample sample;
    sample.meta.seg_map_path = dir / (base + "labelTrainIds.png");
    sample.labels = cityscapes_map(image["labels"]);
    metric->process({cityscapes_map(image["prediction"]), {}}, sample);
  }
  SingleProcess alone;
  const MetricResult result = metric->compute(alone);
  ASSERT_EQ(result.scalars.size(), 2u);
  EXPECT_EQ(result.scalars[0].first, "averageScoreCategories");
  EXPECT_NEAR(result.scalars[0].second, numbers["averageScoreCategories"], 1e-12);
  EXPECT_EQ(result.scalars[1].first, "averageScoreInstCategories");
  EXPECT_NEAR(result.scalars[1].second, numbers["averageScoreInstCategories"], 1e-12);
  size_t compared = 0;
  for (const auto& [name, value] : result.per_class) {
    if (!name.starts_with("IoU.")) continue;
    EXPECT_NEAR(value, numbers["categoryScores"][name.substr(4)], 1e-12) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 7u);
}

TEST(CityscapesMetric, FilesHoldLabelIds) {
  const TempDir dir;
  std::vector<std::unique_ptr<Metric>> metrics;
  metrics.push_back(cityscapes_metric());
  EXPECT_TRUE(prediction_writers(metrics).empty());
  metrics[0] = Spec<Metric>::of("{type: CityscapesMetric, keep_results: true, output_dir: " +
                                dir.path().string() + "}")
                   .build(cityscapes_meta());
  const auto writers = prediction_writers(metrics);
  ASSERT_EQ(writers.size(), 1u);
  const Prediction prediction{.ids = torch::tensor({{0, 18}, {11, 2}}), .scores = {}, .depth = {}};
  writers[0].write(prediction, "a/b", {}, cityscapes_meta().palette);
  const cv::Mat read = read_labels(dir / "a/b.png");
  EXPECT_EQ(read.at<uint8_t>(0, 0), 7);
  EXPECT_EQ(read.at<uint8_t>(0, 1), 33);
  EXPECT_EQ(read.at<uint8_t>(1, 0), 24);
  EXPECT_EQ(read.at<uint8_t>(1, 1), 11);
}

TEST(CityscapesMetric, WrongData) {
  const auto error_of = [](const PackedSample& sample) {
    try {
      cityscapes_metric()->process({torch::zeros({2, 3}, torch::kLong), {}}, sample);
    } catch (const DataError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  PackedSample sample;
  sample.meta.img_path = "a.png";
  EXPECT_EQ(error_of(sample),
            "a.png: CityscapesMetric needs labels of the size of the prediction. Give the data set "
            "annotations, and resize none in the test pipeline");
  sample.labels = torch::zeros({2, 3}, torch::kLong);
  sample.meta.seg_map_path = "a_labels.png";
  EXPECT_EQ(error_of(sample),
            "a_labels.png: CityscapesMetric expects annotations *_labelTrainIds.png, beside which "
            "*_instanceIds.png are");
  EXPECT_THAT(test::config_error([] {
                DatasetMeta meta;
                meta.classes = {"road", "cow"};
                Spec<Metric>::of("{type: CityscapesMetric, output_dir: out}").build(meta);
              }),
              HasSubstr("CityscapesMetric knows the classes of Cityscapes alone, and the data set "
                        "has 'cow': use IoUMetric"));
  EXPECT_THAT(test::config_error([] {
                Spec<Metric>::of("{type: CityscapesMetric, output_dir: out, format_only: true}");
              }),
              HasSubstr("format_only: needs keep_results: true, or nothing would be done"));
}

}  // namespace
}  // namespace seg
