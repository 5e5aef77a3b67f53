/// Steps that are recorded and replayed, against the same steps without a record.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runners/train/recorded_passes.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/follows_progress.hpp"
#include "segcore/models/nn/keeps_results.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

/// Stands for a GPU's: a record is the work itself. What its recording leaves behind in the model
/// is undone, since recorded kernels are not run.
class RepeatedWork final : public DeviceGraph {
 public:
  struct Count {
    int rehearsals = 0, records = 0, replays = 0;
    std::string refuses;  ///< the error of what cannot be recorded
  };
  RepeatedWork(const torch::nn::Module& model, Count& count) : count_(count) {
    for (const auto& parameter : model.parameters()) state_.push_back(parameter);
    for (const auto& buffer : model.buffers()) state_.push_back(buffer);
  }
  void rehearse(const std::function<void()>& work) override {
    ++count_.rehearsals;
    work();
  }
  void record(const std::function<void()>& work) override {
    ++count_.records;
    const torch::NoGradGuard no_grad;
    std::vector<torch::Tensor> values, gradients;
    for (const auto& tensor : state_) {
      values.push_back(tensor.clone());
      gradients.push_back(tensor.grad().defined() ? tensor.grad().clone() : torch::Tensor());
    }
    {
      const torch::AutoGradMode grad(true);
      work();
    }
    for (size_t i = 0; i < state_.size(); ++i) {
      state_[i].copy_(values[i]);
      if (gradients[i].defined()) state_[i].mutable_grad().copy_(gradients[i]);
    }
    if (!count_.refuses.empty()) TORCH_CHECK(false, count_.refuses, "\nand more");
    work_ = work;
  }
  void replay() override {
    ++count_.replays;
    work_();
  }

 private:
  Count& count_;
  std::vector<torch::Tensor> state_;
  std::function<void()> work_;
};

/// A small model, with batch norm, in training; and its optimizer.
struct Trained {
  explicit Trained(const std::string& wrapper, double drop = 0) {
    const Config config = detail::parse_default(tiny_run_yaml());
    Diagnostics problems;
    torch::manual_seed(0);
    model = Spec<Segmentor>::parse(config.find("model")->value, "model", problems)->build();
    model->init_weights();
    set_drop_probability(*model, drop);
    model->train();
    optimizer = Spec<OptimWrapper>::of(wrapper).build(*model);
    optimizer->set_progress(0, 100);
    optimizer->keep_gradients(true);
  }
  LossMap passes(const ModelInput& input) {
    LossMap losses = model->loss(input.images, Targets(input));
    optimizer->scale_loss(total_loss(losses)).backward();
    return losses;
  }
  /// \return the sum of the losses.
  double step(const ModelInput& input, RecordedPasses* recorded) {
    std::optional<LossMap> losses;
    if (recorded) losses = recorded->run(input, [this](const auto& x) { return passes(x); });
    if (!losses) losses = passes(input);
    optimizer->step();
    return total_loss(*losses).item<double>();
  }
  RecordedPasses record(RepeatedWork::Count& count) {
    return {*model, *optimizer, std::make_unique<RepeatedWork>(*model, count)};
  }

  std::shared_ptr<Segmentor> model;
  std::unique_ptr<OptimWrapper> optimizer;
};

ModelInput input_of(int seed, int64_t size = 32) {
  torch::manual_seed(seed);
  ModelInput out;
  out.images = torch::randn({2, 3, size, size});
  out.labels = torch::randint(0, 5, {2, size, size}, torch::kLong);
  out.label_values = {{0, 1, 2, 3, 4, 255}, {0, 1, 2, 3, 4}};
  out.metas.resize(2);
  return out;
}

constexpr const char* kSgd =
    "{type: OptimWrapper, optimizer: {type: SGD, lr: 0.05, momentum: 0.9}, "
    "clip_grad: {max_norm: 1.0}, accumulative_counts: 2}";

void expect_equal(const torch::nn::Module& a, const torch::nn::Module& b) {
  for (const auto& item : a.named_parameters()) {
    EXPECT_TRUE(item.value().equal(b.named_parameters()[item.key()])) << item.key();
  }
  for (const auto& item : a.named_buffers()) {
    EXPECT_TRUE(item.value().equal(b.named_buffers()[item.key()])) << item.key();
  }
}

TEST(RecordedPasses, LeadsToTheWeightsOfTheStepsThemselves) {
  Trained plain(kSgd), trained(kSgd);
  RepeatedWork::Count count;
  RecordedPasses recorded = trained.record(count);
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(trained.step(input_of(i), &recorded), plain.step(input_of(i), nullptr)) << i;
  }
  EXPECT_EQ(count.rehearsals, RecordedPasses::kRehearsals);
  EXPECT_EQ(count.records, 1);
  EXPECT_EQ(count.replays, 9 - RecordedPasses::kRehearsals);
  expect_equal(*trained.model, *plain.model);
}

TEST(RecordedPasses, LeavesInputsOfAnotherFormToTheCaller) {
  Trained trained(kSgd);
  RepeatedWork::Count count;
  RecordedPasses recorded = trained.record(count);
  for (int i = 0; i < 5; ++i) trained.step(input_of(i), &recorded);
  const auto unused = [](const ModelInput&) -> LossMap { throw Error("passes were run"); };
  EXPECT_FALSE(recorded.run(input_of(6, 48), unused));
  ModelInput padded = input_of(7);
  padded.metas[1].img_shape = {30, 32};
  EXPECT_FALSE(recorded.run(padded, unused));
  ModelInput strided = input_of(7);
  strided.images = strided.images.contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_FALSE(recorded.run(strided, unused));
  const int replays = count.replays;
  trained.step(input_of(8), &recorded);
  EXPECT_EQ(count.replays, replays + 1);
  EXPECT_EQ(count.records, 1);
}

