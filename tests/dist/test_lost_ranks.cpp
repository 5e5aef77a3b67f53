/// Processes that vanish, stop or fail: the others end, name them, and the run can be resumed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "registry/text.hpp"
#include "segcore/io/checkpoint.hpp"
#include "tests/support/background_tool.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"
#include "tests/support/weights_distance.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

/// The processes of one run, each with an output of its own.
class Ranks {
 public:
  Ranks(int count, const TempDir& dir, const std::vector<std::string>& arguments) : dir_(dir) {
    const int port = free_port();
    for (int rank = 0; rank < count; ++rank) {
      std::vector<std::string> words{program_path("train")};
      words.insert(words.end(), arguments.begin(), arguments.end());
      std::ofstream(output_file(rank), std::ios::trunc);
      ranks_.push_back(std::make_unique<BackgroundTool>(
          words, output_file(rank),
          BackgroundTool::Environment{{"OMP_NUM_THREADS", "1"},
                                      {"RANK", text(rank)},
                                      {"LOCAL_RANK", text(rank)},
                                      {"WORLD_SIZE", text(count)},
                                      {"MASTER_ADDR", "127.0.0.1"},
                                      {"MASTER_PORT", text(port)},
                                      {"LD_PRELOAD", program_path("libexit_on_signal.so")},
                                      // The sanitizer's library would have to come first, and it
                                      // would report a crash in place of the program.
                                      {"ASAN_OPTIONS", "verify_asan_link_order=0:handle_segv=0"}}));
    }
  }
  BackgroundTool& operator[](int rank) { return *ranks_[static_cast<size_t>(rank)]; }
  std::string output_file(int rank) const { return dir_ / text("rank_", rank, ".txt"); }

 private:
  const TempDir& dir_;
  std::vector<std::unique_ptr<BackgroundTool>> ranks_;
};

class LostRanks : public ::testing::Test {
 protected:
  LostRanks() { config_ = dir_.write("tiny.yaml", tiny_run_yaml()); }

