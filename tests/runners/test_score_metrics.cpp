/// Metrics that ask for probabilities, through a whole evaluation.
#include <gtest/gtest.h>

#include <filesystem>

#include "runners/evaluate/test_run.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/torch.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

/// Squared distance of the probabilities from the truth, over classes, on the mean of all pixels.
double brier_sum(const at::Tensor& scores, const at::Tensor& labels) {
  const auto truth =
      at::one_hot(labels.to(at::kLong), scores.size(0)).permute({2, 0, 1}).to(at::kDouble);
  return (scores.to(at::kDouble) - truth).square().sum().item<double>();
}

struct BrierScoreParams {
  static Schema<BrierScoreParams> schema() {
    return Schema<BrierScoreParams>("How far probabilities are from the truth.");
  }
};

class BrierScore final : public Metric {
 public:
  using Params = BrierScoreParams;
  static Schema<Params> schema() { return Params::schema(); }
  BrierScore(const Params&, const DatasetMeta&) {}
  bool needs_scores() const override { return true; }
  void process(const Prediction& prediction, const PackedSample& sample) override {
    sum_ += brier_sum(prediction.scores.cpu(), sample.labels);
    pixels_ += sample.labels.numel();
  }
  MetricResult compute(Communicator&) override {
    MetricResult out;
    out.scalars.emplace_back("brier", pixels_ == 0 ? 0 : sum_ / static_cast<double>(pixels_));
    sum_ = 0;
    pixels_ = 0;
    return out;
  }

 private:
  double sum_ = 0;
  int64_t pixels_ = 0;
};
SEG_REGISTER(Metric, BrierScore);

double value_of(const Scalars& scalars, const std::string& name) {
  for (const auto& [key, value] : scalars) {
    if (key == name) return value;
  }
  ADD_FAILURE() << "no " << name;
  return -1;
}

class ScoreMetrics : public ::testing::Test {
 protected:
  ScoreMetrics() {
    const RunConfig config = load_run_config(config_path_);
    torch::manual_seed(5);
    model_ = config.model.build();
    model_->init_weights();
    model_->eval();
    Value checkpoint = Value::dict();
    checkpoint.set("state_dict", state_dict(*model_));
    write_checkpoint(checkpoint_, checkpoint);
  }
  Scalars test(const std::string& evaluator) {
    const RunConfig config =
        load_run_config(dir_.write("test.yaml", "_base_: tiny.yaml\ntest_evaluator: " + evaluator +
                                                    "\nwork_dir: " + (dir_ / "run") +
                                                    "\nrandomness: {deterministic: false}\n"));
    return run_test(config, checkpoint_);
  }

  TempDir dir_;
  const std::string config_path_ = dir_.write("tiny.yaml", tiny_run_yaml());
  const std::string checkpoint_ = dir_ / "weights.pth";
  std::shared_ptr<Segmentor> model_;
};

TEST_F(ScoreMetrics, GetTheProbabilitiesOfTheModel) {
  const Scalars found = test("[{type: IoUMetric, iou_metrics: [mIoU], output_dir: '" +
                             (dir_ / "ids") + "'}, {type: BrierScore}]");
  // By hand: one image at a time; they are as large as the input.
  const torch::NoGradGuard no_grad;
  const RunConfig config = load_run_config(config_path_);
  const auto dataset = config.test_dataloader->dataset.build();
  double sum = 0, pixels = 0;
  for (size_t i = 0; i < dataset->size(); ++i) {
    Batch one;
    one.samples = dataset->get(i, 0, 0);
    const ModelInput input = model_->data_preprocessor()(one, /*training=*/false, at::kCPU);
    const auto logits = model_->encode_decode(input.images)[0];
    const at::Tensor& labels = one.samples[0].labels;
    sum += brier_sum(logits.softmax(0), labels);
    pixels += static_cast<double>(labels.numel());
    // The metric that wants class ids has those of the same logits.
    const std::string stem = std::filesystem::path(one.samples[0].meta.img_path).stem().string();
    const cv::Mat ids = read_labels(dir_ / ("ids/" + stem + ".png"));
    ASSERT_EQ(ids.rows, logits.size(1));
    EXPECT_EQ(ids.at<uint8_t>(7, 11), logits.argmax(0)[7][11].item<int64_t>());
  }
  EXPECT_NEAR(value_of(found, "brier"), sum / pixels, 1e-5);
  EXPECT_GT(value_of(found, "brier"), 0.1);
  // Asking for scores changes no other metric.
  const Scalars alone = test("{type: IoUMetric, iou_metrics: [mIoU]}");
  EXPECT_EQ(value_of(found, "mIoU"), value_of(alone, "mIoU"));
}

TEST_F(ScoreMetrics, ScoresOfAugmentationsAreAveraged) {
  const torch::NoGradGuard no_grad;
  ModelInput plain;
  plain.images = torch::randn({2, 3, 32, 32});
  plain.metas.resize(2);
  ModelInput flipped = plain;
  flipped.images = plain.images.flip({3});
  for (SampleMeta& meta : flipped.metas) {
    meta.flip = true;
    meta.flip_direction = "horizontal";
  }
  const auto scores = [&](const ModelInput& input) {
    return model_->encode_decode(input.images).softmax(1);
  };
  const auto expected = (scores(plain) + scores(flipped).flip({3})) / 2;
  const auto found = model_->predict_scores({plain, flipped});
  const auto ids = model_->predict_tta({plain, flipped});
  const auto single = model_->predict_scores({plain});
  ASSERT_EQ(found.size(), 2u);
  for (int64_t i = 0; i < 2; ++i) {
    const auto& one = found[static_cast<size_t>(i)];
    EXPECT_TRUE(torch::allclose(one.scores, expected[i], 1e-4, 1e-5));
    EXPECT_TRUE(torch::equal(one.ids, ids[static_cast<size_t>(i)].ids));
    EXPECT_TRUE(
        torch::allclose(single[static_cast<size_t>(i)].scores, scores(plain)[i], 1e-4, 1e-5));
  }
}

}  // namespace
}  // namespace seg::test
