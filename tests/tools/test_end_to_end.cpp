/// The programs as people run them: train, stop, resume, test; and killed at any moment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <random>
#include <regex>
#include <set>
#include <thread>

#include "segcore/image/image_io.hpp"
#include "segcore/io/checkpoint.hpp"
#include "tests/support/background_tool.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string end_to_end_tool(const std::string& name) { return program_path(name); }

/// The rows of scalars.json of a work dir with one launch: those that have `key`.
std::vector<nlohmann::json> logged_rows(const fs::path& work_dir, const std::string& key) {
  std::vector<nlohmann::json> out;
  for (const auto& entry : fs::recursive_directory_iterator(work_dir)) {
    if (entry.path().filename() != "scalars.json") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      auto row = nlohmann::json::parse(line);
      if (row.contains(key)) out.push_back(std::move(row));
    }
  }
  return out;
}

/// The values of `key` in those rows.
std::vector<double> logged_values(const fs::path& work_dir, const std::string& key) {
  std::vector<double> out;
  for (const auto& row : logged_rows(work_dir, key)) out.push_back(row[key]);
  return out;
}

class EndToEnd : public ::testing::Test {
 protected:
  EndToEnd() {
    setenv("OMP_NUM_THREADS", "1", 1);
    config_ = dir_.write("tiny.yaml", tiny_run_yaml());
  }
  CommandResult train(const std::string& work_dir, const std::string& more = "") const {
    return run_command(end_to_end_tool("train") + " " + config_ + " --work-dir " + dir_ / work_dir +
                       " " + more);
  }
  /// The words of the same command.
  std::vector<std::string> train_words(const std::string& work_dir,
                                       const std::vector<std::string>& more) const {
    std::vector<std::string> words{end_to_end_tool("train"), config_, "--work-dir",
                                   dir_ / work_dir};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Value checkpoint(const std::string& path) const { return read_checkpoint(dir_ / path); }
  /// The files of checkpoints in a folder but for the best ones.
  std::set<std::string> checkpoints(const std::string& folder) const {
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(dir_ / folder)) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() == ".pth" && !name.starts_with("best_")) out.insert(name);
    }
    return out;
  }
  static void expect_same_run(const Value& a, const Value& b) {
    for (const char* key : {"state_dict", "optimizer", "param_schedulers", "ema_state_dict"}) {
      EXPECT_EQ(first_difference(a.at(key), b.at(key), key), "");
    }
    EXPECT_EQ(first_difference(a.at("segcore").at("generators"), b.at("segcore").at("generators")),
              "");
  }

  TempDir dir_;
  std::string config_;
};

