/// `memory: save`: what the backward pass recomputes so that a step fits into memory.
#include "runners/optim/step_memory.hpp"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runners/optim/optim_wrapper.hpp"
#include "runners/start/options.hpp"
#include "runners/start/run_config.hpp"
#include "runners/train/training_run.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/memory/device_memory.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(MemoryLimit, IsASizeBytesOrAShare) {
  constexpr int64_t kTotal = 1000;
  EXPECT_EQ(limit_bytes("8GB", kTotal), 8'000'000'000);
  EXPECT_EQ(limit_bytes("1.5 MiB", kTotal), 1'572'864);
  EXPECT_EQ(limit_bytes(4096.0, kTotal), 4096);
  EXPECT_EQ(limit_bytes(0.5, kTotal), 500);
  EXPECT_EQ(limit_bytes(1.0, kTotal), kTotal);
  for (const char* wrong : {"", "8", "GB", "8 apples", "-1GB", "0GB", "1e30TB", "nanGB"}) {
    EXPECT_EQ(limit_bytes(wrong, kTotal), std::nullopt) << wrong;
  }
  EXPECT_EQ(limit_bytes(-0.5, kTotal), std::nullopt);
}

TEST(MemoryLimit, ReportsConfigErrors) {
  const std::string optimizer = "{type: OptimWrapper, optimizer: {type: SGD, lr: 0.1}, ";
  EXPECT_EQ(spec_error<OptimWrapper>(optimizer + "memory: savings}"),
            "<default>:1:63: error: memory: unknown value 'savings'. Known: fast, "
            "save\n1 error in the configuration");
  EXPECT_EQ(spec_error<OptimWrapper>(optimizer + "memory: save, memory_limit: 8 apples}"),
            "<default>:1:83: error: memory_limit: expected a size such as 8GB, a number of bytes, "
            "or a share of the device's memory up to 1, got '8 apples'\n"
            "1 error in the configuration");
  EXPECT_EQ(spec_warnings<OptimWrapper>(optimizer + "memory_limit: 8GB}"),
            "<default>:1:69: warning: memory_limit: has no effect without memory: save");
}

TEST(MemoryLimit, IsWrittenInThreeDigits) {
  EXPECT_EQ(size_text(1'048'576), "1.05 MB");
  EXPECT_EQ(size_text(812'345'678), "812 MB");
  EXPECT_EQ(size_text(1'234'567'890), "1.23 GB");
  EXPECT_EQ(size_text(123'456'789'012), "123.46 GB");
}

TEST(DeviceMemory, GrowsWithATensor) {
  const MemoryUse before = memory_use(at::kCPU);
  const auto tensor = torch::ones({16'000'000});
  const MemoryUse after = memory_use(at::kCPU);
  EXPECT_GT(after.used, before.used + 50'000'000);
  EXPECT_GE(after.peak, after.used);
  EXPECT_GT(free_memory(at::kCPU), 0);
  EXPECT_LE(after.used + free_memory(at::kCPU), 2 * total_memory(at::kCPU));
}

// --- Steps of a wrapper -------------------------------------------------------------------------

class StepMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    torch::manual_seed(0);
    model = Spec<Segmentor>::of(
                "{type: EncoderDecoder, backbone: {type: ResNet, depth: 18, base_channels: 8, "
                "stem_channels: 8, norm_cfg: {type: BN}}, decode_head: {type: FCNHead, "
                "in_channels: 64, in_index: 3, channels: 8, num_classes: 3, dropout_ratio: 0.1, "
                "norm_cfg: {type: BN}}}")
                .build();
    model->train();
  }
  void build(const std::string& memory, const char* type = "OptimWrapper") {
    wrapper = Spec<OptimWrapper>::of(text("{type: ", type, ", optimizer: {type: AdamW, lr: 0.01}, ",
                                          "accumulative_counts: 2, ", memory, "}"))
                  .build(*model);
    wrapper->set_progress(0, 100);
  }
  /// \return what the step logs.
  std::string step(int64_t side = 64) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    LossMap losses;
    {
      const auto precision = wrapper->precision();
      const auto images = reference::image({2, 3, side, side}).to(at::kFloat);
      const auto memory = wrapper->recomputations(images);
      losses = model->loss(images, reference::labels({2, side, side}, 3));
    }
    wrapper->scale_loss(total_loss(losses)).backward();
    wrapper->step();
    return ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
  }
  std::shared_ptr<Segmentor> model;
  std::unique_ptr<OptimWrapper> wrapper;
};

TEST_F(StepMemoryTest, FollowsTheLimit) {
  build("memory: save, memory_limit: 1TB");
  EXPECT_THAT(step(), Not(HasSubstr("memory:")));
  EXPECT_THAT(step(),
              HasSubstr("memory: 0 of 8 blocks are recomputed in the backward pass, about "));
  EXPECT_THAT(step(), Not(HasSubstr("memory:")));

  build("memory: save, memory_limit: 1MB");
  step();
  const std::string log = step();
  EXPECT_THAT(log, HasSubstr("memory: 8 of 8 blocks are recomputed in the backward pass, about "));
  EXPECT_THAT(log, HasSubstr(" of the limit of 1 MB"));
  EXPECT_THAT(log, HasSubstr("even with all blocks recomputed, more than the limit of 1 MB: a "
                             "smaller batch or crop needs less"));
}

TEST_F(StepMemoryTest, HasTheWeightsOfFast) {
  for (const char* type : {"OptimWrapper", "AmpOptimWrapper"}) {
    std::map<std::string, std::vector<at::Tensor>> found;
    for (const std::string memory :
         {"memory: fast", "memory: save, memory_limit: 1MB", "memory: save"}) {
      SetUp();
      build(memory, type);
      for (const int64_t side : {64, 64, 96, 64, 96}) step(side);
      for (const auto& p : model->parameters()) found[memory].push_back(p.detach());
      for (const auto& b : model->buffers()) found[memory].push_back(b);
    }
    for (const auto& [memory, tensors] : found) {
      for (size_t i = 0; i < tensors.size(); ++i) {
        EXPECT_TRUE(at::equal(tensors[i], found.at("memory: fast")[i])) << type << memory << i;
      }
    }
  }
}

// --- Choices ------------------------------------------------------------------------------------

/// With what a device holds given, so that choices depend on the blocks alone.
class StepMemoryChoice : public StepMemoryTest {
 protected:
  static constexpr int64_t kAll = 1'000'000'000'000;
  void begin(int64_t limit) {
    use = {};
    memory =
        std::make_unique<StepMemory>(*model, at::kCPU, limit, [this](c10::Device) { return use; });
  }
  /// \return what the step logs.
  std::string step(int64_t images, int64_t side, int64_t gradients = 0) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    at::Tensor loss;
    {
      const auto x = reference::image({images, 3, side, side}).to(at::kFloat);
      const auto scope = memory->begin(x, gradients);
      loss = total_loss(model->loss(x, reference::labels({images, side, side}, 3)));
    }
    loss.backward();
    memory->end();
    return ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
  }
  /// Bytes of a step that keeps all blocks, at least, without what is held before.
  int64_t needs(int64_t images, int64_t side) {
    begin(kAll);
    step(images, side);
    const std::string log = step(images, side), about = "pass, about ";
    return static_cast<int64_t>(1.01e6 * std::stod(log.substr(log.find(about) + about.size())));
  }
  MemoryUse use;
  std::unique_ptr<StepMemory> memory;
};

