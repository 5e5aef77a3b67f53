/// Several processes on one machine: they train like one, and count like one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "registry/text.hpp"
#include "segcore/io/checkpoint.hpp"
#include "tests/support/background_tool.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"
#include "tests/support/weights_distance.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

CommandResult run_alone(const std::string& command) {
  return run_command("OMP_NUM_THREADS=1 " + program_path(command));
}

nlohmann::json test_result(const fs::path& work_dir) {
  for (const auto& entry : fs::directory_iterator(work_dir)) {
    std::ifstream file(entry.path() / (entry.path().filename().string() + ".json"));
    if (file) return nlohmann::json::parse(file);
  }
  return {};
}

class TwoProcesses : public ::testing::Test {
 protected:
  TwoProcesses() { config_ = dir_.write("tiny.yaml", tiny_run_yaml()); }
  /// Nothing may depend on what else is in a batch or on draws that ranks make apart.
  std::string train_command(const std::string& work_dir, int batch_size,
                            const std::string& more = "",
                            const std::string& norm =
                                "model.decode_head.norm_cfg.type=GN "
                                "model.decode_head.norm_cfg.num_groups=2") const {
    return text("train ", config_, " --work-dir ", dir_ / work_dir,
                " --cfg-options train_dataloader.batch_size=", batch_size, " ", norm,
                " model.decode_head.dropout_ratio=0 model.backbone.drop_rate=0 "
                "model.backbone.drop_path_rate=0 train_cfg.max_iters=4 train_cfg.val_interval=4 ",
                more);
  }
  TempDir dir_;
  std::string config_;
};

TEST_F(TwoProcesses, TrainLikeOneAndCountLikeOne) {
  for (const std::string& more :
       {std::string(), std::string("optim_wrapper.accumulative_counts=2")}) {
    SCOPED_TRACE(more);
    const std::string tag = more.empty() ? "" : "_accumulated";
    const CommandResult alone = run_alone(train_command("one" + tag, 4, more));
    ASSERT_EQ(alone.status, 0) << alone.output;
    const auto both = run_ranks(2, train_command("two" + tag, 2, more));
    ASSERT_EQ(both[0].status, 0) << both[0].output;
    ASSERT_EQ(both[1].status, 0) << both[1].output;
    const Value one = read_checkpoint(dir_ / ("one" + tag + "/iter_4.pth"));
    const Value two = read_checkpoint(dir_ / ("two" + tag + "/iter_4.pth"));
    EXPECT_LT(weights_distance(one.at("state_dict"), two.at("state_dict")), 1e-4);
  }

  const std::string test = "test " + config_ + " " + dir_ / "one/iter_4.pth" +
                           " --cfg-options model.decode_head.norm_cfg.type=GN "
                           "model.decode_head.norm_cfg.num_groups=2 --work-dir ";
  const CommandResult alone = run_alone(test + dir_ / "t1");
  ASSERT_EQ(alone.status, 0) << alone.output;
  const auto both = run_ranks(2, test + dir_ / "t2");
  ASSERT_EQ(both[0].status, 0) << both[0].output;
  ASSERT_EQ(both[1].status, 0) << both[1].output;
  auto want = test_result(dir_ / "t1"), found = test_result(dir_ / "t2");
  for (auto* result : {&want, &found}) {
    for (const char* key : {"time", "data_time"}) result->erase(key);
  }
  EXPECT_TRUE(want.contains("mIoU"));
  EXPECT_EQ(want, found);
}