  /// A run that saves every fifth of 40 steps.
  std::vector<std::string> arguments(const std::string& work_dir,
                                     const std::vector<std::string>& more = {}) const {
    std::vector<std::string> out{config_,
                                 "--launcher",
                                 "pytorch",
                                 "--work-dir",
                                 dir_ / work_dir,
                                 "--cfg-options",
                                 "train_cfg.max_iters=40",
                                 "train_cfg.val_interval=20",
                                 "default_hooks.checkpoint.interval=5",
                                 "env_cfg.dist_cfg.heartbeat_timeout=5"};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  std::string why(const std::string& work_dir) const {
    return run_command(program_path("why") + " " + dir_ / work_dir).output;
  }
  /// Runs to the end, from the newest checkpoint where there is one.
  void finish(int count, const std::string& work_dir) {
    auto words = arguments(work_dir);
    words.insert(words.begin() + 1, "--resume");
    Ranks ranks(count, dir_, words);
    for (int rank = 0; rank < count; ++rank) {
      EXPECT_EQ(ranks[rank].wait(), 0) << ranks[rank].output();
    }
  }
  Value final_state(const std::string& work_dir) const {
    return read_checkpoint(dir_ / (work_dir + "/iter_40.pth"));
  }

  TempDir dir_;
  std::string config_;
};

/// One way in which a process goes.
struct Loss {
  std::string name;
  int rank;
  int signal;  ///< 0: the work dir is taken away, which the first process meets as an error
  std::string shown;
};

const std::vector<Loss>& losses() {
  static const std::vector<Loss> all{
      {"killed", 1, SIGKILL, "first: rank 1 on .* is gone"},
      {"stopped", 1, SIGSTOP, "first: rank 1 on .* has been silent for 5 s"},
      {"_exit", 1, SIGRTMIN, "first: rank 1 on .* is gone"},
      {"crashed", 1, SIGSEGV, "first: rank 1 on .*: crashed with SIGSEGV"},
      {"exception", 0, 0, "first: rank 0 on .*: .*cannot write"},
      {"first killed", 0, SIGKILL, "first: rank 0 on .* is gone"},
      {"first stopped", 0, SIGSTOP,
       "first: rank 0 on .* (has not answered|has been silent) for 5 s"},
  };
  return all;
}

/// Ends a process of `ranks` in that way, and waits for all.
void lose(Ranks& ranks, int count, const Loss& how, const std::string& work_dir) {
  const auto began = std::chrono::steady_clock::now();
  const std::string away = work_dir + ".away";
  if (how.signal != 0) {
    ranks[how.rank].send(how.signal);
  } else {
    fs::rename(work_dir, away);
  }
  for (int rank = 0; rank < count; ++rank) {
    if (rank == how.rank) continue;
    EXPECT_EQ(ranks[rank].wait(), 22) << ranks[rank].output();
    EXPECT_THAT(ranks[rank].output(), HasSubstr(text("was lost: rank ", how.rank, " on ")));
  }
  if (how.signal == SIGSTOP) ranks[how.rank].send(SIGKILL);
  EXPECT_NE(ranks[how.rank].wait(), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(60));
  if (how.signal == 0) {
    // The first record was written before the folder went, or not at all.
    fs::remove_all(work_dir);
    fs::rename(away, work_dir);
  }
}

TEST_F(LostRanks, EndTheOthersAndAreNamedAndTheRunGoesOn) {
  finish(2, "whole");
  const Value whole = final_state("whole");
  const char* repetitions = std::getenv("SEGCORE_TEST_REPETITIONS");
  const unsigned seed = repetitions ? std::random_device{}() : 1;
  std::mt19937 random(seed);
  for (int repetition = repetitions ? std::atoi(repetitions) : 1; repetition > 0; --repetition) {
    for (const Loss& how : losses()) {
      const int step = std::uniform_int_distribution(1, 30)(random);
      const int wait_ms = std::uniform_int_distribution(0, 60)(random);
      SCOPED_TRACE(text(how.name, " after step ", step, " and ", wait_ms, " ms, seed ", seed));
      const std::string work_dir = "lost";
      fs::remove_all(dir_ / work_dir);
      {
        Ranks ranks(2, dir_, arguments(work_dir));
        ASSERT_TRUE(ranks[0].wait_for(text("Iter(train) [", step < 10 ? " " : "", step, "/")))
            << ranks[0].output();
        std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
        lose(ranks, 2, how, dir_ / work_dir);
      }
      if (how.signal != 0) {
        EXPECT_THAT(why(work_dir), ContainsRegex(how.shown));
      }
      finish(2, work_dir);
      const Value resumed = final_state(work_dir);
      for (const char* key : {"state_dict", "ema_state_dict", "optimizer"}) {
        EXPECT_EQ(first_difference(whole.at(key), resumed.at(key), key), "");
      }
      if (HasFailure()) return;
    }
  }
}

TEST_F(LostRanks, OneOfFour) {
  finish(4, "whole");
  const Value whole = final_state("whole").at("state_dict");
  for (const Loss& how : {losses()[0], losses()[1]}) {
    SCOPED_TRACE(how.name);
    fs::remove_all(dir_ / "w");
    {
      Ranks ranks(4, dir_, arguments("w"));
      ASSERT_TRUE(ranks[0].wait_for("Iter(train) [ 8/")) << ranks[0].output();
      lose(ranks, 4, how, dir_ / "w");
    }
    EXPECT_THAT(why("w"), ContainsRegex(how.shown));
    EXPECT_THAT(why("w"), HasSubstr("without a record: 1 of 4 processes"));
    EXPECT_THAT(why("w"), HasSubstr("--resume continues from iter_5.pth"));
    finish(4, "w");
    // Four sums of gradients come in another order in the first step after a resume.
    EXPECT_LT(weights_distance(whole, final_state("w").at("state_dict")), 1e-4);
  }
}

/// A file that never gives its bytes: a file system that hangs.
TEST_F(LostRanks, AProcessThatWaitsForItsDataIsNamed) {
  write_tiny_dataset(dir_, 4, 5, 40, 40);
  dir_.write("files.yaml", R"(_base_: tiny.yaml
train_dataloader:
  batch_size: 1
  num_workers: 0
  sampler: {type: DefaultSampler, shuffle: false}
  dataset: )" + tiny_dataset_yaml() +
                               "\n");
  config_ = dir_ / "files.yaml";
  // Relative to the folder of the processes.
  Ranks ranks(2, dir_,
              arguments("w", {"train_cfg.max_iters=2000", "env_cfg.dist_cfg.timeout=6",
                              text("train_dataloader.dataset.data_root=", dir_.path().string())}));
  ASSERT_TRUE(ranks[0].wait_for("Iter(train) [   3/")) << ranks[0].output();
  const std::string image = dir_ / "img/01.png";  // the second process's, by turns
  fs::remove(image);
  ASSERT_EQ(mkfifo(image.c_str(), 0600), 0);
  for (int rank : {0, 1}) EXPECT_EQ(ranks[rank].wait(), 22) << ranks[rank].output();
  EXPECT_THAT(
      ranks[0].output(),
      ContainsRegex("error: a process of the run was lost: rank 1 on .* did not come to the "
                    "exchange that all others waited in; last seen in iteration [0-9]+ "
                    "\\(data\\)"));
  EXPECT_THAT(ranks[1].output(),
              HasSubstr("error: the other processes of the run have given this one up"));
  EXPECT_THAT(why("w"), ContainsRegex("first: rank 1 on .* did not come"));
  EXPECT_THAT(why("w"), HasSubstr("look at the file system that they are on"));
}

