/// Whole lines of the log, against those of MMEngine 0.10.7.
#include "runners/log/log_processor.hpp"

#include <gtest/gtest.h>

#include "runners/hooks/hook.hpp"
#include "runners/log/records.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Two parameter groups, so that there is a base_lr.
struct TwoGroupToy : torch::nn::Module {
  TwoGroupToy() {
    register_parameter("weight", torch::zeros({2}));
    register_parameter("bias", torch::zeros({2}));
  }
};

/// The logged part of a run.
class LoggedRun {
 public:
  explicit LoggedRun(bool by_epoch) : lines_(LogProcessorParams{.by_epoch = by_epoch}) {
    progress.by_epoch = by_epoch;
    hook_->attach({.records = &records, .optimizer = optimizer_.get()});
  }
  void set_rates(double base_lr, double lr) {
    for (ParamGroup* group : optimizer_->scheduled_groups()) group->hyper->lr = lr;
    optimizer_->scheduled_groups().back()->hyper->lr = base_lr;
  }
  /// One training step: values in the order in which hooks record them.
  void step(double data_time, std::optional<double> grad_norm,
            const std::vector<std::pair<std::string, double>>& losses, double time) {
    hook_->before_train_iter(run_, progress);
    records.train.record("data_time", data_time);
    ++progress.iter;
    StepResult result;
    result.grad_norm = grad_norm ? torch::tensor(*grad_norm) : at::Tensor();
    for (const auto& [name, value] : losses) {
      result.losses.emplace_back(name, torch::tensor(value, torch::kDouble));
    }
    hook_->after_train_iter(run_, progress, result, control_);
    records.train.record("time", time);
  }
  /// One step of a validation or a test.
  void eval_step(double data_time, double time) {
    records.eval.record("data_time", data_time);
    records.eval.record("time", time);
  }
  LogRow train_row() { return lines_.train_row(records, progress, c10::kCPU); }
  std::string eval_line(const EvalInfo& eval) {
    return lines_.eval_row(records, progress, eval, {.batch_index = 0}, c10::kCPU).line;
  }
  std::string result_line(const EvalInfo& eval) {
    return lines_.result_row(records, progress, eval).line;
  }

  Records records{.train = ScalarHistory(), .eval = ScalarHistory(/*length=*/0)};
  Progress progress;

 private:
  struct NoControl final : RunControl {
    void stop() override {}
    void request_validation() override {}
    void save_checkpoint(const std::string&, const SaveParts&, std::function<void()>) override {}
    int64_t last_saved_iter() const override { return -1; }
  };
  RunInfo run_;
  NoControl control_;
  LogProcessor lines_;
  TwoGroupToy model_;
  std::unique_ptr<OptimWrapper> optimizer_ =
      Spec<OptimWrapper>::of(
          "{type: OptimWrapper, optimizer: {type: SGD, lr: 1.0, weight_decay: 0.1}, "
          "paramwise_cfg: {custom_keys: {bias: {lr_mult: 2.0}}}}")
          .build(model_);
  std::unique_ptr<Hook> hook_ = Spec<Hook>::of("{type: RuntimeInfoHook}").build();
};

const EvalInfo kValidation{.of_training = true, .num_batches = 101};
const EvalInfo kTest{.of_training = false, .num_batches = 101};

TEST(LogLine, OfTrainingByIterations) {
  // The run of MMSegmentation, from the numbers of its scalars.json. Those of its second row are
  // means over both steps.
  LoggedRun run(/*by_epoch=*/false);
  run.progress.max_iters = 4;
  run.set_rates(5.999999999999999e-10, 5.999999999999999e-10);
  const auto losses = [](double loss, double accuracy) {
    return std::vector<std::pair<std::string, double>>{
        {"loss", loss}, {"decode.loss_ce", loss}, {"decode.acc_seg", accuracy}};
  };
  run.step(0.010308265686035156, {}, losses(2.280467987060547, 1.881695032119751),
           0.99753737449646);
  run.records.eta_s = 3 * 0.99753737449646;
  EXPECT_EQ(run.train_row().line,
            "Iter(train) [1/4]  base_lr: 6.0000e-10 lr: 6.0000e-10  eta: 0:00:02  time: 0.9975  "
            "data_time: 0.0103  loss: 2.2805  decode.loss_ce: 2.2805  decode.acc_seg: 1.8817");

  run.set_rates(3.157951578947368e-05, 3.157951578947368e-05);
  run.step(2 * 0.006532788276672363 - 0.010308265686035156, {},
           losses(2 * 2.2588109970092773 - 2.280467987060547, 2.880048990249634),
           2 * 0.8331897258758545 - 0.99753737449646);
  run.records.eta_s = 2 * 0.8331897258758545;
  const LogRow row = run.train_row();
  EXPECT_EQ(row.line,
            "Iter(train) [2/4]  base_lr: 3.1580e-05 lr: 3.1580e-05  eta: 0:00:01  time: 0.8332  "
            "data_time: 0.0065  loss: 2.2588  decode.loss_ce: 2.2588  decode.acc_seg: 2.8800");
  std::vector<std::string> keys;
  for (const auto& [name, value] : row.scalars) keys.push_back(name);
  EXPECT_EQ(keys, (std::vector<std::string>{"base_lr", "lr", "data_time", "loss", "decode.loss_ce",
                                            "decode.acc_seg", "time", "iter"}));
}

