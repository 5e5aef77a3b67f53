/// What programs write and show for people: scores of single images, pictures and their colours,
/// curves, progress bars, help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <opencv2/core.hpp>
#include <regex>
#include <sstream>

#include "registry/text.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::vector<std::string> rows_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

/// What a command prints where both streams are a terminal of 100 columns.
std::string on_terminal(const std::string& command) {
  winsize size{};
  size.ws_row = 40;
  size.ws_col = 100;
  int fd = -1;
  const pid_t pid = forkpty(&fd, nullptr, nullptr, &size);
  if (pid == 0) {
    unsetenv("COLUMNS");
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  std::string out;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof buffer)) > 0;) {
    out.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  waitpid(pid, nullptr, 0);
  return out;
}

/// One training and one data set of files for all tests.
class Outputs : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    dir_->write("tiny.yaml", tiny_run_yaml());
    trained_ =
        run("train tiny.yaml --work-dir w --cfg-options train_cfg.max_iters=4 "
            "train_cfg.val_interval=2");
    write_tiny_dataset(*dir_, 3, 5, 32, 40);
    dir_->write("files.yaml", data_config(""));
  }
  static void TearDownTestSuite() { delete dir_; }
  void SetUp() override { ASSERT_EQ(trained_.status, 0) << trained_.output; }

  /// \param palette  further keys of metainfo.
  static std::string data_config(const std::string& palette) {
    return text("_base_: tiny.yaml\ntest_dataloader:\n  dataset:\n    _delete_: true\n",
                "    type: BaseSegDataset\n    img_suffix: .png\n",
                "    data_prefix: {img_path: img, seg_map_path: ann}\n    metainfo: {classes: ",
                "[background, disc, square, triangle, ring]", palette,
                "}\n    pipeline:\n    - {type: LoadImageFromFile}\n",
                "    - {type: LoadAnnotations}\n    - {type: PackSegInputs}\n");
  }
  /// Runs a program in the folder of the test.
  static std::string command(const std::string& line) {
    const size_t name = line.find(' ');
    const std::string rest = name == std::string::npos ? "" : line.substr(name);
    return "cd " + dir_->path().string() + " && OMP_NUM_THREADS=1 " +
           program_path(line.substr(0, name)) + rest;
  }
  static CommandResult run(const std::string& line) { return run_command(command(line)); }
  static std::string output(const std::string& line) {
    const CommandResult result = run(line);
    EXPECT_EQ(result.status, 0) << line << "\n" << result.output;
    return result.output;
  }

  static TempDir* dir_;
  static CommandResult trained_;
};
TempDir* Outputs::dir_ = nullptr;
CommandResult Outputs::trained_{};

TEST_F(Outputs, TestWritesScoresConfusionAndAPageOfPictures) {
  const std::string out = output(
      "test files.yaml w/iter_4.pth --work-dir t --per-image s/scores.csv "
      "--confusion s/confusion.csv --show-dir s/pictures");
  EXPECT_THAT(out, HasSubstr("scores of 3 images are in s/scores.csv"));
  EXPECT_THAT(out, HasSubstr("the confusion matrix is in s/confusion.csv"));
  EXPECT_THAT(out, HasSubstr("pictures, worst first, are in s/pictures/index.html"));

  const auto scores = rows_of(dir_->read("s/scores.csv"));
  ASSERT_THAT(scores, SizeIs(4));
  EXPECT_EQ(scores[0], "image,mIoU,aAcc,IoU.background,IoU.disc,IoU.square,IoU.triangle,IoU.ring");
  EXPECT_THAT(scores[1], StartsWith("img/00.png,"));
  EXPECT_THAT(scores[3], StartsWith("img/02.png,"));

  // As many pixels as the images have, and the accuracy that the log shows.
  const auto matrix = rows_of(dir_->read("s/confusion.csv"));
  ASSERT_THAT(matrix, SizeIs(6));
  EXPECT_EQ(matrix[0], "truth\\prediction,background,disc,square,triangle,ring");
  double all = 0, right = 0;
  for (size_t t = 1; t < matrix.size(); ++t) {
    std::istringstream cells(matrix[t].substr(matrix[t].find(',') + 1));
    std::string cell;
    for (size_t p = 1; std::getline(cells, cell, ','); ++p) {
      all += std::stod(cell);
      if (p == t) right += std::stod(cell);
    }
  }
  EXPECT_EQ(all, 3 * 32 * 40);
  char accuracy[32];
  std::snprintf(accuracy, sizeof accuracy, "aAcc: %.2f", 100 * right / all);
  EXPECT_THAT(out, HasSubstr(accuracy));

  const std::string page = dir_->read("s/pictures/index.html");
  std::vector<double> shown;
  const std::regex caption("<b>mIoU ([0-9.]+)</b>");
  for (auto it = std::sregex_iterator(page.begin(), page.end(), caption);
       it != std::sregex_iterator(); ++it) {
    shown.push_back(std::stod((*it)[1]));
  }
  EXPECT_THAT(shown, SizeIs(3));
  EXPECT_TRUE(std::is_sorted(shown.begin(), shown.end()));
  for (const char* name : {"00.png", "01.png", "02.png"}) {
    EXPECT_THAT(page, HasSubstr(text("src=\"", name, "\"")));
    EXPECT_TRUE(fs::exists(*dir_ / text("s/pictures/", name)));
  }
}

