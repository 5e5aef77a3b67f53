/// What a shell, a scheduler or a full disk does to a run, and what data errors leave of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "registry/text.hpp"
#include "segcore/io/checkpoint.hpp"
#include "tests/support/background_tool.hpp"
#include "tests/support/command_lines.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class Process : public ::testing::Test {
 protected:
  Process() {
    setenv("OMP_NUM_THREADS", "1", 1);
    dir_.write("tiny.yaml", tiny_run_yaml());
    dir_.write("files.yaml", R"(_base_: tiny.yaml
train_dataloader:
  batch_size: 2
  num_workers: 0
  sampler: {type: DefaultSampler, shuffle: false}
  dataset: &files
    _delete_: true
    type: BaseSegDataset
    data_prefix: {img_path: img, seg_map_path: ann}
    img_suffix: .png
    metainfo: {classes: [background, disc, square, triangle, ring]}
    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]
val_dataloader:
  batch_size: 2
  dataset:
    _delete_: true
    type: BaseSegDataset
    data_prefix: {img_path: val/img, seg_map_path: val/ann}
    img_suffix: .png
    metainfo: {classes: [background, disc, square, triangle, ring]}
    pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]
train_cfg: {max_iters: 6, val_interval: 3}
)");
  }

  CommandResult shell(const std::string& line) const { return run_shell_line(dir_, line); }
  std::string all_files(const std::string& folder, const std::string& suffix) const {
    std::string out;
    for (const auto& entry : fs::recursive_directory_iterator(dir_ / folder)) {
      if (!entry.path().string().ends_with(suffix)) continue;
      std::ifstream in(entry.path());
      out.append(std::istreambuf_iterator<char>(in), {});
    }
    return out;
  }
  void write_images() const {
    write_tiny_dataset(dir_, 8, 5, 40, 40);
    fs::create_directories(dir_ / "val");
    for (const char* folder : {"img", "ann"}) {
      fs::create_directory(dir_ / (std::string("val/") + folder));
      for (int i = 0; i < 8; ++i) {
        const std::string name = text(folder, "/0", i, ".png");
        fs::copy_file(dir_ / name, dir_ / ("val/" + name));
      }
    }
  }
  Value state(const std::string& path) const {
    return read_checkpoint(dir_ / path).at("state_dict");
  }

  TempDir dir_;
};

TEST_F(Process, ClosedStreamsAreNotTakenForFiles) {
  const CommandResult result = shell("sh -c '@train tiny.yaml --work-dir w <&- >&- 2>&-'");
  EXPECT_EQ(result.status, 0);
  std::istringstream rows(all_files("w", "scalars.json"));
  int count = 0;
  for (std::string row; std::getline(rows, row); ++count) {
    EXPECT_TRUE(nlohmann::json::accept(row)) << row;
  }
  EXPECT_EQ(count, 14);  // 12 steps and two validations
  EXPECT_THAT(all_files("w", ".log"), HasSubstr("Iter(train) [12/12]"));
}

TEST_F(Process, AReaderThatGoesAwayDoesNotEndARun) {
  const CommandResult result =
      shell("bash -c 'set -o pipefail; @train tiny.yaml --work-dir w 2>&1 | head -3 > seen'");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(all_files("w", ".log"), HasSubstr("Iter(train) [12/12]"));
  EXPECT_TRUE(fs::exists(dir_ / "w/iter_12.pth"));
}

TEST_F(Process, OutputThatCannotBeWrittenIsAnError) {
  const CommandResult result = shell("sh -c '@print_config tiny.yaml > /dev/full'");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("error: cannot write all of the output to standard output"));
}

TEST_F(Process, AFullDeviceBehindTheLogDoesNotFailARun) {
  const CommandResult result = shell("sh -c '@train tiny.yaml --work-dir w > /dev/full'");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(all_files("w", ".log"), HasSubstr("Iter(train) [12/12]"));
}