TEST_F(EndToEnd, TrainsTestsAndWritesTheUsualFiles) {
  const CommandResult trained = train("w");
  ASSERT_EQ(trained.status, 0) << trained.output;
  EXPECT_THAT(trained.output, HasSubstr("Iter(train) [ 1/12]"));
  EXPECT_THAT(trained.output, HasSubstr("Saving checkpoint at 4 iterations"));
  EXPECT_THAT(trained.output, HasSubstr("The best checkpoint with"));
  for (const char* file : {"w/tiny.yaml", "w/last_checkpoint", "w/iter_4.pth", "w/iter_12.pth"}) {
    EXPECT_TRUE(fs::exists(dir_ / file)) << file;
  }
  EXPECT_EQ(dir_.read("w/last_checkpoint"), dir_ / "w/iter_12.pth");
  int best = 0, launches = 0;
  for (const auto& entry : fs::directory_iterator(dir_ / "w")) {
    const std::string name = entry.path().filename().string();
    best += name.starts_with("best_mIoU_iter_") ? 1 : 0;
    if (!entry.is_directory()) continue;
    ++launches;
    for (const auto& file : {name + ".log", std::string("vis_data/scalars.json"),
                             "vis_data/" + name + ".json", std::string("vis_data/config.yaml")}) {
      EXPECT_TRUE(fs::exists(entry.path() / file)) << file;
    }
  }
  EXPECT_EQ(best, 1);
  EXPECT_EQ(launches, 1);
  // A whole line of the file; the times are those of this run.
  std::string record;
  for (const auto& entry : fs::directory_iterator(dir_ / "w")) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory()) record = dir_.read("w/" + name + "/" + name + ".log");
  }
  const auto first = logged_rows(dir_ / "w", "loss").front();
  const auto shown = [&](const char* key) {
    char buffer[32];
    std::snprintf(buffer, sizeof(buffer), "%.4f", first[key].get<double>());
    return std::string(key) + ": " + buffer;
  };
  const std::string begin = " - segcore - INFO - Iter(train) [ 1/12]  ";
  const size_t place = record.find(begin);
  ASSERT_NE(place, std::string::npos);
  EXPECT_TRUE(std::regex_match(record.substr(place - 19, 19),
                               std::regex("\\d{4}/\\d\\d/\\d\\d \\d\\d:\\d\\d:\\d\\d")));
  const std::string line = record.substr(place, record.find('\n', place) - place);
  EXPECT_EQ(std::regex_replace(line, std::regex("eta: \\d:\\d\\d:\\d\\d"), "eta: 0:00:00"),
            begin + "base_lr: 3.0000e-05 lr: 3.0000e-05  eta: 0:00:00  " + shown("time") + "  " +
                shown("data_time") + "  " + shown("grad_norm") + "  " + shown("loss") + "  " +
                shown("decode.loss_ce") + "  " + shown("decode.acc_seg"));

  const CommandResult tested = run_command(
      end_to_end_tool("test") + " " + config_ + " " + dir_ / "w/iter_12.pth" + " --work-dir " +
      dir_ / "t" + " --out " + dir_ / "ids" + " --show-dir " + dir_ / "pictures");
  ASSERT_EQ(tested.status, 0) << tested.output;
  EXPECT_THAT(tested.output, HasSubstr("Iter(test) [3/3]"));
  EXPECT_FALSE(fs::exists(dir_ / "t/tiny.yaml"));
  bool result = false;
  for (const auto& entry : fs::directory_iterator(dir_ / "t")) {
    const fs::path file = entry.path() / (entry.path().filename().string() + ".json");
    if (!fs::exists(file)) continue;
    std::ifstream in(file);
    result = nlohmann::json::parse(in).contains("mIoU");
  }
  EXPECT_TRUE(result);
  const auto count = [&](const std::string& folder) {
    return std::distance(fs::directory_iterator(dir_ / folder), fs::directory_iterator());
  };
  EXPECT_EQ(count("ids"), 5);
  EXPECT_EQ(count("pictures"), 6) << "with index.html";
}

TEST_F(EndToEnd, SameSeedGivesTheSameLossesToTheLastDigit) {
  ASSERT_EQ(train("a").status, 0);
  ASSERT_EQ(train("b", "--cfg-options train_dataloader.num_workers=0").status, 0);
  const auto a = logged_values(dir_ / "a", "loss"), b = logged_values(dir_ / "b", "loss");
  EXPECT_EQ(a.size(), 12u);
  EXPECT_EQ(a, b);
  expect_same_run(checkpoint("a/iter_12.pth"), checkpoint("b/iter_12.pth"));
}

TEST_F(EndToEnd, SameSeedGivesTheSameLossesWithSeveralThreads) {
  setenv("OMP_NUM_THREADS", "2", 1);
  // Threads that wait by spinning take the time of each other where the machine has other work.
  setenv("OMP_WAIT_POLICY", "passive", 1);
  const std::string few = "--cfg-options train_cfg.max_iters=6";
  ASSERT_EQ(train("a", few).status, 0);
  ASSERT_EQ(train("b", few).status, 0);
  unsetenv("OMP_WAIT_POLICY");
  const auto losses = logged_values(dir_ / "a", "loss");
  EXPECT_EQ(losses.size(), 6u);
  EXPECT_EQ(losses, logged_values(dir_ / "b", "loss"));
  expect_same_run(checkpoint("a/iter_6.pth"), checkpoint("b/iter_6.pth"));
}

