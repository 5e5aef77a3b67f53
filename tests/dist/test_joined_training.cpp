/// Several processes train as one does on their joined batch: in double precision, where nothing
/// hides behind rounding, and as users start them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "registry/text.hpp"
#include "runners/dist/process_group.hpp"
#include "runners/dist/reducer.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"
#include "segcore/models/nn/uses_communicator.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_run.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

constexpr int kSteps = 20;

const char* fcn_yaml() {
  return R"(
type: EncoderDecoder
backbone: {type: ResNetV1c, depth: 18, base_channels: 4, stem_channels: 8, norm_cfg: {type: SyncBN},
           norm_eval: false, strides: [1, 2, 1, 1], dilations: [1, 1, 2, 4], contract_dilation: true}
decode_head: {type: FCNHead, in_channels: 32, in_index: 3, channels: 8, num_convs: 1, dropout_ratio: 0,
              num_classes: 3, norm_cfg: {type: SyncBN}, align_corners: false,
              loss_decode: {type: CrossEntropyLoss, use_sigmoid: false, loss_weight: 1.0}}
auxiliary_head: {type: FCNHead, in_channels: 16, in_index: 2, channels: 4, num_convs: 1, dropout_ratio: 0,
                 num_classes: 3, norm_cfg: {type: SyncBN}, align_corners: false,
                 loss_decode: {type: CrossEntropyLoss, use_sigmoid: false, loss_weight: 0.4}}
)";
}

const char* segformer_yaml() {
  return R"(
type: EncoderDecoder
backbone: {type: MixVisionTransformer, embed_dims: 8, num_stages: 4, num_layers: [1, 1, 1, 1],
           num_heads: [1, 2, 4, 8], patch_sizes: [7, 3, 3, 3], strides: [4, 2, 2, 2],
           sr_ratios: [2, 1, 1, 1], out_indices: [0, 1, 2, 3], mlp_ratio: 2, drop_rate: 0.0,
           drop_path_rate: 0.0}
decode_head: {type: SegformerHead, in_channels: [8, 16, 32, 64], in_index: [0, 1, 2, 3], channels: 8,
              dropout_ratio: 0, num_classes: 3, norm_cfg: {type: SyncBN}, align_corners: false,
              loss_decode: {type: CrossEntropyLoss, use_sigmoid: false, loss_weight: 1.0}}
)";
}

const char* mobilevit_yaml() {
  return R"(
type: EncoderDecoder
backbone: {type: MobileViT, stem_channels: 4, norm_cfg: {type: SyncBN}, out_indices: [4],
           arch: [[mobilenetv2, 4, 1, 1, 2], [mobilenetv2, 8, 2, 1, 2], [mobilevit, 8, 2, 8, 16, 1, 2],
                  [mobilevit, 12, 2, 12, 24, 1, 2], [mobilevit, 16, 2, 16, 32, 1, 2]]}
decode_head: {type: FCNHead, in_index: 0, channels: 8, num_convs: 1, dropout_ratio: 0, num_classes: 3,
              norm_cfg: {type: SyncBN}, align_corners: false,
              loss_decode: {type: CrossEntropyLoss, use_sigmoid: false, loss_weight: 1.0}}
)";
}