TEST_F(Process, SignalsOfSchedulersStopARunWithACheckpoint) {
  for (const int signal : {SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) {
    const std::string name = text("SIG", sigabbrev_np(signal));
    SCOPED_TRACE(name);
    BackgroundTool tool({program_path("train"), dir_ / "tiny.yaml", "--work-dir", dir_ / name,
                         "--cfg-options", "train_cfg.max_iters=200"},
                        dir_ / (name + ".txt"));
    ASSERT_TRUE(tool.wait_for("Iter(train) [  3/200]")) << tool.output();
    tool.send(signal);
    EXPECT_EQ(tool.wait(), 20);
    EXPECT_THAT(dir_.read(name + ".txt"), HasSubstr("stopped by " + name + " after iteration "));
    EXPECT_TRUE(fs::exists(dir_.read(name + "/last_checkpoint")));
  }
}

TEST_F(Process, AClosedTerminalDoesNotStopARunUnderNohup) {
  BackgroundTool tool({"/bin/sh", "-c",
                       "trap '' HUP; exec " + program_path("train") + " " + (dir_ / "tiny.yaml") +
                           " --work-dir " + (dir_ / "w")},
                      dir_ / "out.txt");
  ASSERT_TRUE(tool.wait_for("Iter(train) [ 2/12]")) << tool.output();
  tool.send(SIGHUP);
  EXPECT_EQ(tool.wait(), 0) << dir_.read("out.txt");
}

TEST_F(Process, ALimitOfFileSizesIsAnErrorThatLeavesNothingBehind) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the limit holds for the files that the sanitizer maps, too";
#endif
  const CommandResult result = shell("bash -c 'ulimit -f 32; @train tiny.yaml --work-dir w'");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("error: cannot write w/iter_4.pth: File too large"));
  for (const auto& entry : fs::recursive_directory_iterator(dir_ / "w")) {
    EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
  }
}

TEST_F(Process, ADataErrorLosesNoStep) {
  write_images();
  const CommandResult whole = shell("@train files.yaml --work-dir whole");
  ASSERT_EQ(whole.status, 0) << whole.output;
  // In the third batch, and beyond what is looked at before the first step.
  const std::string good = dir_.read("img/05.png");
  dir_.write("img/05.png", good.substr(0, good.size() / 2));
  const CommandResult broken = shell("@train files.yaml --work-dir w");
  EXPECT_EQ(broken.status, 1);
  EXPECT_THAT(broken.output, HasSubstr("img/05.png"));
  EXPECT_THAT(broken.output,
              HasSubstr("\nTraining ends after iteration 2; the checkpoint is w/iter_2.pth; "
                        "--resume continues from it"));
  // As long as the file is wrong, nothing is saved anew.
  const CommandResult again = shell("@train files.yaml --work-dir w --resume");
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.output, Not(HasSubstr("Training ends after")));
  dir_.write("img/05.png", good);
  const CommandResult resumed = shell("@train files.yaml --work-dir w --resume");
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  EXPECT_EQ(first_difference(state("whole/iter_6.pth"), state("w/iter_6.pth")), "");
}

TEST_F(Process, LabelsThatAreNoClassLoseNoStep) {
  write_images();
  const CommandResult whole = shell("@train files.yaml --work-dir whole");
  ASSERT_EQ(whole.status, 0) << whole.output;
  const std::string good = dir_.read("ann/05.png");
  BackgroundTool tool({"/bin/sh", "-c",
                       "cd " + dir_.path().string() + " && exec " + program_path("train") +
                           " files.yaml --work-dir w"},
                      dir_ / "out.txt");
  // The check before training has seen good labels.
  ASSERT_TRUE(tool.wait_for("Iter(train) [1/6]")) << tool.output();
  tool.send(SIGSTOP);
  write_png(dir_ / "ann/05.png", tiny_labels(40, 40, 7));
  tool.send(SIGCONT);
  const int status = tool.wait();
  dir_.write("ann/05.png", good);
  if (status == 0) GTEST_SKIP() << "the run was faster than the test";
  EXPECT_EQ(status, 1);
  EXPECT_THAT(dir_.read("out.txt"), HasSubstr("the checkpoint is w/iter_"));
  const CommandResult resumed = shell("@train files.yaml --work-dir w --resume");
  ASSERT_EQ(resumed.status, 0) << resumed.output;
}