TEST_F(EndToEnd, StopsAtASignalAndResumesAsIfNeverStopped) {
  const std::string more = "--cfg-options train_cfg.max_iters=60 param_scheduler.1.end=60";
  ASSERT_EQ(train("whole", more).status, 0);
  for (const int signal : {SIGTERM, SIGINT}) {
    const std::string name = signal == SIGTERM ? "term" : "int";
    BackgroundTool tool(
        train_words(name, {"--cfg-options", "train_cfg.max_iters=60", "param_scheduler.1.end=60"}),
        dir_ / (name + ".txt"));
    ASSERT_TRUE(tool.wait_for("Iter(train) [ 3/60]"));
    tool.send(signal);
    ASSERT_EQ(tool.wait(), 20) << dir_.read(name + ".txt");
    EXPECT_THAT(dir_.read(name + ".txt"),
                HasSubstr(signal == SIGTERM ? "stopped by SIGTERM after iteration"
                                            : "stopped by SIGINT after iteration"));
    const CommandResult resumed = train(name, "--resume " + more);
    ASSERT_EQ(resumed.status, 0) << resumed.output;
    EXPECT_THAT(resumed.output, HasSubstr("resumed from"));
    expect_same_run(checkpoint("whole/iter_60.pth"), checkpoint(name + "/iter_60.pth"));
  }
}

TEST_F(EndToEnd, KilledAtAnyMomentEndsWithTheWeightsOfAnUninterruptedRun) {
  const std::vector<std::string> changes{"--resume",
                                         "--cfg-options",
                                         "train_cfg.max_iters=60",
                                         "param_scheduler.1.end=60",
                                         "train_cfg.val_interval=10",
                                         "default_hooks.checkpoint.interval=3",
                                         "default_hooks.checkpoint.max_keep_ckpts=3"};
  ASSERT_EQ(BackgroundTool(train_words("whole", changes), dir_ / "whole.txt").wait(), 0)
      << dir_.read("whole.txt");

  // Any seed will do: the end must be the same. Four times twelve steps are fewer than sixty, so
  // each kill hits a run that has something left to do.
  constexpr int kKills = 4;
  std::mt19937 random(20);
  int kills = 0;
  for (int launch = 0; launch < kKills; ++launch) {
    BackgroundTool tool(train_words("killed", changes), dir_ / "killed.txt");
    const int lines = std::uniform_int_distribution(1, 12)(random);
    ASSERT_TRUE(tool.wait_for("Iter(", lines)) << tool.output();
    // Within the step that follows, or the checkpoint, or the validation.
    const int wait_us = std::uniform_int_distribution(0, 15000)(random);
    std::this_thread::sleep_for(std::chrono::microseconds(wait_us));
    tool.send(SIGKILL);
    kills += tool.wait() == -SIGKILL ? 1 : 0;
  }
  EXPECT_EQ(kills, kKills);
  ASSERT_EQ(BackgroundTool(train_words("killed", changes), dir_ / "killed.txt").wait(), 0)
      << dir_.read("killed.txt");
  expect_same_run(checkpoint("whole/iter_60.pth"), checkpoint("killed/iter_60.pth"));
  EXPECT_EQ(checkpoints("killed"), checkpoints("whole"));
}

TEST_F(EndToEnd, ResumesInTheMiddleOfAnAccumulation) {
  const std::string scaled =
      " optim_wrapper.type=AmpOptimWrapper optim_wrapper.loss_scale.init_scale=1024 "
      "optim_wrapper.loss_scale.growth_interval=2";
  for (const std::string& precision : {std::string(), scaled}) {
    const std::string tag = precision.empty() ? "" : "_scaled";
    const std::string more =
        "--cfg-options optim_wrapper.accumulative_counts=2 default_hooks.checkpoint.interval=3" +
        precision;
    const CommandResult whole = train("whole" + tag, more);
    ASSERT_EQ(whole.status, 0) << whole.output;
    const std::string middle = "whole" + tag + "/iter_3.pth";
    const CommandResult resumed = train("resumed" + tag, "--resume " + dir_ / middle + " " + more);
    ASSERT_EQ(resumed.status, 0) << resumed.output;
    EXPECT_THAT(resumed.output, Not(HasSubstr("gradients are lost")));
    expect_same_run(checkpoint("whole" + tag + "/iter_12.pth"),
                    checkpoint("resumed" + tag + "/iter_12.pth"));
    EXPECT_NE(checkpoint(middle).at("segcore").find("accumulated"), nullptr);
    EXPECT_EQ(checkpoint("whole" + tag + "/iter_6.pth").at("segcore").find("accumulated"), nullptr);
  }
  const std::string python = python_with_torch();
  if (python.empty()) return;
  const CommandResult result = run_python(python, R"(
import sys, torch
a = torch.load(sys.argv[1], weights_only=True)["segcore"]["accumulated"]
print(a["steps"], a["loss_weight"], len(a["gradients"]), a["gradients"][0]["decode_head.conv_seg.bias"].shape)
)",
                                          dir_ / "whole/iter_3.pth");
  EXPECT_EQ(result.output, "1 0.5 1 torch.Size([5])\n");
}