/// All classes weigh the same: a weighted mean over one rank's queries is not the share of the mean
/// over all.
const char* mask2former_yaml() {
  return R"(
type: EncoderDecoder
backbone: {type: ResNet, depth: 18, base_channels: 4, stem_channels: 4, norm_cfg: {type: SyncBN},
           norm_eval: false, deep_stem: false, out_indices: [0, 1, 2, 3]}
decode_head:
  type: Mask2FormerHead
  in_channels: [4, 8, 16, 32]
  strides: [4, 8, 16, 32]
  feat_channels: 16
  out_channels: 16
  num_classes: 3
  num_queries: 5
  num_transformer_feat_level: 3
  align_corners: false
  pixel_decoder:
    type: MSDeformAttnPixelDecoder
    num_outs: 3
    norm_cfg: {type: GN, num_groups: 4}
    act_cfg: {type: ReLU}
    encoder:
      num_layers: 1
      layer_cfg:
        self_attn_cfg: {embed_dims: 16, num_heads: 2, num_levels: 3, num_points: 2, dropout: 0.0}
        ffn_cfg: {embed_dims: 16, feedforward_channels: 32, num_fcs: 2, ffn_drop: 0.0}
    positional_encoding: {num_feats: 8, normalize: true}
  enforce_decoder_input_project: false
  positional_encoding: {num_feats: 8, normalize: true}
  transformer_decoder:
    return_intermediate: true
    num_layers: 2
    layer_cfg:
      self_attn_cfg: &attention {embed_dims: 16, num_heads: 2, attn_drop: 0.0, proj_drop: 0.0}
      cross_attn_cfg: *attention
      ffn_cfg: {embed_dims: 16, feedforward_channels: 32, num_fcs: 2, ffn_drop: 0.0}
  loss_cls: {type: CrossEntropyLoss, use_sigmoid: false, loss_weight: 2.0, reduction: mean,
             class_weight: [1.0, 1.0, 1.0, 1.0]}
  loss_mask: {type: CrossEntropyLoss, use_sigmoid: true, reduction: mean, loss_weight: 5.0}
  loss_dice: {type: DiceLoss, use_sigmoid: true, activate: true, reduction: mean, naive_dice: true,
              eps: 1.0, loss_weight: 5.0}
  train_cfg:
    num_points: 64
    oversample_ratio: 3.0
    importance_sample_ratio: 0.75
    assigner:
      type: HungarianAssigner
      match_costs:
      - {type: ClassificationCost, weight: 2.0}
      - {type: CrossEntropyLossCost, weight: 5.0, use_sigmoid: true}
      - {type: DiceCost, weight: 5.0, pred_act: true, eps: 1.0}
)";
}

std::string san_yaml() {
  return R"(
type: MultimodalEncoderDecoder
asymetric_input: true
encoder_resolution: 0.5
image_encoder: {type: VisionTransformer, img_size: 16, patch_size: 4, patch_pad: 0, embed_dims: 16, num_layers: 2,
                num_heads: 2, mlp_ratio: 2, out_origin: true, out_indices: [0, 1], output_cls_token: true,
                pre_norm: true, act_cfg: {type: QuickGELU}, frozen_exclude: [pos_embed]}
text_encoder: {type: CLIPTextEncoder, vocabulary: [car, tree, road], embed_dims: 8, num_layers: 1, num_heads: 2,
               output_dims: 8, total_vocab_size: 547, vocabulary_file: )" +
         source_path("tests/data/open_vocabulary/vocabulary.txt") + R"(}
decode_head:
  type: SideAdapterCLIPHead
  num_classes: 3
  deep_supervision_idxs: [1]
  san_cfg: {clip_channels: 16, embed_dims: 16, patch_size: 8, num_queries: 5, fusion_index: [0, 1, 2],
            cfg_encoder: {num_encode_layer: 2, num_heads: 2, mlp_ratio: 2},
            cfg_decoder: {num_heads: 2, num_layers: 1, embed_channels: 8, mlp_channels: 8, num_mlp: 2}}
  maskgen_cfg: {sos_token_num: 5, num_layers: 1, embed_dims: 16, num_heads: 2, mlp_ratio: 2, out_dims: 8}
  train_cfg:
    num_points: 64
    assigner:
      type: HungarianAssigner
      match_costs:
      - {type: ClassificationCost, weight: 2.0}
      - {type: CrossEntropyLossCost, weight: 5.0, use_sigmoid: true}
      - {type: DiceCost, weight: 5.0, pred_act: true, eps: 1.0}
  loss_decode:
  - {type: CrossEntropyLoss, loss_name: loss_cls_ce, loss_weight: 2.0}
  - {type: CrossEntropyLoss, use_sigmoid: true, loss_name: loss_mask_ce, loss_weight: 5.0}
  - {type: DiceLoss, naive_dice: true, eps: 1, loss_name: loss_mask_dice, loss_weight: 5.0}
)";
}

