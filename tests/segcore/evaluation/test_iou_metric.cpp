#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "segcore/evaluation/metric.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

using Json = nlohmann::json;

DatasetMeta iou_meta(int64_t classes) {
  DatasetMeta meta;
  for (int64_t c = 0; c < classes; ++c) {
    meta.classes.push_back(text("class ", std::string(static_cast<size_t>(c), 'x'), c));
  }
  return meta;
}

PackedSample iou_sample(const at::Tensor& labels, const std::string& path = "data/a.jpg") {
  PackedSample sample;
  sample.labels = labels;
  sample.meta.img_path = path;
  return sample;
}

/// Labels and predictions of image i of a case, as the reference made them.
std::pair<at::Tensor, at::Tensor> iou_image(const Json& c, int i) {
  const int64_t classes = c["classes"], h = c["h"], w = c["w"], n = h * w;
  at::Tensor labels = (reference::uniform(text("labels", i), n) * (classes - 1)).to(at::kLong);
  labels.masked_fill_(reference::uniform(text("ignored", i), n) < 1.0 / 16,
                      c["ignore_index"].get<int64_t>());
  const at::Tensor wrong = reference::uniform(text("wrong", i), n) < 0.4;
  const at::Tensor guess = (reference::uniform(text("guess", i), n) * (classes - 1)).to(at::kLong);
  const at::Tensor prediction = torch::where(wrong, guess, labels.clamp_max(classes - 1));
  return {labels.reshape({h, w}), prediction.reshape({h, w})};
}

TEST(IoUMetric, ResultsAndTableAreThoseOfMmseg) {
  const Json cases = Json::parse(std::ifstream(source_path("tests/data/evaluation/iou.json")));
  ASSERT_FALSE(cases.empty());
  SingleProcess alone;
  for (const Json& entry : cases) {
    const Json& c = entry["case"];
    Json options = entry["options"];
    options["type"] = "IoUMetric";
    options["ignore_index"] = c["ignore_index"];
    SCOPED_TRACE(options.dump());
    auto metric = Spec<Metric>::of(options.dump()).build(iou_meta(c["classes"]));
    for (const bool bytes : {false, true}) {
      for (int i = 0; i < c["images"]; ++i) {
        auto [labels, prediction] = iou_image(c, i);
        metric->process({prediction}, iou_sample(bytes ? labels.to(at::kByte) : labels));
      }
      const MetricResult found = metric->compute(alone);
      ASSERT_EQ(found.scalars.size(), entry["results"].size());
      // The order of the log line; JSON objects have none.
      std::vector<std::string> order{"aAcc"};
      for (const std::string name : entry["options"]["iou_metrics"]) {
        if (name == "mFscore") {
          order.insert(order.end(), {"mFscore", "mPrecision", "mRecall"});
        } else {
          order.push_back(name);
          if (std::find(order.begin(), order.end(), "mAcc") == order.end()) order.push_back("mAcc");
        }
      }
      for (size_t k = 0; k < order.size(); ++k) {
        EXPECT_EQ(found.scalars[k].first, order[k]);
        // The reference was rounded in single precision.
        EXPECT_NEAR(found.scalars[k].second, entry["results"][order[k]].get<double>(), 0.0101);
      }
      EXPECT_EQ(found.table, entry["table"].get<std::string>());
    }
  }
}

/// A case small enough to count by hand: classes 0, 1, 2; 255 is ignored.
///   labels      0 0 0 1 1 1 2 255     prediction  0 0 1 1 1 0 2 2
MetricResult by_hand(const std::string& options) {
  auto metric = Spec<Metric>::of("{type: IoUMetric, " + options + "}").build(iou_meta(3));
  const at::Tensor labels = torch::tensor({0, 0, 0, 1, 1, 1, 2, 255}, at::kLong).reshape({2, 4});
  const at::Tensor found = torch::tensor({0, 0, 1, 1, 1, 0, 2, 2}, at::kLong).reshape({2, 4});
  metric->process({found}, iou_sample(labels));
  SingleProcess alone;
  return metric->compute(alone);
}

TEST(IoUMetric, CountsByHand) {
  const MetricResult r = by_hand("iou_metrics: [mIoU, mDice, mFscore, FWIoU, kappa]");
  const std::vector<std::pair<std::string, double>> want{
      {"aAcc", 71.43},     // 5 of 7
      {"mIoU", 66.67},     // 2/4, 2/4, 1
      {"mAcc", 77.78},     // 2/3, 2/3, 1
      {"mDice", 77.78},    // 4/6, 4/6, 1
      {"mFscore", 77.78},  // of precision and recall 2/3, 2/3, 1
      {"mPrecision", 77.78}, {"mRecall", 77.78}, {"FWIoU", 57.14},  // (3/2 + 3/2 + 1) / 7
      {"kappa", 53.33}};                                            // (5/7 - 19/49) / (1 - 19/49)
  EXPECT_EQ(r.scalars, want);
  ASSERT_EQ(r.per_class.size(), 18u);
  EXPECT_EQ(r.per_class[0], (std::pair<std::string, double>("IoU.class 0", 50.0)));
}