TEST_F(EndToEnd, MixedPrecisionResumesBitForBit) {
  const CommandResult whole = train("whole", "--amp");
  ASSERT_EQ(whole.status, 0) << whole.output;
  const CommandResult resumed = train("resumed", "--amp --resume " + dir_ / "whole/iter_4.pth");
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  expect_same_run(checkpoint("whole/iter_12.pth"), checkpoint("resumed/iter_12.pth"));
  ASSERT_EQ(train("full").status, 0);
  EXPECT_NE(logged_values(dir_ / "whole", "loss"), logged_values(dir_ / "full", "loss"));
}

/// A configuration of three epochs of four steps.
constexpr const char* kEpochs = R"(
_base_: tiny.yaml
train_dataloader: {sampler: {type: DefaultSampler, shuffle: true}}
param_scheduler: [{type: MultiStepLR, milestones: [1, 2], gamma: 0.5, by_epoch: true}]
train_cfg: {_delete_: true, type: EpochBasedTrainLoop, max_epochs: 3, val_interval: 1}
default_hooks:
  logger: {log_metric_by_epoch: true}
  checkpoint: {by_epoch: true, interval: 1}
log_processor: {by_epoch: true}
)";

TEST_F(EndToEnd, TrainsByEpochs) {
  config_ = dir_.write("epochs.yaml", kEpochs);
  const CommandResult whole = train("whole");
  ASSERT_EQ(whole.status, 0) << whole.output;
  for (const char* line : {"Epoch(train) [1][1/4]  base_lr: 3.0000e-03 lr: 3.0000e-03  eta: ",
                           "Epoch(train) [2][1/4]  base_lr: 1.5000e-03 lr: 1.5000e-03  eta: ",
                           "Epoch(train) [3][4/4]  base_lr: 7.5000e-04 lr: 7.5000e-04  eta: ",
                           "Saving checkpoint at 1 epochs", "Epoch(val) [1][3/3]    aAcc: "}) {
    EXPECT_THAT(whole.output, HasSubstr(line));
  }
  EXPECT_EQ(checkpoints("whole"),
            (std::set<std::string>{"epoch_1.pth", "epoch_2.pth", "epoch_3.pth"}));
  EXPECT_EQ(dir_.read("whole/last_checkpoint"), dir_ / "whole/epoch_3.pth");
  EXPECT_EQ(checkpoint("whole/epoch_2.pth").at("meta").at("epoch").as_int(), 2);
  EXPECT_EQ(checkpoint("whole/epoch_2.pth").at("meta").at("iter").as_int(), 8);
  EXPECT_EQ(logged_values(dir_ / "whole", "lr"),
            (std::vector<double>{.003, .003, .003, .003, .0015, .0015, .0015, .0015, .00075, .00075,
                                 .00075, .00075}));
  std::vector<int> steps;
  for (const auto& row : logged_rows(dir_ / "whole", "mIoU")) steps.push_back(row["step"]);
  EXPECT_THAT(steps, ::testing::ElementsAre(1, 2, 3));

  // From the middle of the second epoch, and from its beginning.
  ASSERT_EQ(train("steps",
                  "--cfg-options default_hooks.checkpoint.by_epoch=false "
                  "default_hooks.checkpoint.interval=5")
                .status,
            0);
  for (const std::string from : {"steps/iter_5.pth", "whole/epoch_1.pth"}) {
    SCOPED_TRACE(from);
    const std::string name = "from_" + fs::path(from).stem().string();
    const CommandResult resumed = train(name, "--resume " + dir_ / from);
    ASSERT_EQ(resumed.status, 0) << resumed.output;
    EXPECT_THAT(resumed.output, HasSubstr(from.starts_with("steps") ? "Epoch(train) [2][2/4]"
                                                                    : "Epoch(train) [2][1/4]"));
    EXPECT_THAT(resumed.output, Not(HasSubstr("Epoch(train) [1]")));
    expect_same_run(checkpoint("whole/epoch_3.pth"), checkpoint(name + "/epoch_3.pth"));
  }
}

