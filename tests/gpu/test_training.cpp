/// Models, training steps, precision, randomness and metrics on a GPU, compared with a CPU's.
#include <ATen/Context.h>
#include <torch/nn/modules/batchnorm.h>

#include <cmath>

#include "runners/evaluate/test_run.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "runners/start/run_config.hpp"
#include "runners/train/training_run.hpp"
#include "segcore/data/loader.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/evaluation/metric.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/models/data_preprocessor.hpp"
#include "segcore/models/nn/batch_norm.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/gpu.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using GpuModels = GpuTest;
using GpuTraining = GpuTest;
using GpuData = GpuTest;

std::string gpu_fixture(const char* name) {
  return source_path(std::string("tests/data/reference/mmseg/") + name + ".json");
}

constexpr const char* kGpuModels[] = {"segformer_mit-b0", "fcn_r50-d8"};

TEST_F(GpuModels, GiveTheNumbersOfPythonInSinglePrecision) {
  for (const char* name : kGpuModels) {
    const reference::Fixture fixture(gpu_fixture(name));
    const auto comparison = fixture.compare(/*single=*/true, {}, device());
    EXPECT_TRUE(comparison.holds()) << name << "\n" << comparison.text(/*failures_only=*/true);
  }
}

constexpr const char* kGpuSgd =
    "{type: OptimWrapper, optimizer: {type: SGD, lr: 0.001, momentum: 0.9, weight_decay: 0.0005}}";

/// The losses of a few steps on one batch, from the same weights on any device.
std::vector<double> gpu_losses(const char* fixture, const std::string& wrapper, c10::Device device,
                               int steps, at::Tensor* scale = nullptr) {
  Diagnostics problems;
  const auto model =
      Spec<Segmentor>::parse(reference::Fixture(gpu_fixture(fixture)).model(), "model", problems)
          ->build();
  reference::fill(*model, 1.0);
  set_drop_probability(*model, 0);
  model->to(device);
  model->train();
  const auto x = reference::image({2, 3, 64, 64}).to(device, torch::kFloat32);
  const auto y = reference::labels({2, 64, 64}, model->num_classes()).to(device);
  const auto optimizer = Spec<OptimWrapper>::of(wrapper).build(*model);
  std::vector<double> out;
  for (int i = 0; i < steps; ++i) {
    LossMap losses;
    {
      const auto precision = optimizer->precision();
      losses = model->loss(x, Targets(y));
    }
    const auto loss = total_loss(losses);
    optimizer->scale_loss(loss).backward();
    optimizer->step();
    out.push_back(loss.item<double>());
  }
  if (scale) {
    const Value state = optimizer->state_dict();
    const Value* scaler = state.find("loss_scaler");
    *scale = scaler ? at::scalar_tensor(scaler->at("scale").as_float(), at::kDouble) : at::Tensor();
  }
  return out;
}

TEST_F(GpuTraining, StepsAreThoseOfACpu) {
  for (const char* name : kGpuModels) {
    const auto expected = gpu_losses(name, kGpuSgd, c10::kCPU, 4);
    const auto found = gpu_losses(name, kGpuSgd, device(), 4);
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(found[i], expected[i], 2e-3 * std::abs(expected[i])) << name << ", step " << i;
    }
  }
}

TEST_F(GpuTraining, StepsOfAdamWAreThoseOfACpu) {
  const char* wrapper =
      "{type: OptimWrapper, optimizer: {type: AdamW, lr: 0.0001}, clip_grad: {max_norm: 1.0}}";
  const auto expected = gpu_losses("segformer_mit-b0", wrapper, c10::kCPU, 4);
  const auto found = gpu_losses("segformer_mit-b0", wrapper, device(), 4);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], 5e-3 * std::abs(expected[i])) << "step " << i;
  }
}

TEST_F(GpuTraining, MixedPrecisionStaysNearFullPrecision) {
  for (const char* name : kGpuModels) {
    const auto expected = gpu_losses(name, kGpuSgd, device(), 4);
    for (const char* dtype : {"float16", "bfloat16"}) {
      const std::string wrapper = std::string(
                                      "{type: AmpOptimWrapper, optimizer: {type: SGD, lr: 0.001, "
                                      "momentum: 0.9, weight_decay: 0.0005}, loss_scale: "
                                      "{init_scale: 1024, growth_interval: 2}, dtype: ") +
                                  dtype + "}";
      at::Tensor scale;
      const auto found = gpu_losses(name, wrapper, device(), 4, &scale);
      for (size_t i = 0; i < expected.size(); ++i) {
        EXPECT_NEAR(found[i], expected[i], 0.05 * std::abs(expected[i]))
            << name << ", " << dtype << ", step " << i;
      }
      // It grew twice in four finite steps.
      ASSERT_TRUE(scale.defined());
      EXPECT_EQ(scale.item<double>(), 4096) << name << ", " << dtype;
    }
  }
}