TEST_F(Process, TheFirstBatchOfValidationIsTriedBeforeTheFirstStep) {
  write_images();
  write_png(dir_ / "val/img/01.png", tiny_image(40, 32, 1));
  write_png(dir_ / "val/ann/01.png", tiny_labels(40, 32, 5));
  const CommandResult result = shell("@train files.yaml --work-dir w");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("val/img/01.png"));
  EXPECT_THAT(result.output, Not(HasSubstr("Iter(train)")));
}

TEST_F(Process, ScalesOfTrainingAndValidationThatDifferAreReported) {
  write_images();
  dir_.write("small.yaml", R"(_base_: files.yaml
train_dataloader:
  dataset:
    pipeline:
    - {type: LoadImageFromFile}
    - {type: LoadAnnotations}
    - {type: RandomResize, scale: [16, 16], ratio_range: [0.9, 1.1], keep_ratio: true}
    - {type: PackSegInputs}
train_cfg: {max_iters: 1}
)");
  const CommandResult result = shell("@train small.yaml --work-dir w");
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output,
              ContainsRegex("WARNING - training resizes images by 0.3[0-9] to 0.4[0-9], validation "
                            "by 1: models recognise objects at the sizes that they were trained "
                            "on. Give both pipelines a Resize to the same scale"));
  EXPECT_THAT(shell("@train files.yaml --work-dir v").output,
              Not(HasSubstr("training resizes images")));
}

TEST_F(Process, AnErrorInAValidationLosesNoStep) {
  write_images();
  const std::string good = dir_.read("val/img/03.png");
  dir_.write("val/img/03.png", good.substr(0, good.size() / 2));
  const CommandResult result = shell("@train files.yaml --work-dir w");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("val/img/03.png"));
  EXPECT_THAT(result.output, HasSubstr("Training ends after iteration 3; the checkpoint is "
                                       "w/iter_3.pth; --resume continues from it"));
  dir_.write("val/img/03.png", good);
  const CommandResult resumed = shell("@train files.yaml --work-dir w --resume");
  ASSERT_EQ(resumed.status, 0) << resumed.output;
  // The validation that failed is made up for.
  EXPECT_THAT(resumed.output, HasSubstr("Iter(val) [4/4]"));
  const CommandResult whole = shell("@train files.yaml --work-dir whole");
  ASSERT_EQ(whole.status, 0) << whole.output;
  EXPECT_EQ(first_difference(state("whole/iter_6.pth"), state("w/iter_6.pth")), "");
}

TEST_F(Process, ALastBatchOfOneSampleIsTriedBeforeTheFirstStep) {
  dir_.write("psp.yaml", R"(_base_: tiny.yaml
model:
  decode_head:
    _delete_: true
    type: PSPHead
    in_channels: 16
    in_index: 1
    channels: 8
    pool_scales: [1, 2]
    num_classes: 5
    norm_cfg: {type: BN}
train_dataloader:
  batch_size: 3
  sampler: {type: DefaultSampler, shuffle: true}
train_cfg: {max_iters: 5, val_interval: 5}
)");
  const CommandResult result = shell("@train psp.yaml --work-dir w");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output,
              HasSubstr("error: the last batch of an epoch has one sample (10 samples, batch_size "
                        "3): batch norm cannot be trained on one value per channel, got "
                        "[1, 8, 1, 1]"));
  EXPECT_THAT(result.output, HasSubstr("train_dataloader.drop_last: true"));
  EXPECT_THAT(result.output, Not(HasSubstr("Iter(train)")));
  EXPECT_EQ(
      shell("@train psp.yaml --work-dir w --cfg-options train_dataloader.drop_last=true").status,
      0);
}