TEST_F(EndToEnd, EpochsOfAnotherLengthContinueWithTheNextEpoch) {
  config_ = dir_.write("epochs.yaml", kEpochs);
  const CommandResult whole = train("whole", "--cfg-options train_cfg.max_epochs=2");
  ASSERT_EQ(whole.status, 0) << whole.output;
  const CommandResult larger = train("larger", "--resume " + dir_ / "whole/epoch_2.pth" +
                                                   " --cfg-options train_dataloader.batch_size=5");
  ASSERT_EQ(larger.status, 0) << larger.output;
  EXPECT_THAT(larger.output, HasSubstr("an epoch had 4 iterations, now 2: iteration 8 is "
                                       "counted as 4"));
  EXPECT_THAT(larger.output, HasSubstr("epoch: 2, iter: 4"));
  EXPECT_THAT(larger.output, HasSubstr("Epoch(train) [3][1/2]"));
  EXPECT_EQ(checkpoint("larger/epoch_3.pth").at("meta").at("iter").as_int(), 6);
}

TEST_F(EndToEnd, ReportsAConfigThatDoesNotFitAResumedRun) {
  ASSERT_EQ(train("w", "--cfg-options train_cfg.max_iters=4").status, 0);
  const std::string resume = "--resume " + dir_ / "w/iter_4.pth" + " --cfg-options ";
  const CommandResult no_average =
      train("no_average", resume + "custom_hooks=[] train_cfg.max_iters=5");
  EXPECT_EQ(no_average.status, 0) << no_average.output;
  EXPECT_THAT(no_average.output,
              HasSubstr("holds averaged weights, and this config has no EMAHook"));
  const CommandResult other = train("other", resume + "optim_wrapper.optimizer.type=SGD");
  EXPECT_EQ(other.status, 1);
  EXPECT_THAT(
      other.output,
      HasSubstr("w/iter_4.pth: the optimizer's state holds exp_avg, exp_avg_sq, step, which "
                "this config's optimizer does not use"));
}

TEST_F(EndToEnd, TheCheckpointOfASignalIsOneOfThoseThatAreKept) {
  const std::vector<std::string> changes{"--cfg-options",
                                         "train_cfg.max_iters=60",
                                         "param_scheduler.1.end=60",
                                         "train_cfg.val_interval=60",
                                         "default_hooks.checkpoint.interval=10",
                                         "default_hooks.checkpoint.max_keep_ckpts=2"};
  const std::set<std::string> last{"iter_50.pth", "iter_60.pth"};
  ASSERT_EQ(BackgroundTool(train_words("whole", changes), dir_ / "whole.txt").wait(), 0);
  EXPECT_EQ(checkpoints("whole"), last);

  BackgroundTool tool(train_words("stopped", changes), dir_ / "stopped.txt");
  ASSERT_TRUE(tool.wait_for("Iter(train) [23/60]")) << tool.output();
  tool.send(SIGTERM);
  ASSERT_EQ(tool.wait(), 20) << tool.output();
  const auto files = checkpoints("stopped");
  EXPECT_EQ(files.size(), 2u);
  const std::string path = dir_.read("stopped/last_checkpoint");
  EXPECT_THAT(tool.output(),
              HasSubstr("; the checkpoint is " + path + "; --resume continues from it"));
  EXPECT_TRUE(files.contains(fs::path(path).filename().string())) << path;

  auto again = changes;
  again.insert(again.begin(), "--resume");
  ASSERT_EQ(BackgroundTool(train_words("stopped", again), dir_ / "again.txt").wait(), 0)
      << dir_.read("again.txt");
  EXPECT_EQ(checkpoints("stopped"), last);
  expect_same_run(checkpoint("whole/iter_60.pth"), checkpoint("stopped/iter_60.pth"));
}