TEST_F(Outputs, ConfusionIsAPictureOrATable) {
  output("test files.yaml w/iter_4.pth --work-dir t --confusion c.png");
  EXPECT_GT(read_image(*dir_ / "c.png").rows, 5 * 50);
  const CommandResult wrong = run("test files.yaml w/iter_4.pth --confusion c.txt");
  EXPECT_EQ(wrong.status, 2);
  EXPECT_EQ(wrong.output,
            "test: --confusion: ends in .csv, .png, .jpg or .tif, got 'c.txt' (see test --help)\n");
}

TEST_F(Outputs, ScoresNeedLabels) {
  std::string config =
      data_config("") + "test_evaluator: {type: IoUMetric, format_only: true, output_dir: u}\n";
  const std::string step = "    - {type: LoadAnnotations}\n";
  config.erase(config.find(step), step.size());
  dir_->write("unlabelled.yaml", config);
  const CommandResult scores =
      run("test unlabelled.yaml w/iter_4.pth --work-dir t --per-image s.csv");
  EXPECT_EQ(scores.status, 1);
  EXPECT_THAT(scores.output, EndsWith("error: img/00.png: has no labels of its size to compare the "
                                      "prediction with, as --per-image needs\n"));
  // Pictures and class ids do without.
  output("test unlabelled.yaml w/iter_4.pth --work-dir t --show-dir un");
  EXPECT_THAT(dir_->read("un/index.html"), HasSubstr("<b>no truth</b>"));
  EXPECT_EQ(read_labels(*dir_ / "u/00.png").size(), cv::Size(40, 32));
}

TEST_F(Outputs, IdsHaveTheColoursOfTheirClassesInAPalette) {
  const std::string colours = " --palette '#010203' '#102030' '#112233' '#405060' '#708090'";
  output("test files.yaml w/iter_4.pth --work-dir t --out ids" + colours);
  output("predict files.yaml w/iter_4.pth img/00.png --out p" + colours);
  const cv::Mat ids = read_labels(*dir_ / "ids/00.png");
  EXPECT_EQ(cv::norm(ids, read_labels(*dir_ / "p/00_ids.png"), cv::NORM_INF), 0);
  const cv::Mat shown = read_image(*dir_ / "ids/00.png");
  const std::vector<cv::Vec3b> bgr{
      {3, 2, 1}, {0x30, 0x20, 0x10}, {0x33, 0x22, 0x11}, {0x60, 0x50, 0x40}, {0x90, 0x80, 0x70}};
  for (int y = 0; y < ids.rows; ++y) {
    for (int x = 0; x < ids.cols; ++x) {
      const int id = ids.at<uint8_t>(y, x);
      ASSERT_LT(id, 5);
      ASSERT_EQ(shown.at<cv::Vec3b>(y, x), bgr[static_cast<size_t>(id)]);
    }
  }
}

/// Class ids of both programs have one palette, by one rule.
TEST_F(Outputs, OneRuleGivesTheColoursOfAllPrograms) {
  const auto first_colour = [&](const std::string& config, const std::string& options) {
    output("test " + config + " w/iter_4.pth --work-dir t --out rule" + options);
    output("predict " + config + " w/iter_4.pth img --out rule/p" + options);
    const cv::Mat tested = read_image(*dir_ / "rule/00.png");
    EXPECT_EQ(cv::norm(tested, read_image(*dir_ / "rule/p/00_ids.png"), cv::NORM_INF), 0)
        << config << options;
    return tested.at<cv::Vec3b>(0, 0);
  };
  // The checkpoint has the colours of drawn shapes; this config has its own.
  dir_->write("own.yaml", data_config(", palette: [[9, 1, 1], [9, 2, 2], [9, 3, 3], [9, 4, 4], "
                                      "[9, 5, 5]]"));
  EXPECT_EQ(first_colour("own.yaml", "")[2], 9) << "of the config, before the checkpoint";
  const std::vector<cv::Vec3b> shapes{
      {64, 64, 64}, {60, 60, 230}, {75, 180, 60}, {230, 110, 60}, {40, 190, 245}};
  const cv::Vec3b saved = first_colour("files.yaml", "");
  EXPECT_NE(std::find(shapes.begin(), shapes.end(), saved), shapes.end())
      << "of the checkpoint, where the config has none";
  dir_->write("colours.txt", "7 1 1\n7,2,2\n#070303\n\n7 4 4\n7 5 5\n");
  EXPECT_EQ(first_colour("own.yaml", " --palette colours.txt")[2], 7);
  EXPECT_NE(first_colour("own.yaml", " --palette cityscapes")[2], 9);
}