/// The same numbers for each image or mask, so that they do not depend on what else is in a batch.
at::Tensor same_for_each(at::IntArrayRef shape, const at::TensorOptions& options) {
  const int64_t count = at::empty(shape).numel() / std::max<int64_t>(shape[0], 1);
  const at::Tensor row = at::remainder(at::arange(count, at::kDouble) * 0.6180339887498949, 1.0);
  std::vector<int64_t> one(shape.begin(), shape.end());
  one[0] = 1;
  return row.view(one).expand(shape).to(options).contiguous();
}

std::shared_ptr<Segmentor> double_model(const std::string& yaml) {
  torch::manual_seed(3);
  auto model = Spec<Segmentor>::of(yaml).build();
  model->init_weights();
  model->to(torch::kFloat64);
  model->train();
  set_random_source(*model, same_for_each);
  return model;
}

struct TrainingData {
  at::Tensor images, labels;
};

TrainingData training_data() {
  torch::manual_seed(5);
  TrainingData out{torch::randn({4, 3, 64, 64}, torch::kFloat64),
                   torch::zeros({4, 64, 64}, torch::kLong)};
  // As many classes in each image: the number of masks is what losses are divided by.
  for (int64_t i = 0; i < 4; ++i) {
    out.labels[i].slice(0, 8 + 4 * i, 40).fill_(1);
    out.labels[i].slice(1, 30, 50 + 2 * i).fill_(2);
  }
  return out;
}

/// \return the loss of each step.
std::vector<double> train(Segmentor& model, const TrainingData& data, GradientReducer* reducer) {
  std::vector<double> out;
  for (int step = 0; step < kSteps; ++step) {
    model.zero_grad(/*set_to_none=*/reducer == nullptr);
    if (reducer) reducer->before_forward();
    const at::Tensor loss = total_loss(model.loss(data.images, Targets(data.labels)));
    if (reducer) {
      reducer->backward(loss);
    } else {
      loss.backward();
    }
    const torch::NoGradGuard no_grad;
    for (at::Tensor& weight : model.parameters()) {
      if (weight.grad().defined()) weight.add_(weight.grad(), -0.01);
    }
    out.push_back(loss.item<double>());
  }
  return out;
}

struct JoinedCase {
  const char* name;
  std::string yaml;
  double tolerance;
};

class JoinedTraining : public ::testing::TestWithParam<JoinedCase> {};

TEST_P(JoinedTraining, IsThatOfTheJoinedBatchInDoublePrecision) {
  const std::string yaml = GetParam().yaml;
  const TrainingData data = training_data();
  const auto alone = double_model(yaml);
  const std::vector<double> expected = train(*alone, data, nullptr);
  ASSERT_LT(expected.back(), expected.front());

  constexpr int kRanks = 2;
  std::vector<std::shared_ptr<Segmentor>> models;
  for (int rank = 0; rank < kRanks; ++rank) models.push_back(double_model(yaml));
  std::vector<std::vector<double>> losses(kRanks);
  const int port = free_port();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto k = static_cast<size_t>(rank);
      const auto communicator = join_process_group({.rank = rank,
                                                    .size = kRanks,
                                                    .host = "127.0.0.1",
                                                    .port = port,
                                                    .runs_store = rank == 0,
                                                    .timeout_s = 60});
      set_communicator(*models[k], communicator.get());
      const auto reducer = make_reducer(*communicator, *models[k], {});
      const TrainingData mine{data.images.chunk(kRanks)[rank], data.labels.chunk(kRanks)[rank]};
      losses[k] = train(*models[k], mine, reducer.get());
      communicator->barrier();
    });
  }
  for (auto& thread : threads) thread.join();

  for (int step = 0; step < kSteps; ++step) {
    const auto i = static_cast<size_t>(step);
    const double mean = (losses[0][i] + losses[1][i]) / kRanks;
    EXPECT_NEAR(mean / expected[i], 1, GetParam().tolerance) << "step " << step;
  }
  const auto weights = alone->named_parameters();
  for (const auto& item : models[1]->named_parameters()) {
    const double most = weights[item.key()].abs().max().item<double>();
    const double difference = (item.value() - weights[item.key()]).abs().max().item<double>();
    EXPECT_LE(difference, 1e-7 * std::max(most, 1e-3)) << item.key();
  }
}