TEST_F(EndToEnd, ACheckpointThatAKilledRunDidNotDeleteIsDeletedLater) {
  const std::string more = "--cfg-options default_hooks.checkpoint.max_keep_ckpts=1 ";
  ASSERT_EQ(train("w", more + "train_cfg.max_iters=8").status, 0);
  EXPECT_EQ(checkpoints("w"), std::set<std::string>{"iter_8.pth"});
  dir_.write("w/iter_4.pth", "of the run that was killed when iter_8.pth had just been written");
  ASSERT_EQ(train("w", "--resume " + more).status, 0);
  EXPECT_EQ(checkpoints("w"), std::set<std::string>{"iter_12.pth"});
}

TEST_F(EndToEnd, TheCheckpointOfASignalGoesWhereTheOthersGo) {
  config_ = dir_.write("epochs.yaml", kEpochs);
  const std::vector<std::string> changes{"--cfg-options",
                                         "train_dataloader.dataset.num_samples=60",
                                         "train_cfg.val_interval=3",
                                         "default_hooks.checkpoint.max_keep_ckpts=1",
                                         "default_hooks.checkpoint.filename_tmpl=model_{}.pth",
                                         "default_hooks.checkpoint.out_dir=" + dir_ / "out"};
  ASSERT_EQ(BackgroundTool(train_words("whole", changes), dir_ / "whole.txt").wait(), 0)
      << dir_.read("whole.txt");
  const std::set<std::string> last{"model_3.pth"};
  EXPECT_EQ(checkpoints("out/whole"), last);

  BackgroundTool tool(train_words("stopped", changes), dir_ / "stopped.txt");
  ASSERT_TRUE(tool.wait_for("Epoch(train) [2][ 5/20]")) << tool.output();
  tool.send(SIGINT);
  ASSERT_EQ(tool.wait(), 20) << tool.output();
  EXPECT_TRUE(checkpoints("stopped").empty());
  const auto files = checkpoints("out/stopped");
  ASSERT_EQ(files.size(), 1u);
  // After one epoch and the step that the signal came in.
  EXPECT_THAT(*files.begin(), ::testing::MatchesRegex("model_1_iter_[0-9]+\\.pth"));
  EXPECT_EQ(dir_.read("stopped/last_checkpoint"), dir_ / "out/stopped/" + *files.begin());

  auto again = changes;
  again.insert(again.begin(), "--resume");
  ASSERT_EQ(BackgroundTool(train_words("stopped", again), dir_ / "again.txt").wait(), 0)
      << dir_.read("again.txt");
  EXPECT_EQ(checkpoints("out/stopped"), last);
  expect_same_run(checkpoint("out/whole/model_3.pth"), checkpoint("out/stopped/model_3.pth"));
}

TEST_F(EndToEnd, AValidationEndedByASignalIsRepeatedOnResume) {
  const std::vector<std::string> changes{"--resume", "--cfg-options",
                                         "val_dataloader.dataset.num_samples=200",
                                         "default_hooks.checkpoint.interval=6"};
  ASSERT_EQ(BackgroundTool(train_words("whole", changes), dir_ / "whole.txt").wait(), 0)
      << dir_.read("whole.txt");
  // The second launch is stopped in the validation that it begins with.
  for (int launch = 0; launch < 2; ++launch) {
    BackgroundTool tool(train_words("stopped", changes), dir_ / "stopped.txt");
    ASSERT_TRUE(tool.wait_for("Iter(val) [ 10/100]")) << tool.output();
    tool.send(SIGTERM);
    ASSERT_EQ(tool.wait(), 20) << tool.output();
    EXPECT_THAT(tool.output(), HasSubstr("stopped by SIGTERM after iteration 6;"));
    EXPECT_THAT(tool.output(), Not(HasSubstr("Iter(val) [100/100]    aAcc")));
  }
  ASSERT_EQ(BackgroundTool(train_words("stopped", changes), dir_ / "stopped.txt").wait(), 0);
  const Value whole = checkpoint("whole/iter_12.pth"), stopped = checkpoint("stopped/iter_12.pth");
  expect_same_run(whole, stopped);
  const auto score = [](const Value& c) {
    return c.at("message_hub").at("runtime_info").at("best_score").as_float();
  };
  EXPECT_EQ(score(whole), score(stopped));
}