TEST_F(LostRanks, OneProcessLeavesARecordToo) {
  BackgroundTool tool({program_path("train"), config_, "--work-dir", dir_ / "w", "--cfg-options",
                       "train_cfg.max_iters=2000"},
                      dir_ / "out.txt", {{"OMP_NUM_THREADS", "1"}});
  ASSERT_TRUE(tool.wait_for("Iter(train) [   3/2000]")) << tool.output();
  EXPECT_EQ(why("w").substr(why("w").find('\n') + 1).substr(0, 54),
            "no process left a record, and the log ends after step ");
  tool.send(SIGABRT);
  EXPECT_EQ(tool.wait(), -SIGABRT);
  EXPECT_THAT(why("w"), ContainsRegex("first: rank 0 on .*: crashed with SIGABRT"));
  for (const auto& entry : fs::recursive_directory_iterator(dir_ / "w")) {
    if (entry.path().filename() != "flight_0.json") continue;
    std::ifstream file(entry.path());
    const auto record = nlohmann::json::parse(file);
    EXPECT_GE(record.at("steps").size(), 3u);
    const auto& step = record.at("steps").at(1);
    EXPECT_EQ(step.at("samples").size(), 3u);
    EXPECT_GT(step.at("memory_mb"), 10);
    EXPECT_GT(step.at("step_s"), 0.0);
  }
}

TEST_F(LostRanks, APartThatNeverComesIsNamed) {
  const int port = free_port();
  const CommandResult alone = run_command(text(
      "OMP_NUM_THREADS=1 RANK=0 LOCAL_RANK=0 WORLD_SIZE=3 MASTER_ADDR=127.0.0.1 MASTER_PORT=", port,
      " ", program_path("train"), " ", config_, " --launcher pytorch --work-dir ", dir_ / "w",
      " --cfg-options env_cfg.dist_cfg.timeout=2"));
  EXPECT_EQ(alone.status, 22);
  EXPECT_THAT(alone.output, HasSubstr("error: not all of the 3 processes of the run came: missing "
                                      "are the ranks 1, 2 ("));
}

}  // namespace
}  // namespace seg::test