TEST(IoUMetric, PrefixGoesBeforeTheNames) {
  const MetricResult r = by_hand("prefix: day, iou_metrics: mIoU");
  EXPECT_EQ(r.scalars[1].first, "day/mIoU");
  EXPECT_EQ(r.per_class[0].first, "day/IoU.class 0");
}

TEST(IoUMetric, ResetsAfterComputing) {
  auto metric = Spec<Metric>::of("{type: IoUMetric}").build(iou_meta(2));
  SingleProcess alone;
  const at::Tensor zero = torch::zeros({2, 2}, at::kLong);
  metric->process({zero}, iou_sample(zero));
  EXPECT_EQ(metric->compute(alone).scalars[0].second, 100.0);
  metric->process({zero}, iou_sample(zero + 1));
  EXPECT_EQ(metric->compute(alone).scalars[0].second, 0.0);
  EXPECT_TRUE(std::isnan(metric->compute(alone).scalars[0].second));
}

/// Two processes that saw the same.
class Doubling final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 2; }
  void all_reduce_sum_(at::Tensor& tensor) override { tensor.mul_(2); }
  void broadcast_(at::Tensor&, int) override {}
  void barrier() override {}
};

TEST(IoUMetric, SumsCountsOverProcesses) {
  auto metric = Spec<Metric>::of("{type: IoUMetric}").build(iou_meta(2));
  const at::Tensor labels = torch::tensor({0, 0, 0, 1}, at::kLong).reshape({2, 2});
  metric->process({torch::zeros({2, 2}, at::kLong)}, iou_sample(labels));
  Doubling two;
  const MetricResult r = metric->compute(two);
  EXPECT_EQ(r.scalars[0].second, 75.0);
  EXPECT_EQ(r.scalars[1].second, 37.5);
}

TEST(IoUMetric, ReportsWherePredictionsGo) {
  EXPECT_FALSE(Spec<Metric>::of("{type: IoUMetric}").build(iou_meta(3))->output());
  const auto both = Spec<Metric>::of("{type: IoUMetric, output_dir: out}").build(iou_meta(3));
  ASSERT_TRUE(both->output());
  EXPECT_EQ(both->output()->folder, "out");
  EXPECT_FALSE(both->output()->only);
  const auto only =
      Spec<Metric>::of("{type: IoUMetric, format_only: true, output_dir: out}").build(iou_meta(3));
  EXPECT_TRUE(only->output()->only);
  // No labels are needed and nothing is computed.
  only->process({torch::zeros({2, 3}, at::kLong)}, iou_sample({}));
  SingleProcess alone;
  EXPECT_TRUE(only->compute(alone).scalars.empty());
}

TEST(IoUMetric, NeedsNoScores) {
  EXPECT_FALSE(Spec<Metric>::of("{type: IoUMetric}").build(iou_meta(3))->needs_scores());
}

template <class F>
std::string iou_data_error(F&& f) {
  try {
    f();
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

TEST(IoUMetric, NamesTheImageAtFault) {
  auto metric = Spec<Metric>::of("{type: IoUMetric}").build(iou_meta(2));
  const at::Tensor ids = torch::zeros({2, 3}, at::kLong);
  EXPECT_EQ(iou_data_error([&] { metric->process({ids}, iou_sample(ids.t())); }),
            "data/a.jpg: the prediction is 2 x 3, the labels are 3 x 2 (height x width); labels "
            "must not be resized in a test pipeline");
  EXPECT_EQ(iou_data_error([&] { metric->process({ids}, iou_sample({})); }),
            "data/a.jpg: has no labels to compare the prediction with. Give the data set "
            "data_prefix.seg_map_path and its pipeline LoadAnnotations, or set format_only of the "
            "metric");
}

TEST(IoUMetric, ReportsUnknownMetrics) {
  EXPECT_EQ(
      test::spec_error<Metric>("{type: IoUMetric, iou_metrics: [mIoU, mDise]}"),
      "<default>:1:32: error: iou_metrics: unknown metric 'mDise'. Did you mean 'mDice'? "
      "Known: mIoU, mDice, mFscore, mF1, mF2, FWIoU, kappa, PA, MPA\n1 error in the configuration");
}

}  // namespace
}  // namespace seg
