/// Several processes on GPUs.
#include <ATen/DeviceAccelerator.h>
#include <torch/nn/modules/linear.h>
#include <unistd.h>

#include "runners/dist/nccl.hpp"
#include "runners/dist/process_group.hpp"
#include "runners/dist/reducer.hpp"
#include "segcore/torch.hpp"
#include "tests/support/gpu.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

class Nccl : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    need_module();
    if (!IsSkipped() && !nccl_factory()) GTEST_SKIP() << "built without NCCL";
  }
};

TEST_F(Nccl, OneProcessSumsSendsAndReducesGradients) {
  Rendezvous place{.host = "127.0.0.1",
                   .port = free_port(),
                   .runs_store = true,
                   .timeout_s = 60,
                   .backend = "nccl",
                   .device = device()};
  const auto group = join_process_group(place);
  auto on_gpu = torch::arange(5, at::TensorOptions(device()).dtype(torch::kFloat32));
  group->all_reduce_sum_(on_gpu);
  EXPECT_TRUE(torch::equal(on_gpu.cpu(), torch::arange(5, torch::kFloat32)));
  auto on_cpu = torch::arange(5, torch::kLong);
  group->all_reduce_sum_(on_cpu);
  group->broadcast_(on_gpu, 0);
  group->barrier();

  torch::nn::Linear layer(4, 3);
  layer->to(device());
  const auto reducer = make_reducer(*group, *layer, {});
  ASSERT_TRUE(reducer);
  const auto x = torch::randn({2, 4}, at::TensorOptions(device()));
  for (int step = 0; step < 3; ++step) {
    layer->zero_grad(/*set_to_none=*/false);
    reducer->before_forward();
    const auto loss = layer->forward(x).square().sum();
    reducer->backward(loss);
    const auto expected =
        torch::autograd::grad(std::vector<torch::Tensor>{layer->forward(x).square().sum()},
                              std::vector<torch::Tensor>{layer->weight})[0];
    EXPECT_TRUE(torch::allclose(layer->weight.grad(), expected, 1e-4, 1e-5)) << step;
  }
}

TEST_F(Nccl, TwoProcessesTrainLikeOne) {
  if (at::accelerator::deviceCount() < 2) GTEST_SKIP() << "needs 2 GPUs";
  const TempDir dir;
  const std::string config = dir.write("tiny.yaml", tiny_run_yaml());
  const auto results =
      run_ranks(2, "train " + config + " --work-dir " + (dir / "two") +
                       " --cfg-options env_cfg.device=cuda train_dataloader.batch_size=2");
  for (const auto& result : results) EXPECT_EQ(result.status, 0) << result.output;
}

}  // namespace
}  // namespace seg::test