TEST_F(StepMemoryChoice, MeasuresLargerImagesAgain) {
  const int64_t small = needs(2, 64), large = needs(2, 96);
  ASSERT_LT(small * 3 / 2, large);
  begin((small + large) / 2);
  step(2, 64);
  EXPECT_THAT(step(2, 64), HasSubstr("memory: 0 of 8"));
  EXPECT_THAT(step(2, 96), Not(HasSubstr("memory:")));
  EXPECT_THAT(step(2, 96), ContainsRegex("memory: [1-7] of 8"));
  // The choice holds for smaller images, too.
  EXPECT_THAT(step(2, 32), Not(HasSubstr("memory:")));
}

TEST_F(StepMemoryChoice, HoldsForTheWorstOfBatchesOfWhichNoneCoversTheOther) {
  const int64_t many = needs(8, 64), large = needs(1, 128);
  ASSERT_LT(large * 3 / 2, many);
  begin((many + large) / 2 + 1'000'000);
  use.peak = 1'000'000;
  step(8, 64);
  EXPECT_THAT(step(8, 64), ContainsRegex("memory: [1-7] of 8"));
  use.peak = 500'000;
  step(1, 128);
  // Which blocks depends on the times measured.
  EXPECT_THAT(step(8, 64), Not(HasSubstr("memory: 0 of 8")));
}

TEST_F(StepMemoryChoice, CountsGradientsOnce) {
  const int64_t needed = needs(2, 64), gradients = needed / 2;
  begin(needed + gradients);
  use.peak = gradients;
  step(2, 64);
  EXPECT_THAT(step(2, 64), HasSubstr("memory: 0 of 8"));
  use.used = gradients;
  EXPECT_THAT(step(2, 64, gradients), Not(HasSubstr("memory:")));
}

TEST_F(StepMemoryChoice, FollowsWhatIsHeldUpAndDown) {
  const int64_t needed = needs(2, 64);
  begin(needed * 11 / 10);
  step(2, 64);
  EXPECT_THAT(step(2, 64), HasSubstr("memory: 0 of 8"));
  use.used = needed / 2;
  EXPECT_THAT(step(2, 64), ContainsRegex("memory: [1-7] of 8"));
  use.used = 0;
  EXPECT_THAT(step(2, 64), HasSubstr("memory: 0 of 8"));
}

// --- Runs ---------------------------------------------------------------------------------------

/// Trains a tiny run with dropout, stochastic depth and batch norm, and gives its last checkpoint.
Value trained(const std::string& work_dir, const std::string& memory,
              const std::string& resume_from = "") {
  const TempDir folder;
  const std::string path = folder.write("tiny.yaml", tiny_run_yaml());
  std::vector<std::string> overrides{"work_dir=" + work_dir, "optim_wrapper.memory=" + memory};
  if (memory == "save") overrides.push_back("optim_wrapper.memory_limit=1MB");
  run_training(load_run_config(path, overrides, [&](Config& tree) {
    TrainOptions options;
    options.resume = !resume_from.empty();
    if (options.resume) options.resume_from = resume_from;
    apply_options(tree, options);
  }));
  return read_checkpoint(work_dir + "/iter_12.pth");
}

TEST(StepMemory, ARunEndsBitForBitAsWithoutAndResumesAsEither) {
  const TempDir fast, save, resumed;
  const Value expected = trained(fast.path().string(), "fast");
  const Value of_save = trained(save.path().string(), "save");
  const Value of_both = trained(resumed.path().string(), "fast", save / "iter_4.pth");
  for (const char* part : {"state_dict", "ema_state_dict", "optimizer", "param_schedulers"}) {
    EXPECT_EQ(first_difference(expected.at(part), of_save.at(part)), "") << part;
    EXPECT_EQ(first_difference(expected.at(part), of_both.at(part)), "") << part;
  }
}

}  // namespace
}  // namespace seg::test
