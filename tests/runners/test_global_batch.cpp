/// How many samples each process takes, in a new run and in one resumed on another number of them.
#include "runners/train/global_batch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

class GlobalBatch : public ::testing::Test {
 protected:
  /// \param overrides  "train_dataloader.batch_size=4"; the config has 3.
  RunConfig config(const std::vector<std::string>& overrides = {}) const {
    return load_run_config(dir_.write("tiny.yaml", tiny_run_yaml()), overrides);
  }
  /// A checkpoint of `world` processes that had `each` samples, written under the config.
  static Value checkpoint(const RunConfig& config, int64_t world, int64_t each) {
    Value own = Value::dict(), meta = Value::dict(), out = Value::dict();
    own.set("batch_size", each);
    own.set("world_size", world);
    meta.set("cfg", dump_yaml(config.tree));
    out.set("meta", meta);
    out.set("segcore", own);
    return out;
  }
  static int64_t size_of(const RunConfig& config) { return config.train_dataloader->batch_size; }
  TempDir dir_;
};

TEST_F(GlobalBatch, IsTheConfigsForEachProcessUnlessItIsGiven) {
  RunConfig plain = config();
  const BatchRemarks none = share_batches(plain, 2, nullptr);
  EXPECT_EQ(size_of(plain), 3);
  EXPECT_EQ(none.info + none.warning, "");
  RunConfig given = config({"global_batch=8"});
  share_batches(given, 2, nullptr);
  EXPECT_EQ(size_of(given), 4);
}

TEST_F(GlobalBatch, NearestSharesAreNamed) {
  RunConfig given = config({"global_batch=10"});
  EXPECT_THAT(
      config_error([&] { share_batches(given, 4, nullptr); }),
      ::testing::HasSubstr("--cfg-options #1: error: global_batch: 4 processes cannot share "
                           "10 samples equally. Write 8 or 12"));
  RunConfig few = config({"global_batch=3"});
  EXPECT_THAT(config_error([&] { share_batches(few, 4, nullptr); }),
              ::testing::HasSubstr("4 processes cannot share 3 samples equally. Write 4"));
}

TEST_F(GlobalBatch, AResumedRunKeepsItOnAnyNumberOfProcesses) {
  // 1 -> 2 -> 4 -> 1: the config stays as it is, though each checkpoint has another size.
  const std::vector<std::string> four{"train_dataloader.batch_size=4"};
  RunConfig two = config(four), quarter = config(four), again = config(four);
  const Value first = checkpoint(config(four), 1, 4);
  EXPECT_EQ(share_batches(two, 2, &first).info,
            "the global batch stays 4 samples as in the checkpoint: 2 for each of 2 processes "
            "(--global-batch N sets it)");
  EXPECT_EQ(size_of(two), 2);
  const Value second = checkpoint(two, 2, 2);
  EXPECT_EQ(share_batches(quarter, 4, &second).warning, "");
  EXPECT_EQ(size_of(quarter), 1);
  const Value third = checkpoint(quarter, 4, 1);
  const BatchRemarks back = share_batches(again, 1, &third);
  EXPECT_EQ(size_of(again), 4);
  EXPECT_EQ(back.info + back.warning, "");
}

TEST_F(GlobalBatch, AChangedOneIsWarnedOf) {
  const Value saved = checkpoint(config(), 2, 3);
  RunConfig same = config({"train_dataloader.batch_size=4"});
  EXPECT_EQ(share_batches(same, 2, &saved).warning,
            "a step of the checkpoint's run had 6 samples (2 x 3), one of this run has 8 (2 x 4): "
            "the order of samples and the schedules are no longer the same; --global-batch 6 keeps "
            "them");
  RunConfig odd = config();
  EXPECT_EQ(share_batches(odd, 4, &saved).warning,
            "a step of the checkpoint's run had 6 samples (2 x 3), one of this run has 12 (4 x 3): "
            "the order of samples and the schedules are no longer the same; --global-batch 6 keeps "
            "them on a number of processes that divides it");
  RunConfig kept = config({"global_batch=6", "train_dataloader.batch_size=5"});
  EXPECT_EQ(share_batches(kept, 3, &saved).warning, "");
  EXPECT_EQ(size_of(kept), 2);
}

TEST_F(GlobalBatch, OfAnotherProgramsCheckpointIsUnknown) {
  Value foreign = Value::dict();
  foreign.set("meta", Value::dict());
  RunConfig own = config();
  const BatchRemarks none = share_batches(own, 2, &foreign);
  EXPECT_EQ(none.info + none.warning, "");
  EXPECT_EQ(size_of(own), 3);
}

}  // namespace
}  // namespace seg::test
