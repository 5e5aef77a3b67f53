// DepthMetric against MMSegmentation 1.2.2 (tests/data/augmentation/augmentation.json).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "segcore/evaluation/metric.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::unique_ptr<Metric> depth_metric(const std::string& options) {
  return Spec<Metric>::of("{type: DepthMetric" + options + "}").build(DatasetMeta());
}

at::Tensor depth_map(const json& values) {
  return torch::tensor(values.get<std::vector<double>>(), torch::kFloat).view({6, 8});
}

TEST(DepthMetric, NumbersOfMmsegmentation) {
  const json images =
      json::parse(std::ifstream(source_path("tests/data/augmentation/augmentation.json")))["depth"];
  const auto metric = depth_metric(", min_depth_eval: 0.001, max_depth_eval: 10.0");
  for (const json& image : images) {
    PackedSample sample;
    sample.depth = depth_map(image["truth"]);
    metric->process({.depth = depth_map(image["depth"])}, sample);
  }
  SingleProcess alone;
  const auto scalars = metric->compute(alone).scalars;
  ASSERT_EQ(scalars.size(), 9u);
  for (const auto& [name, value] : scalars) {
    const double expected =
        (images[0]["errors"][name].get<double>() + images[1]["errors"][name].get<double>()) / 2;
    EXPECT_NEAR(value, expected, 2e-6 * std::max(1.0, expected)) << name;
  }
}

TEST(DepthMetric, CropAndChoice) {
  const auto metric = depth_metric(", depth_metrics: [rmse], crop_type: nyu_crop, prefix: val");
  PackedSample sample;
  sample.depth = torch::ones({480, 640});
  at::Tensor depth = torch::full({480, 640}, 3.0);
  depth.slice(0, 45, 471).slice(1, 41, 601).fill_(1.5);
  metric->process({.depth = depth}, sample);
  SingleProcess alone;
  EXPECT_THAT(metric->compute(alone).scalars, ElementsAre(Pair("val/rmse", 0.5)));
}

TEST(DepthMetric, WrongData) {
  const auto error_of = [](const PackedSample& sample, const Prediction& prediction) {
    try {
      depth_metric("")->process(prediction, sample);
    } catch (const DataError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  PackedSample sample;
  sample.meta.img_path = "a.png";
  EXPECT_EQ(error_of(sample, {}),
            "a.png: has no depth to compare the prediction with. Use NYUDataset with "
            "data_prefix.depth_map_path, and LoadDepthAnnotation in its pipeline");
  sample.depth = torch::ones({2, 3});
  EXPECT_EQ(error_of(sample, {}),
            "a.png: the model estimates no depth, which DepthMetric measures");
  EXPECT_EQ(error_of(sample, {.depth = torch::ones({3, 3})}),
            "a.png: the estimated depth is 3 x 3, the true one 2 x 3 (height x width); depth must "
            "not be resized in a test pipeline");
  EXPECT_THAT(test::config_error([] { depth_metric(", depth_metrics: [d4]"); }),
              HasSubstr("unknown value 'd4'"));
}

}  // namespace
}  // namespace seg
