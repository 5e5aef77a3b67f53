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

namespace fs = std::filesystem;

namespace seg::test {
namespace {

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

/// The largest difference of two state dicts' tensors, relative to the largest value.
double weights_distance(const Value& a, const Value& b) {
  double most = 0, difference = 0;
  for (const auto& [name, value] : a.as_dict()) {
    const at::Tensor x = value.as_tensor().to(at::kDouble);
    const at::Tensor y = b.at(name.as_string()).as_tensor().to(at::kDouble);
    if (x.numel() == 0) continue;
    most = std::max(most, x.abs().max().item<double>());
    difference = std::max(difference, (x - y).abs().max().item<double>());
  }
  return difference / most;
}

class TwoProcesses : public ::testing::Test {
 protected:
  TwoProcesses() { config_ = dir_.write("tiny.yaml", tiny_run_yaml()); }
  /// Nothing may depend on what else is in a batch or on draws that ranks make apart.
  std::string train_command(const std::string& work_dir, int batch_size,
                            const std::string& more = "") const {
    return text("train ", config_, " --work-dir ", dir_ / work_dir,
                " --cfg-options train_dataloader.batch_size=", batch_size,
                " model.decode_head.norm_cfg.type=GN model.decode_head.norm_cfg.num_groups=2 "
                "model.decode_head.dropout_ratio=0 model.backbone.drop_rate=0 "
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

TEST_F(TwoProcesses, GoOnInTheMiddleOfAnAccumulation) {
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