TEST_F(TwoProcesses, ResumeInTheMiddleOfAnAccumulation) {
  const std::string more =
      "optim_wrapper.accumulative_counts=2 default_hooks.checkpoint.interval=3 "
      "train_cfg.max_iters=6 train_cfg.val_interval=6 ";
  const auto run = [&](const std::string& work_dir, const std::string& resume) {
    for (const CommandResult& one : run_ranks(2, train_command(work_dir, 2, more) + resume)) {
      EXPECT_EQ(one.status, 0) << one.output;
      EXPECT_THAT(one.output, Not(HasSubstr("gradients are lost")));
    }
  };
  const std::string resume = "--resume " + dir_ / "whole/iter_3.pth";
  run("whole", "");
  run("resumed", resume);
  const Value middle = read_checkpoint(dir_ / "whole/iter_3.pth");
  const ValueList& gradients = middle.at("segcore").at("accumulated").at("gradients").as_list();
  ASSERT_EQ(gradients.size(), 2u);
  EXPECT_NE(first_difference(gradients[0], gradients[1]), "") << "each rank has its own";
  const Value whole = read_checkpoint(dir_ / "whole/iter_6.pth");
  const Value resumed = read_checkpoint(dir_ / "resumed/iter_6.pth");
  for (const char* key : {"state_dict", "ema_state_dict", "optimizer"}) {
    EXPECT_EQ(first_difference(whole.at(key), resumed.at(key), key), "");
  }

  // One process takes the mean of what the two have gathered.
  const CommandResult alone = run_alone(train_command("alone", 4, more) + resume);
  ASSERT_EQ(alone.status, 0) << alone.output;
  EXPECT_LT(weights_distance(whole.at("state_dict"),
                             read_checkpoint(dir_ / "alone/iter_6.pth").at("state_dict")),
            1e-4);
}

TEST_F(TwoProcesses, AKilledPeerEndsTheRunWith22) {
  struct Kill {
    int rank;
    std::string after;  // what the first rank has just logged
    int wait_us;
    std::string norm;
  };
  for (const Kill& how : std::vector<Kill>{{0, "Iter(train) [   4/", 8000, "SyncBN"},
                                           {1, "Iter(val) [", 1000, "GN"},
                                           {1, "Saving checkpoint at 4 iter", 0, "GN"}}) {
    SCOPED_TRACE(text("rank ", how.rank, " after '", how.after, "' and ", how.wait_us, " us"));
    const int port = free_port();
    std::vector<std::unique_ptr<BackgroundTool>> ranks;
    for (int rank = 0; rank < 2; ++rank) {
      std::vector<std::string> words{program_path("train"),
                                     config_,
                                     "--work-dir",
                                     dir_ / "w",
                                     "--launcher",
                                     "pytorch",
                                     "--cfg-options",
                                     "train_cfg.max_iters=1000",
                                     "train_cfg.val_interval=6",
                                     "default_hooks.checkpoint.max_keep_ckpts=1",
                                     "model.decode_head.norm_cfg.type=" + how.norm};
      if (how.norm == "GN") words.emplace_back("model.decode_head.norm_cfg.num_groups=2");
      ranks.push_back(std::make_unique<BackgroundTool>(
          words, dir_ / text("rank_", rank, ".txt"),
          BackgroundTool::Environment{{"OMP_NUM_THREADS", "1"},
                                      {"RANK", text(rank)},
                                      {"LOCAL_RANK", text(rank)},
                                      {"WORLD_SIZE", "2"},
                                      {"MASTER_ADDR", "127.0.0.1"},
                                      {"MASTER_PORT", text(port)}}));
    }
    ASSERT_TRUE(ranks[0]->wait_for(how.after)) << ranks[0]->output();
    std::this_thread::sleep_for(std::chrono::microseconds(how.wait_us));
    ranks[static_cast<size_t>(how.rank)]->send(SIGKILL);
    EXPECT_EQ(ranks[static_cast<size_t>(how.rank)]->wait(), -SIGKILL);
    BackgroundTool& other = *ranks[static_cast<size_t>(1 - how.rank)];
    // A write to the lost peer's closed socket raises it, which depends on time.
    other.send(SIGPIPE);
    EXPECT_EQ(other.wait(), 22) << other.output();
    EXPECT_THAT(other.output(),
                HasSubstr(text("error: a process of the run was lost: rank ", how.rank, " on ")));
  }
}