TEST_F(Outputs, WrongPalettesAreReported) {
  const auto error_of = [&](const std::string& palette) {
    const CommandResult result =
        run("predict files.yaml w/iter_4.pth img/00.png --out p --palette " + palette);
    EXPECT_EQ(result.status, 2) << palette;
    const auto rows = rows_of(result.output);
    return rows.empty() ? "" : rows.back();
  };
  EXPECT_EQ(error_of("CityscapeDataset"),
            "predict: --palette: 'CityscapeDataset' is neither a file of colours nor a type of "
            "data set nor 'default', and no list of colours as '#e6194b' or 'red', one for each "
            "class. Did you mean 'CityscapesDataset'? (see predict --help)");
  EXPECT_EQ(
      error_of("'#12345'"),
      "predict: --palette: expected a colour as '#e6194b' or 'red', got '#12345' (see predict "
      "--help)");
  EXPECT_EQ(error_of("'#123456' '#123457'"),
            "predict: --palette has 2 colours for 5 classes (see predict --help)");
  EXPECT_EQ(error_of("BaseSegDataset"),
            "predict: --palette: BaseSegDataset has no colours of its own (see predict --help)");
  dir_->write("bad.txt", "1 2 3\n1 2 300\n");
  EXPECT_EQ(error_of("bad.txt"),
            "predict: --palette: bad.txt:2: expected a colour as '230 25 75' or '#e6194b', got '1 "
            "2 300' (see predict --help)");
}

TEST_F(Outputs, OpacityOfTestCoversTheImage) {
  output("test files.yaml w/iter_4.pth --work-dir t --show-dir o0 --opacity 0");
  output("test files.yaml w/iter_4.pth --work-dir t --show-dir o1 --opacity 1");
  EXPECT_GT(cv::norm(read_image(*dir_ / "o0/00.png"), read_image(*dir_ / "o1/00.png")), 0);
  EXPECT_EQ(run("test files.yaml w/iter_4.pth --opacity 2").output,
            "test: --opacity: must be a number between 0 and 1, got '2' (see test --help)\n");
}

TEST_F(Outputs, TrainingDrawsItsCurvesAtEachValidation) {
  EXPECT_EQ(read_image(*dir_ / "w/curves.png").size(), cv::Size(1000, 600));
  output("analyze_logs w --out all.svg --log-scale --smoothing 0.5 --keys loss mIoU lr");
  EXPECT_THAT(dir_->read("all.svg"), HasSubstr(">smoothed</text>"));
  EXPECT_THAT(dir_->read("all.svg"), HasSubstr(">lr</text>"));
  output("analyze_logs w --out tall.png --keys loss mIoU lr time");
  EXPECT_GT(read_image(*dir_ / "tall.png").rows, 1000);
}

TEST_F(Outputs, ProgressFillsTheLineOfATerminalAlone) {
  const std::string shown =
      on_terminal(command("train tiny.yaml --work-dir bar --cfg-options train_cfg.max_iters=3 "
                          "train_cfg.val_interval=3"));
  const std::regex bar(
      "\\r\\x1b\\[2K(train  3/3 \\[=+\\] eta 0:00:00  loss [0-9.]+  [ 0-9.]+ "
      "(?:images/s|s/image)  [ 0-9]?[0-9]+% waiting for data)\\r");
  std::smatch found;
  ASSERT_TRUE(std::regex_search(shown, found, bar)) << shown;
  EXPECT_EQ(found[1].length(), 99);
  const std::string predicted =
      on_terminal(command("predict files.yaml w/iter_4.pth img --out p2"));
  EXPECT_TRUE(
      std::regex_search(predicted, std::regex("\\r\\x1b\\[2Kpredict  [1-3]/3 \\[[=> ]+\\] eta "
                                              "0:00:00  [ 0-9.]+ (?:images/s|s/image)\\r")))
      << predicted;
  for (const auto& entry : fs::recursive_directory_iterator(*dir_ / "bar")) {
    if (entry.path().extension() != ".log") continue;
    EXPECT_THAT(dir_->read(fs::relative(entry.path(), dir_->path()).string()),
                Not(HasSubstr("[2K")));
  }
  EXPECT_THAT(output("predict files.yaml w/iter_4.pth img --out p3"), Not(HasSubstr("images/s")));
}