TEST(RecordedPasses, LeavesLabelsThatALossRefusesToTheCaller) {
  Trained trained(kSgd);
  RepeatedWork::Count count;
  RecordedPasses recorded = trained.record(count);
  for (int i = 0; i < 5; ++i) trained.step(input_of(i), &recorded);
  const int replays = count.replays;
  ModelInput wrong = input_of(6);
  wrong.labels[1][3][4] = 7;
  wrong.label_values[1].push_back(7);
  EXPECT_THROW(trained.step(wrong, &recorded), Error);
  wrong.label_values.clear();  // not known
  EXPECT_THROW(trained.step(wrong, &recorded), Error);
  EXPECT_EQ(count.replays, replays);
}

struct Following : torch::nn::Module, FollowsProgress {
  void set_progress(int64_t, int64_t) override {}
};
struct Keeping : torch::nn::Module, KeepsResults {};

TEST(RecordedPasses, AreNotMadeOfModelsThatDecideAnewInEachStep) {
  const auto log_of = [](std::shared_ptr<torch::nn::Module> part) {
    Trained trained(kSgd);
    trained.model->register_module("part", std::move(part));
    RepeatedWork::Count count;
    testing::internal::CaptureStdout();
    RecordedPasses recorded = trained.record(count);
    for (int i = 0; i < 5; ++i) trained.step(input_of(i), &recorded);
    EXPECT_EQ(count.rehearsals, 0);
    return testing::internal::GetCapturedStdout();
  };
  EXPECT_THAT(log_of(std::make_shared<Following>()), HasSubstr("changes with the progress"));
  EXPECT_THAT(log_of(std::make_shared<Keeping>()), HasSubstr("keeps results from step to step"));
}

TEST(RecordedPasses, GiveUpWhereWeightsMoveAgainAndAgain) {
  Trained trained(kSgd);
  RepeatedWork::Count count;
  RecordedPasses recorded = trained.record(count);
  testing::internal::CaptureStdout();
  for (int i = 0; i < 30; ++i) {
    trained.step(input_of(i), &recorded);
    if (i % 5 != 4) continue;
    for (auto& parameter : trained.model->parameters())
      parameter.set_data(parameter.data().clone());
  }
  EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("moves again and again"));
  EXPECT_EQ(count.records, 4);
}

TEST(RecordedPasses, RecordsAnewWhereWeightsHaveMoved) {
  Trained plain(kSgd), trained(kSgd);
  RepeatedWork::Count count;
  RecordedPasses recorded = trained.record(count);
  for (int i = 0; i < 12; ++i) {
    if (i == 5) {
      for (auto& parameter : trained.model->parameters())
        parameter.set_data(parameter.data().clone());
    }
    EXPECT_EQ(trained.step(input_of(i), &recorded), plain.step(input_of(i), nullptr)) << i;
  }
  EXPECT_EQ(count.records, 2);
  EXPECT_EQ(count.replays, 12 - 2 * RecordedPasses::kRehearsals);
  expect_equal(*trained.model, *plain.model);
}

TEST(RecordedPasses, GoesOnWithoutARecordAndSaysWhy) {
  Trained plain(kSgd), trained(kSgd);
  RepeatedWork::Count count;
  count.refuses = "operation not permitted when stream is capturing";
  RecordedPasses recorded = trained.record(count);
  testing::internal::CaptureStdout();
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(trained.step(input_of(i), &recorded), plain.step(input_of(i), nullptr)) << i;
  }
  const std::string log = testing::internal::GetCapturedStdout();
  EXPECT_THAT(log, HasSubstr("cuda_graph: steps are not recorded: " + count.refuses + "\n"));
  EXPECT_EQ(count.records, 1);
  EXPECT_EQ(count.replays, 0);
  expect_equal(*trained.model, *plain.model);
}

TEST(RecordedPasses, IsNotMadeOfNumbersThatTheCpuDraws) {
  Trained trained(kSgd, /*drop=*/0.5);
  RepeatedWork::Count count;
  RecordedPasses recorded = trained.record(count);
  testing::internal::CaptureStdout();
  for (int i = 0; i < 5; ++i) trained.step(input_of(i), &recorded);
  EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("draws random numbers on the CPU"));
  EXPECT_EQ(count.replays, 0);
}

TEST(RecordedPasses, IsAskedForByAuto) {
  EXPECT_THAT(spec_error<OptimWrapper>("{type: OptimWrapper, optimizer: {type: SGD, lr: 0.1}, "
                                       "cuda_graph: always}"),
              HasSubstr("expected auto or false, got 'always'"));
  Trained trained("{type: OptimWrapper, optimizer: {type: SGD, lr: 0.1}, cuda_graph: auto}");
  EXPECT_TRUE(trained.optimizer->records_steps());
  EXPECT_FALSE(make_recorded_passes(*trained.model, *trained.optimizer, c10::kCPU, 1))
      << "a CPU has no graphs";
}

}  // namespace
}  // namespace seg::test