TEST_F(GpuTraining, AStepThatOverflowsIsLeftOut) {
  const std::string wrapper =
      "{type: AmpOptimWrapper, optimizer: {type: SGD, lr: 0.001}, loss_scale: {init_scale: "
      "1.0e38}, "
      "dtype: float16}";
  at::Tensor scale;
  const auto losses = gpu_losses("fcn_r50-d8", wrapper, device(), 2, &scale);
  EXPECT_LT(scale.item<double>(), 1e38);
  EXPECT_TRUE(std::isfinite(losses[1]));
}

/// Trains the tiny run on the GPU, and gives the last checkpoint.
Value gpu_run(const std::string& work_dir, const std::string& resume_from, c10::Device device,
              const std::vector<std::string>& more = {}) {
  const TempDir folder;
  const std::string path = folder.write("tiny.yaml", tiny_run_yaml());
  std::vector<std::string> overrides{"env_cfg.device=" + device.str(), "work_dir=" + work_dir,
                                     "optim_wrapper.cuda_graph=false"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  const RunConfig config = load_run_config(path, overrides, [&](Config& tree) {
    TrainOptions options;
    options.resume = !resume_from.empty();
    if (!resume_from.empty()) options.resume_from = resume_from;
    apply_options(tree, options);
  });
  run_training(config);
  return read_checkpoint(work_dir + "/iter_12.pth");
}

void expect_same_run(const Value& expected, const Value& found) {
  for (const char* part : {"state_dict", "ema_state_dict", "optimizer", "param_schedulers"}) {
    EXPECT_EQ(first_difference(expected.at(part), found.at(part)), "") << part;
  }
  EXPECT_EQ(first_difference(expected.at("segcore").at("generators"),
                             found.at("segcore").at("generators")),
            "");
}

TEST_F(GpuTraining, AResumedRunEndsBitForBitAsAnUninterruptedOne) {
  const TempDir whole, resumed;
  const Value expected = gpu_run(whole.path().string(), "", device());
  const Value found =
      gpu_run(resumed.path().string(), whole.path().string() + "/iter_4.pth", device());
  expect_same_run(expected, found);
}

TEST_F(GpuTraining, ARunThatRecomputesBlocksEndsBitForBitAsOneThatKeepsThem) {
  const TempDir fast, save;
  const Value expected = gpu_run(fast.path().string(), "", device());
  testing::internal::CaptureStdout();
  const Value found = gpu_run(save.path().string(), "", device(),
                              {"optim_wrapper.memory=save", "optim_wrapper.memory_limit=1MB"});
  EXPECT_NE(testing::internal::GetCapturedStdout().find("are recomputed in the backward pass"),
            std::string::npos);
  expect_same_run(expected, found);
}

TEST_F(GpuTraining, ReplayedStepsEndBitForBitAsSingleKernels) {
  need_module();
  const TempDir single, replayed;
  const Value expected = gpu_run(single.path().string(), "", device());
  testing::internal::CaptureStdout();
  const Value found =
      gpu_run(replayed.path().string(), "", device(), {"optim_wrapper.cuda_graph=auto"});
  EXPECT_NE(testing::internal::GetCapturedStdout().find("are replayed from a record"),
            std::string::npos);
  expect_same_run(expected, found);
}

TEST_F(GpuTraining, ResizingByProductsHasTheSameGradientInEveryRun) {
  torch::manual_seed(0);
  const auto options = at::TensorOptions(device());
  const auto x = torch::randn({2, 19, 32, 48}, options).requires_grad_();
  const auto weights = torch::randn({2, 19, 128, 192}, options);
  const auto gradient = [&](bool deterministic) {
    at::globalContext().setDeterministicAlgorithms(deterministic, /*warn_only=*/true);
    const auto y = resize(x, Size2(128, 192));
    at::globalContext().setDeterministicAlgorithms(false, /*warn_only=*/true);
    return torch::autograd::grad(std::vector<torch::Tensor>{(y * weights).sum()},
                                 std::vector<torch::Tensor>{x})[0];
  };
  const auto first = gradient(true);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(torch::equal(gradient(true), first));
  EXPECT_TRUE(torch::allclose(first, gradient(false), 1e-4, 1e-4));
}

/// Two processes with the same tensors.
class TwinProcesses final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 2; }
  void all_reduce_sum_(at::Tensor& tensor) override { tensor.mul_(2); }
  void broadcast_(at::Tensor&, int) override {}
  void barrier() override {}
};