TEST_F(Outputs, HelpIsWrappedAtTheWidthOfTheTerminal) {
  const auto widest = [](const std::string& help) {
    size_t most = 0;
    for (const auto& line : rows_of(help.substr(0, help.find("\nexample:")))) {
      most = std::max(most, line.size());
    }
    return most;
  };
  for (const char* name :
       {"analyze_logs", "benchmark", "browse_dataset", "check_reference", "convert", "ensemble",
        "fetch_weights", "inspect", "list", "parity", "predict", "print_config", "profile",
        "schema", "sweep", "test", "train"}) {
    const std::string help = run_command("env -u COLUMNS " + program_path(name) + " --help").output;
    EXPECT_LE(widest(help), 80u) << help;
    EXPECT_GT(widest(help), 60u) << help;
    EXPECT_THAT(help,
                HasSubstr("\nexit codes:\n  0   done\n  1   an error in a configuration, the "
                          "data or a file, told in one message\n  2   a wrong command line\n"))
        << name;
    EXPECT_THAT(help, HasSubstr("  70  an internal error: a fault of the program\n")) << name;
    EXPECT_THAT(help, HasSubstr(text("\nexample:\n  tools/", name, " "))) << name;
    EXPECT_LE(widest(run_command("COLUMNS=50 " + program_path(name) + " --help").output), 50u)
        << name;
  }
  EXPECT_GT(widest(run_command("COLUMNS=120 " + program_path("train") + " --help").output), 100u);
  EXPECT_LE(widest(on_terminal(program_path("train") + " --help")), 101u) << "and a \\r";
  EXPECT_GT(widest(on_terminal(program_path("train") + " --help")), 85u);
  const std::string train =
      run_command("env -u COLUMNS " + program_path("train") + " --help").output;
  EXPECT_THAT(train, HasSubstr("usage: train CONFIG [options]\n"));
  EXPECT_THAT(train, HasSubstr("  20  stopped by a signal; training has saved a checkpoint\n"
                               "  21  the loss is not finite\n"));
  EXPECT_THAT(run_command("env -u COLUMNS " + program_path("predict") + " --help").output,
              HasSubstr("usage: predict CONFIG CHECKPOINT INPUT... --out DIR [options]\n"));
}

/// Each runs in the tree as it stands; those that train or measure get a few steps.
TEST_F(Outputs, ExamplesOfHelpWork) {
  const TempDir tree;
  for (const char* folder : {"configs", "tests", "docs"}) {
    fs::create_directory_symlink(source_path(folder), tree / folder);
  }
  const auto example = [&](const std::string& name) {
    const std::string help = run_command(program_path(name) + " --help").output;
    std::string line = rows_of(help.substr(help.find("\nexample:\n") + 10)).at(0).substr(2);
    line = std::regex_replace(line, std::regex("iter_800"), "iter_1");
    line.replace(0, ("tools/" + name).size(), program_path(name));
    return "cd " + tree.path().string() + " && OMP_NUM_THREADS=1 " + line;
  };
  const std::string few =
      " --cfg-options train_cfg.max_iters=1 train_cfg.val_interval=1 train_dataloader.batch_size=2 "
      "val_dataloader.dataset.num_samples=2 test_dataloader.dataset.num_samples=2 "
      "default_hooks.logger.interval=1";
  for (const auto& [name, more] : std::vector<std::pair<std::string, std::string>>{
           {"train", few},
           {"test", " --cfg-options test_dataloader.dataset.num_samples=2"},
           {"predict", " --opacity 0.4"},
           {"analyze_logs", ""},
           {"browse_dataset", ""},
           {"check_reference", " --single"},
           {"convert", ""},
           {"ensemble", ""},
           {"fetch_weights", ""},
           {"inspect", ""},
           {"list", ""},
           {"print_config", ""},
           {"profile", ""},
           {"schema", ""},
           {"sweep", ""}}) {
    const CommandResult result = run_command(example(name) + more);
    EXPECT_EQ(result.status, 0) << example(name) << "\n" << result.output;
  }
}

}  // namespace
}  // namespace seg::test