TEST_F(TwoProcesses, AParameterWithoutGradientIsAMistakeOfTheConfig) {
  // The head takes only the first stage, so the second gets no gradient.
  const std::string unused = "model.decode_head.in_index=[0] model.decode_head.in_channels=[8] ";
  for (const CommandResult& one : run_ranks(2, train_command("w", 2, unused))) {
    EXPECT_EQ(one.status, 1) << one.output;
    EXPECT_THAT(one.output,
                ContainsRegex("error: find_unused_parameters: [0-9]+ of [0-9]+ parameters had no "
                              "part in the loss, so that their gradients could not be averaged: "
                              "backbone\\.layers\\.1\\..*, \\.\\.\\.\\. Write "
                              "'find_unused_parameters: true'"));
  }
  for (const CommandResult& one :
       run_ranks(2, train_command("v", 2, unused + "find_unused_parameters=true"))) {
    EXPECT_EQ(one.status, 0) << one.output;
  }
}

TEST_F(TwoProcesses, AStaticGraphFindsUnusedParametersByItself) {
  const std::string unused = "model.decode_head.in_index=[0] model.decode_head.in_channels=[8] ";
  for (const auto& [work_dir, option] :
       {std::pair<std::string, std::string>{"searched", "find_unused_parameters=true"},
        {"static",
         "model_wrapper_cfg.type=MMDistributedDataParallel "
         "model_wrapper_cfg.static_graph=true"}}) {
    for (const CommandResult& one : run_ranks(2, train_command(work_dir, 2, unused + option))) {
      EXPECT_EQ(one.status, 0) << one.output;
    }
  }
  EXPECT_EQ(first_difference(read_checkpoint(dir_ / "searched/iter_4.pth").at("state_dict"),
                             read_checkpoint(dir_ / "static/iter_4.pth").at("state_dict")),
            "");
}

TEST_F(TwoProcesses, ExchangeGradientsIn16Bits) {
  for (const std::string dtype : {"float32", "bfloat16", "float16"}) {
    for (const CommandResult& one :
         run_ranks(2, train_command(dtype, 2, "model_wrapper_cfg.gradient_dtype=" + dtype))) {
      ASSERT_EQ(one.status, 0) << one.output;
    }
  }
  const Value whole = read_checkpoint(dir_ / "float32/iter_4.pth").at("state_dict");
  for (const char* dtype : {"bfloat16", "float16"}) {
    const double distance = weights_distance(
        whole, read_checkpoint(dir_ / (std::string(dtype) + "/iter_4.pth")).at("state_dict"));
    EXPECT_GT(distance, 1e-6) << dtype;
    EXPECT_LT(distance, 1e-2) << dtype;
  }
}

TEST_F(TwoProcesses, NormaliseTheWholeBatchBySyncBN) {
  const std::string norm = "model.decode_head.norm_cfg.type=SyncBN";
  const CommandResult alone = run_alone(train_command("one", 4, "", norm));
  ASSERT_EQ(alone.status, 0) << alone.output;
  const auto both = run_ranks(2, train_command("two", 2, "", norm));
  ASSERT_EQ(both[0].status, 0) << both[0].output;
  ASSERT_EQ(both[1].status, 0) << both[1].output;
  const Value one = read_checkpoint(dir_ / "one/iter_4.pth");
  const Value two = read_checkpoint(dir_ / "two/iter_4.pth");
  EXPECT_LT(weights_distance(one.at("state_dict"), two.at("state_dict")), 1e-4);
}

TEST_F(TwoProcesses, AMistakeEndsAllOfThem) {
  const auto both = run_ranks(2, "train " + config_ + " --cfg-options model.backbone.embed_dim=8");
  for (const CommandResult& one : both) {
    EXPECT_EQ(one.status, 1);
    EXPECT_THAT(one.output, HasSubstr("Did you mean 'embed_dims'?"));
  }
}

TEST_F(TwoProcesses, APeerThatNeverComesEndsTheRunWith22) {
  const CommandResult one = run_command(
      text("OMP_NUM_THREADS=1 RANK=1 LOCAL_RANK=1 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=",
           free_port(), " ", program_path("train"), " ", config_, " --work-dir ", dir_ / "w",
           " --launcher pytorch --cfg-options env_cfg.dist_cfg.timeout=2"));
  EXPECT_EQ(one.status, 22) << one.output;
}

}  // namespace
}  // namespace seg::test