/// Twelve steps of which the log sees the last ten.
void train_twelve_steps(LoggedRun& run) {
  for (int k = 1; k <= 12; ++k) {
    run.set_rates(0.01 * k, 0.001 * k);
    run.step(0.01 * k, 1.5 * k,
             {{"loss", 2.25 * k},
              {"decode.loss_ce", 1.75 * k},
              {"decode.acc_seg", 40.0 + k},
              {"aux.loss_ce", 0.5 * k}},
             0.5 * k);
  }
}

TEST(LogLine, OfTrainingByEpochs) {
  LoggedRun run(/*by_epoch=*/true);
  train_twelve_steps(run);
  run.progress.max_epochs = 100;
  run.progress.epoch_length = 270;
  run.progress.epoch = 8;
  run.progress.iter = 8 * 270 + 12;
  run.records.eta_s = 93784.9;
  const std::string values =
      "base_lr: 1.2000e-01 lr: 1.2000e-02  eta: 1 day, 2:03:04  time: 3.7500  data_time: 0.0750  "
      "grad_norm: 11.2500  loss: 16.8750  decode.loss_ce: 13.1250  decode.acc_seg: 52.0000  "
      "aux.loss_ce: 3.7500";
  EXPECT_EQ(run.train_row().line, "Epoch(train)   [9][ 12/270]  " + values);
  run.progress.iter = 100 * 270;
  run.progress.epoch = 100;
  EXPECT_EQ(run.train_row().line, "Epoch(train) [100][270/270]  " + values);
}

TEST(LogLine, OfALongRun) {
  LoggedRun run(/*by_epoch=*/false);
  train_twelve_steps(run);
  run.progress.max_iters = 160000;
  run.records.eta_s = 2 * 86400 + 59.0;
  EXPECT_EQ(run.train_row().line,
            "Iter(train) [    12/160000]  base_lr: 1.2000e-01 lr: 1.2000e-02  eta: 2 days, 0:00:59 "
            " time: 3.7500  data_time: 0.0750  grad_norm: 11.2500  loss: 16.8750  decode.loss_ce: "
            "13.1250  decode.acc_seg: 52.0000  aux.loss_ce: 3.7500");
}

TEST(LogLine, OfStepsOfAValidation) {
  LoggedRun run(/*by_epoch=*/false);
  run.records.eta_s = 56.06;
  run.eval_step(0.1056, 0.5606);
  EXPECT_EQ(run.eval_line(kValidation),
            "Iter(val) [  1/101]    eta: 0:00:56  time: 0.5606  data_time: 0.1056  ");

  LoggedRun epochs(/*by_epoch=*/true);
  epochs.progress.max_epochs = 100;
  epochs.progress.epoch = 9;
  epochs.records.eta_s = 56.06;
  epochs.eval_step(0.1056, 0.5606);
  EXPECT_EQ(epochs.eval_line(kValidation),
            "Epoch(val)   [9][  1/101]    eta: 0:00:56  time: 0.5606  data_time: 0.1056  ");
  EXPECT_EQ(epochs.eval_line(kTest),
            "Epoch(test) [  1/101]    eta: 0:00:56  time: 0.5606  data_time: 0.1056  ");
}

TEST(LogLine, OfAWholeValidation) {
  const auto line = [](bool by_epoch, const EvalInfo& eval) {
    LoggedRun run(by_epoch);
    run.progress.epoch = 9;
    run.eval_step(0.0041, 0.1295);
    run.eval_step(0.0119, 0.4415);  // times are means over all steps
    for (const auto& [name, value] :
         {std::pair{"aAcc", 15.3100004196167}, std::pair{"mIoU", 2.309999942779541},
          std::pair{"mAcc", 6.789999961853027}, std::pair{"IoU.sky", 0.3}}) {
      run.records.eval.record(name, value);
    }
    return run.result_line(eval);
  };
  const std::string values =
      "    aAcc: 15.3100  mIoU: 2.3100  mAcc: 6.7900  data_time: 0.0080  time: 0.2855";
  EXPECT_EQ(line(false, kValidation), "Iter(val) [101/101]" + values);
  EXPECT_EQ(line(true, kValidation), "Epoch(val) [9][101/101]" + values);
  EXPECT_EQ(line(false, kTest), "Iter(test) [101/101]" + values);
  EXPECT_EQ(line(true, kTest), "Epoch(test) [101/101]" + values);
}

}  // namespace
}  // namespace seg
