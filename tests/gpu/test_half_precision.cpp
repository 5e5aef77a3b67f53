/// Mixed precision, waiting values, loaders and processes on a GPU.
#include <unistd.h>

#include "registry/yaml.hpp"
#include "runners/dist/nccl.hpp"
#include "runners/log/scalars.hpp"
#include "segcore/data/loader.hpp"
#include "segcore/models/assigners/assigner.hpp"
#include "segcore/models/blocks/point_sample.hpp"
#include "segcore/models/decode_heads/pixel_decoder.hpp"
#include "segcore/models/loss.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/precision.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/gpu.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

using GpuHalfPrecision = GpuTest;
using GpuScalars = GpuTest;
using GpuEdges = GpuTest;
using GpuProcesses = GpuTest;

/// The results of some steps of descent of a linear layer.
std::vector<torch::Tensor> gpu_steps_of_a_layer(c10::Device device, bool recomputed) {
  torch::manual_seed(0);
  const at::TensorOptions options(device);
  const auto x = torch::randn({4, 8}, options).requires_grad_();
  auto weight = torch::randn({8, 8}, options).requires_grad_();
  const auto layer = [&](const at::Tensor& in) { return at::linear(in, weight).square(); };
  std::vector<torch::Tensor> out;
  for (int step = 0; step < 3; ++step) {
    torch::Tensor y;
    {
      const Autocast precision(at::kCUDA, at::kHalf);
      y = recomputed ? recompute(layer, x) : layer(x);
    }
    y.sum().backward();
    out.push_back(y.detach().clone());
    const torch::NoGradGuard no_grad;
    weight.sub_(weight.grad() * 0.01);
    weight.mutable_grad().zero_();
  }
  return out;
}

TEST_F(GpuHalfPrecision, RecomputedBlocksSeeTheWeightsOfTheirStep) {
  const auto expected = gpu_steps_of_a_layer(device(), false);
  const auto found = gpu_steps_of_a_layer(device(), true);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(torch::equal(found[i], expected[i])) << "step " << i;
  }
}

TEST_F(GpuHalfPrecision, NeighbouringPointsOfALargeMaskStayApart) {
  const int64_t side = 4096;
  const at::TensorOptions options(device());
  const auto row = torch::arange(side, options).remainder(7).to(at::kHalf);
  const auto map = row.view({1, 1, 1, side}).expand({1, 1, 4, side}).contiguous();
  const auto x = (torch::arange(side, options.dtype(at::kFloat)) + 0.5) / static_cast<double>(side);
  const auto points = at::stack({x, torch::full_like(x, 0.5)}, 1).unsqueeze(0);
  const Autocast precision(at::kCUDA, at::kHalf);
  const auto values = point_sample(map, points);
  EXPECT_TRUE(torch::allclose(values.flatten(), row.to(at::kFloat), 1e-2, 1e-2));
}

TEST_F(GpuHalfPrecision, DeformableAttentionFindsItsPlacesOnWideMaps) {
  const auto decoder =
      Spec<MaskPixelDecoder>::of(
          "{type: MSDeformAttnPixelDecoder, num_outs: 1, strides: [4], positional_encoding: "
          "{num_feats: 16, normalize: true}, encoder: {num_layers: 1, layer_cfg: {self_attn_cfg: "
          "{embed_dims: 32, num_levels: 1, dropout: 0.0}, ffn_cfg: {embed_dims: 32, "
          "feedforward_channels: 64}}}}")
          .build(PixelDecoderInputs{{{8, 4}}, 32, 32});
  reference::fill(*decoder, 1);
  decoder->to(device());
  decoder->eval();
  const torch::NoGradGuard no_grad;
  const auto map = torch::randn({1, 8, 4, 1024}, at::TensorOptions(device()));
  const auto expected = decoder->forward({map}, {}).memories[0];
  const Autocast precision(at::kCUDA, at::kBFloat16);
  const auto found = decoder->forward({map}, {}).memories[0];
  const auto error = (found - expected).narrow(3, 512, 512).abs().mean().item<double>();
  EXPECT_LT(error, 0.02 * expected.abs().mean().item<double>());
}