TEST_F(EndToEnd, DrawsThePredictionsOfValidations) {
  const CommandResult trained =
      train("w",
            "--cfg-options default_hooks.visualization.type=SegVisualizationHook "
            "default_hooks.visualization.draw=true default_hooks.visualization.interval=2");
  ASSERT_EQ(trained.status, 0) << trained.output;
  std::set<std::string> pictures;
  for (const auto& entry : fs::recursive_directory_iterator(dir_ / "w")) {
    if (entry.path().parent_path().filename() != "vis_image") continue;
    pictures.insert(entry.path().filename().string());
    const cv::Mat picture = read_image(entry.path().string());
    // Two rows of two panels, enlarged, with titles and a legend.
    EXPECT_GT(picture.cols, 2 * 32);
    EXPECT_GT(picture.rows, 2 * 32);
  }
  // The second of three batches of two, after each validation.
  EXPECT_EQ(pictures, (std::set<std::string>{"val_shapes_1_2_6.png", "val_shapes_1_3_6.png",
                                             "val_shapes_1_2_12.png", "val_shapes_1_3_12.png"}));
}

TEST_F(EndToEnd, StopsEarlyWhenAMetricStopsImproving) {
  config_ = dir_.write("early.yaml", R"(
_base_: tiny.yaml
train_cfg: {val_interval: 4}
custom_hooks: [{type: EarlyStoppingHook, monitor: mIoU, min_delta: 100, patience: 1}]
)");
  const CommandResult result = train("w");
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("training stops early: mIoU did not improve in 1 "
                                       "validation (the best was "));
  EXPECT_THAT(result.output, HasSubstr("Iter(train) [ 8/12]"));
  EXPECT_THAT(result.output, Not(HasSubstr("Iter(train) [ 9/12]")));
  EXPECT_EQ(checkpoints("w"), (std::set<std::string>{"iter_4.pth", "iter_8.pth"}));
}
TEST_F(EndToEnd, ALossThatIsNotFiniteEndsTheRunWith21) {
  const CommandResult result = train("w",
                                     "--cfg-options optim_wrapper.optimizer.lr=1e30 "
                                     "optim_wrapper.clip_grad=None");
  EXPECT_EQ(result.status, 21) << result.output;
  EXPECT_THAT(result.output, HasSubstr("the loss is not finite at iteration"));
}

TEST_F(EndToEnd, DamagedCheckpointsAreSkippedOrReported) {
  ASSERT_EQ(train("w").status, 0);
  fs::resize_file(dir_ / "w/iter_12.pth", fs::file_size(dir_ / "w/iter_12.pth") / 2);
  const CommandResult resumed = train("w", "--resume");
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_THAT(resumed.output, HasSubstr("skipping this checkpoint"));
  EXPECT_THAT(resumed.output, HasSubstr("resumed from " + dir_ / "w/iter_8.pth"));

  const std::string cut = dir_.write("cut.pth", "PK\x03\x04 and then nothing");
  for (const std::string& command :
       {"train " + config_ + " --work-dir " + dir_ / "x" + " --resume " + cut,
        "test " + config_ + " " + cut + " --work-dir " + dir_ / "x",
        "test " + config_ + " " + dir_ / "none.pth" + " --work-dir " + dir_ / "x"}) {
    const CommandResult result = run_command(end_to_end_tool(command));
    EXPECT_EQ(result.status, 1) << result.output;
    EXPECT_THAT(result.output, HasSubstr("error: "));
    EXPECT_THAT(result.output, HasSubstr(".pth"));
  }
  EXPECT_FALSE(fs::exists(dir_ / "x"));
}