TEST_F(GpuModels, SyncBatchNormIsThatOfACpu) {
  torch::manual_seed(0);
  const auto x = torch::randn({3, 8, 10, 10}), g = torch::randn({3, 8, 10, 10});
  TwinProcesses twins;
  const auto run = [&](c10::Device where) {
    const auto norm = Spec<Norm>::of("{type: SyncBN}").build(int64_t{8});
    norm->to(where);
    norm->train();
    set_communicator(*norm, &twins);
    const auto input = x.to(where).requires_grad_();
    const auto out = norm->forward(input);
    out.backward(g.to(where));
    std::vector<torch::Tensor> results{out.detach().cpu(), input.grad().cpu()};
    for (const auto& b : norm->buffers()) results.push_back(b.cpu().to(torch::kFloat32));
    return results;
  };
  const auto expected = run(c10::kCPU), found = run(device());
  ASSERT_EQ(expected.size(), found.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(torch::allclose(found[i], expected[i], 1e-4, 1e-5)) << i;
  }
}

TEST_F(GpuData, MetricsAreThoseOfACpu) {
  torch::manual_seed(0);
  DatasetMeta meta;
  for (const char* name : {"sky", "road", "tree"}) meta.classes.emplace_back(name);
  const auto spec = Spec<Metric>::of("{type: IoUMetric, iou_metrics: [mIoU, mDice, mFscore]}");
  const auto on_cpu = spec.build(meta), on_gpu = spec.build(meta);
  for (int i = 0; i < 3; ++i) {
    PackedSample sample;
    sample.labels = torch::randint(0, 3, {37, 53}, torch::kByte);
    sample.labels.masked_fill_(torch::rand({37, 53}) < 0.1, 255);
    const auto prediction = torch::randint(0, 3, {37, 53}, torch::kLong);
    on_cpu->process({.ids = prediction}, sample);
    on_gpu->process({.ids = prediction.to(device())}, sample);
  }
  SingleProcess alone;
  const auto expected = on_cpu->compute(alone), found = on_gpu->compute(alone);
  EXPECT_EQ(found.scalars, expected.scalars);
  EXPECT_EQ(found.per_class, expected.per_class);
}

std::unique_ptr<DataLoader> gpu_loader(const std::string& more) {
  Diagnostics problems;
  const auto params = Convert<DataLoaderParams>::from(
      parse_config("{batch_size: 2, num_workers: 2, dataset: {type: SyntheticShapesDataset, "
                   "num_samples: 8, size: [40, 48], pipeline: [{type: PackSegInputs}]}" +
                       more + "}",
                   "loader"),
      "loader", problems);
  return std::make_unique<DataLoader>(*params, LoaderPlace{});
}

TEST_F(GpuData, LoadersUsePageLockedMemoryUnlessDisabled) {
  const auto loader = gpu_loader("");
  loader->start();
  const auto batch = loader->next();
  ASSERT_TRUE(batch);
  EXPECT_TRUE(batch->samples[0].image.is_pinned());
  EXPECT_TRUE(batch->samples[0].labels.is_pinned());
  const auto plain = gpu_loader(", pin_memory: false");
  plain->start();
  EXPECT_FALSE(plain->next()->samples[0].image.is_pinned());
}

TEST_F(GpuData, ThePreprocessorGivesWhatItGivesOnACpu) {
  const auto preprocess =
      Spec<DataPreProcessor>::of(
          "{type: SegDataPreProcessor, mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, "
          "57.375], bgr_to_rgb: true, size: [64, 64], seg_pad_val: 255}")
          .build();
  const auto loader = gpu_loader("");
  loader->start();
  for (int i = 0; i < 8; ++i) {
    const auto batch = loader->next();
    ASSERT_TRUE(batch);
    const auto expected = (*preprocess)(*batch, /*training=*/true, c10::kCPU);
    const auto found = (*preprocess)(*batch, /*training=*/true, device());
    EXPECT_EQ(found.images.device(), device());
    EXPECT_TRUE(torch::allclose(found.images.cpu(), expected.images, 1e-6, 1e-6));
    EXPECT_TRUE(torch::equal(found.labels.cpu(), expected.labels));
  }
}

}  // namespace
}  // namespace seg::test