TEST_F(GpuHalfPrecision, MatchesAsInFullPrecision) {
  const int64_t points = 12544;
  const at::TensorOptions options(device());
  MatchInputs in;
  in.scores = torch::zeros({2, 3}, options.dtype(at::kHalf));
  in.labels = torch::tensor({0, 1}, torch::kLong).to(device());
  in.gt_masks = torch::zeros({2, points}, options);
  in.gt_masks[0].narrow(0, 0, 9000).fill_(1);
  in.gt_masks[1].narrow(0, 3000, 9000).fill_(1);
  in.masks = torch::full({2, points}, -15.0f, options.dtype(at::kHalf));
  in.masks[0].narrow(0, 3500, 9000).fill_(15);
  in.masks[1].narrow(0, 300, 9000).fill_(15);
  const auto assigner = Spec<Assigner>::of(
                            "{type: HungarianAssigner, match_costs: [{type: FocalLossCost, "
                            "binary_input: true}, {type: CrossEntropyLossCost}, {type: DiceCost, "
                            "pred_act: true, eps: 1.0}]}")
                            .build();
  const Autocast precision(at::kCUDA, at::kHalf);
  EXPECT_EQ(assigner->assign(assigner->costs(in).to(at::kCPU)), (std::vector<int64_t>{1, 0}));
}

TEST_F(GpuHalfPrecision, LossesCountPixelsAboveTheRangeOfHalves) {
  const auto logits = (torch::randn({1, 2, 280, 250}) + 4).to(device());
  const auto labels = torch::randint(0, 2, {1, 280, 250}, torch::kLong).to(device());
  for (const char* name : {"JaccardLoss", "TverskyLoss"}) {
    const auto loss = build_loss(Spec<Loss>::of(std::string("{type: ") + name + "}"), 2);
    const double expected = loss->forward(logits, labels, {}, 255).item<double>();
    const Autocast precision(at::kCUDA, at::kHalf);
    EXPECT_NEAR(loss->forward(logits, labels, {}, 255).item<double>(), expected, 1e-5) << name;
  }
}

TEST_F(GpuHalfPrecision, WindowsAreResizedAndAveragedInFullPrecision) {
  const auto model = Spec<Segmentor>::of(
                         "{type: EncoderDecoder, backbone: {type: MixVisionTransformer, "
                         "embed_dims: 8, num_layers: [1, 1, 1, 1]}, decode_head: {type: "
                         "SegformerHead, channels: 16, num_classes: 5, norm_cfg: {type: BN}}, "
                         "test_cfg: {mode: slide, crop_size: [32, 32], stride: [20, 20]}}")
                         .build();
  model->to(device());
  model->eval();
  const torch::NoGradGuard no_grad;
  const Autocast precision(at::kCUDA, at::kHalf);
  const auto out = model->inference(torch::randn({1, 3, 48, 64}, at::TensorOptions(device())));
  EXPECT_EQ(out.scalar_type(), at::kFloat);
  EXPECT_FALSE(torch::equal(out.to(at::kHalf).to(at::kFloat), out));
}

TEST_F(GpuScalars, ValuesThatNobodyReadsAreFetchedInTime) {
  ScalarHistory history(/*length=*/1000);
  const auto before = take_peak_memory_mb(device());
  // A megabyte each, unless the value alone is kept.
  for (int i = 0; i < 600; ++i) {
    history.record(
        "loss",
        torch::full({1, 262144}, i, at::TensorOptions(device()).dtype(at::kFloat)).slice(1, 0, 1));
  }
  ASSERT_TRUE(before);
  EXPECT_LT(*take_peak_memory_mb(device()), *before + 300);
  EXPECT_EQ(history.current("loss"), 599);
  EXPECT_EQ(history.min("loss", 0), 0);
}

TEST_F(GpuEdges, OfALoaderArePageLocked) {
  Diagnostics problems;
  const auto params = Convert<DataLoaderParams>::from(
      parse_config("{batch_size: 1, num_workers: 1, dataset: {type: SyntheticShapesDataset, "
                   "num_samples: 2, size: [40, 48], pipeline: [{type: GenerateEdge, edge_width: "
                   "3}, {type: PackSegInputs}]}}",
                   "loader"),
      "loader", problems);
  DataLoader loader(*params, LoaderPlace{});
  loader.start();
  const auto batch = loader.next();
  ASSERT_TRUE(batch);
  ASSERT_TRUE(batch->samples[0].edges.defined());
  EXPECT_TRUE(batch->samples[0].edges.is_pinned());
}

TEST_F(GpuProcesses, OnOneGpuAreAMistakeAndNotALostPeer) {
  need_module();
  if (IsSkipped()) return;
  if (!nccl_factory()) GTEST_SKIP() << "built without NCCL";
  const TempDir dir;
  const std::string config = dir.write("tiny.yaml", tiny_run_yaml());
  const auto results =
      run_ranks(2, "train " + config + " --work-dir " + (dir / "two") +
                       " --cfg-options env_cfg.device=cuda:0 train_dataloader.batch_size=2");
  bool told = false;
  for (const auto& result : results) {
    EXPECT_NE(result.status, 0) << result.output;
    told = told || result.output.find("two processes use the same GPU") != std::string::npos;
  }
  EXPECT_TRUE(told) << results[0].output;
}

}  // namespace
}  // namespace seg::test