TEST_F(Process, HyperParametersThatACheckpointOverrulesAreReported) {
  ASSERT_EQ(shell("@train tiny.yaml --work-dir w --cfg-options train_cfg.max_iters=8").status, 0);
  fs::copy(dir_ / "w", dir_ / "v", fs::copy_options::recursive);
  const std::string more =
      " --cfg-options optim_wrapper.optimizer.lr=0.03 optim_wrapper.optimizer.weight_decay=0.5";
  const CommandResult kept = shell("@train tiny.yaml --work-dir w --resume" + more);
  ASSERT_EQ(kept.status, 0) << kept.output;
  EXPECT_THAT(kept.output,
              HasSubstr("w/iter_8.pth overrules the configuration: weight_decay is 0.5 in the "
                        "configuration and stays 0.01, lr is 0.03 in the configuration and stays "
                        "0.003; --reset-schedule takes the configuration's"));
  const CommandResult reset =
      shell("@train tiny.yaml --work-dir v --resume --reset-schedule" + more);
  ASSERT_EQ(reset.status, 0) << reset.output;
  EXPECT_THAT(reset.output, Not(HasSubstr("overrules")));
  const CommandResult anew = shell("@train tiny.yaml --work-dir n" + more);
  ASSERT_EQ(anew.status, 0) << anew.output;
  const auto rate = [](const std::string& output) {
    const size_t at = output.find("lr: ", output.find("Iter(train) [10/12]"));
    return output.substr(at, output.find("  ", at) - at);
  };
  EXPECT_EQ(rate(reset.output), rate(anew.output));
  EXPECT_NE(rate(kept.output), rate(anew.output));
}

TEST_F(Process, ResumingFromNothingIsReportedLast) {
  const CommandResult result = shell("@train tiny.yaml --work-dir w --resume");
  ASSERT_EQ(result.status, 0) << result.output;
  const std::string warning =
      "WARNING - w holds no checkpoint to resume from: the run starts from the beginning";
  const size_t at = result.output.find(warning), first = result.output.find("Iter(train)");
  ASSERT_NE(at, std::string::npos) << result.output;
  const std::string between = result.output.substr(at, first - at);
  EXPECT_LE(std::count(between.begin(), between.end(), '\n'), 3) << between;
}

TEST_F(Process, PathsThatNoShellHasReadAreExpanded) {
  const std::string quick = " --cfg-options train_cfg.max_iters=1";
  EXPECT_EQ(shell("HOME=$PWD @train tiny.yaml --work-dir '~/a'" + quick).status, 0);
  EXPECT_EQ(shell("HOME=$PWD @train tiny.yaml --work-dir='$HOME/b'" + quick).status, 0);
  EXPECT_EQ(shell("HERE=$PWD @train tiny.yaml" + quick + " 'work_dir=${HERE}/c'").status, 0);
  EXPECT_EQ(shell("@train tiny.yaml" + quick + " 'work_dir=\"d,e\"'").status, 0);
  for (const char* folder : {"a", "b", "c", "d,e"}) {
    EXPECT_TRUE(fs::exists(dir_ / (std::string(folder) + "/iter_1.pth"))) << folder;
  }
  EXPECT_FALSE(fs::exists(dir_ / "~"));
  const CommandResult unset = shell("@train tiny.yaml --work-dir '$NO_SUCH_VARIABLE/x'");
  EXPECT_EQ(unset.status, 2);
  EXPECT_THAT(unset.output, HasSubstr("'$NO_SUCH_VARIABLE/x' needs the variable "
                                      "NO_SUCH_VARIABLE, which is not set"));
  dir_.write("unset.yaml", "_base_: tiny.yaml\nwork_dir: $NO_SUCH_VARIABLE/x\n");
  const CommandResult in_file = shell("@train unset.yaml");
  EXPECT_EQ(in_file.status, 1);
  EXPECT_THAT(in_file.output, HasSubstr("unset.yaml:2:11: error: work_dir: '$NO_SUCH_VARIABLE/x' "
                                        "needs the variable NO_SUCH_VARIABLE, which is not set"));
}

TEST_F(Process, QuietKeepsTheConfigOutOfTheConsole) {
  const CommandResult result = shell(
      "@train tiny.yaml --work-dir w --quiet --device cpu --cfg-options train_cfg.max_iters=1");
  ASSERT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, Not(HasSubstr("Config:")));
  EXPECT_THAT(result.output, HasSubstr("Iter(train) [1/1]"));
  EXPECT_THAT(all_files("w", ".log"), HasSubstr("Config:"));
  const CommandResult device = shell("@train tiny.yaml --work-dir w --device gpu");
  EXPECT_EQ(device.status, 1);
  EXPECT_THAT(device.output, HasSubstr("--device"));
}

}  // namespace
}  // namespace seg::test