/// The losses of a run's steps, as it recorded them.
std::vector<double> recorded_losses(const fs::path& work_dir) {
  std::vector<double> out;
  for (const auto& entry : fs::recursive_directory_iterator(work_dir)) {
    if (entry.path().filename() != "scalars.json") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      const auto row = nlohmann::json::parse(line);
      if (row.contains("loss")) out.push_back(row.at("loss"));
    }
  }
  return out;
}

TEST(JoinedRuns, TwoAndFourProcessesHaveTheLossesOfOne) {
  const TempDir dir;
  dir.write("tiny.yaml", tiny_run_yaml());
  const std::string fixed =
      "default_hooks: {checkpoint: null}\ncustom_hooks: null\n"
      "train_dataloader: {sampler: {type: DefaultSampler, shuffle: true}, drop_last: true}\n"
      "param_scheduler: null\ntrain_cfg: {max_iters: 20, val_interval: 100}\n";
  dir.write("segformer.yaml", "_base_: tiny.yaml\n" + fixed + R"(model:
  backbone: {drop_rate: 0.0, drop_path_rate: 0.0}
  decode_head: {dropout_ratio: 0, norm_cfg: {type: SyncBN}}
)");
  dir.write("fcn.yaml", "_base_: tiny.yaml\n" + fixed + R"(model:
  backbone: {_delete_: true, type: ResNetV1c, depth: 18, base_channels: 4, stem_channels: 8,
             norm_cfg: {type: SyncBN}, norm_eval: false}
  decode_head: {_delete_: true, type: FCNHead, in_channels: 32, in_index: 3, channels: 8, num_convs: 1,
                dropout_ratio: 0, num_classes: 5, norm_cfg: {type: SyncBN}, align_corners: false,
                loss_decode: {type: CrossEntropyLoss, use_sigmoid: false, loss_weight: 1.0}}
# At ten times the rate a step enlarges differences of rounding several times: norms have 8 values.
optim_wrapper: {optimizer: {lr: 0.0003}}
)");
  const std::vector<std::pair<std::string, double>> models{{"segformer", 1e-4}, {"fcn", 1e-6}};
  for (const auto& [model, tolerance] : models) {
    std::vector<double> expected;
    for (const int processes : {1, 2, 4}) {
      const std::string work_dir = dir / text(model, processes);
      const CommandResult run =
          run_command(text("OMP_NUM_THREADS=1 ", program_path("train"), " ",
                           dir / (model + ".yaml"), " --work-dir ", work_dir, " --nproc ",
                           processes, " --cfg-options train_dataloader.batch_size=", 8 / processes,
                           " train_dataloader.dataset.num_samples=16"));
      ASSERT_EQ(run.status, 0) << run.output;
      const auto losses = recorded_losses(work_dir);
      ASSERT_EQ(losses.size(), 20u);
      if (processes == 1) expected = losses;
      for (size_t i = 0; i < losses.size(); ++i) {
        EXPECT_NEAR(losses[i] / expected[i], 1, tolerance)
            << model << ' ' << processes << " step " << i;
      }
    }
  }
}

// Losses of masks divide by their number plus 1.2e-7, as MMDetection's do, which is another share
// of the masks of one rank than of all.
INSTANTIATE_TEST_SUITE_P(Models, JoinedTraining,
                         ::testing::Values(JoinedCase{"FcnWithSyncBn", fcn_yaml(), 1e-9},
                                           JoinedCase{"Segformer", segformer_yaml(), 1e-9},
                                           JoinedCase{"MobileViT", mobilevit_yaml(), 1e-9},
                                           JoinedCase{"Mask2Former", mask2former_yaml(), 1e-8},
                                           JoinedCase{"San", san_yaml(), 1e-8}),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace seg::test