TEST_F(EndToEnd, WeightsThatDoNotFitGiveExitCode3) {
  ASSERT_EQ(train("w").status, 0);
  const std::string other = config_ + " " + dir_ / "w/iter_12.pth" + " --work-dir " + dir_ / "t" +
                            " --cfg-options model.decode_head.channels=16";
  const CommandResult result = run_command(end_to_end_tool("test") + " " + other);
  EXPECT_EQ(result.status, 3) << result.output;
  EXPECT_THAT(result.output, HasSubstr("the weights do not fit the model"));
}

TEST_F(EndToEnd, AMovedWorkDirStillResumes) {
  ASSERT_EQ(train("w").status, 0);
  fs::rename(dir_ / "w", dir_ / "moved");
  const CommandResult resumed =
      train("moved", "--resume --cfg-options train_cfg.max_iters=14 param_scheduler.1.end=14");
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_THAT(resumed.output, HasSubstr("resumed from " + dir_ / "moved/iter_12.pth"));
  EXPECT_TRUE(fs::exists(dir_ / "moved/iter_14.pth"));
}

TEST_F(EndToEnd, PythonReadsACheckpointWithWeightsOnly) {
  const std::string python = python_with_torch();
  if (python.empty()) GTEST_SKIP() << "no Python with torch is found";
  ASSERT_EQ(train("w").status, 0);
  const CommandResult result = run_python(python, R"(
import sys, torch
c = torch.load(sys.argv[1], weights_only=True)
print(sorted(c), c["meta"]["iter"], c["meta"]["seed"], c["message_hub"]["runtime_info"]["iter"])
model = {k: v for k, v in c["state_dict"].items()}
assert all(isinstance(v, torch.Tensor) for v in model.values())
assert c["optimizer"]["param_groups"][0]["initial_lr"] > 0 and 0 in c["optimizer"]["state"]
)",
                                          dir_ / "w/iter_12.pth");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_EQ(result.output,
            "['ema_state_dict', 'message_hub', 'meta', 'optimizer', 'param_schedulers', 'segcore', "
            "'state_dict'] 12 3 12\n");
}

TEST_F(EndToEnd, TestTimeAugmentationAveragesScalesAndFlips) {
  ASSERT_EQ(train("w").status, 0);
  const std::string config = dir_.write("tta.yaml", R"(
_base_: tiny.yaml
model: {data_preprocessor: {test_cfg: {size_divisor: 4}}}
tta_model: {type: SegTTAModel}
tta_pipeline:
- {type: LoadImageFromFile}
- type: TestTimeAug
  transforms:
  - - {type: Resize, scale_factor: 1.0, keep_ratio: true}
    - {type: Resize, scale_factor: 1.5, keep_ratio: true}
  - - {type: RandomFlip, prob: 0.0, direction: horizontal}
    - {type: RandomFlip, prob: 1.0, direction: horizontal}
  - [{type: LoadAnnotations}]
  - [{type: PackSegInputs}]
)");
  const CommandResult tested =
      run_command(end_to_end_tool("test") + " " + config + " " + dir_ / "w/iter_12.pth" +
                  " --work-dir " + dir_ / "t" + " --tta --show-dir " + dir_ / "pictures");
  ASSERT_EQ(tested.status, 0) << tested.output;
  EXPECT_THAT(tested.output, HasSubstr("Iter(test) [3/3]    aAcc: "));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "pictures"), fs::directory_iterator()), 6)
      << "with index.html";
}

TEST_F(EndToEnd, WrongCommandLinesGiveExitCode2) {
  for (const std::string& words :
       {std::string("train"), std::string("test ") + config_,
        "train " + config_ + " --launcher ssh", "train " + config_ + " --launcher pytorch",
        "train " + config_ + " --work-dri x"}) {
    const CommandResult result = run_command(end_to_end_tool(words));
    EXPECT_EQ(result.status, 2) << words << "\n" << result.output;
  }
}

}  // namespace
}  // namespace seg::test
