// Blocks of whole models that are recomputed: numbers stay, bit for bit.
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "segcore/models/backbone.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/recomputation_plan.hpp"
#include "segcore/models/nn/uses_communicator.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/precision.hpp"
#include "segcore/testing/parity.hpp"
#include "segcore/testing/reference.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/thread_ranks.hpp"

namespace seg {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

/// Which blocks a step keeps.
enum class Blocks { kAllKept, kAllRecomputed, kEverySecondKept };

struct StepNumbers {
  Tensors tensors;  ///< gradients and buffers
  std::vector<BlockCost> costs;
};

/// Losses of a model and what they leave behind.
StepNumbers step_numbers(Segmentor& model, const std::function<LossMap()>& loss, Blocks blocks) {
  RecomputationPlan plan(model);
  if (blocks == Blocks::kEverySecondKept) {
    // More than any model has.
    std::vector<bool> kept(1000);
    for (size_t i = 0; i < kept.size(); i += 2) kept[i] = true;
    plan.follow(kept);
  }
  torch::manual_seed(1);
  at::Tensor total;
  {
    std::optional<FollowsPlan> scope;
    if (blocks != Blocks::kAllKept) scope.emplace(plan);
    total = total_loss(loss());
  }
  total.backward();
  StepNumbers out;
  out.costs = plan.costs();
  for (const auto& item : model.named_parameters()) {
    if (item.value().grad().defined()) out.tensors["grad " + item.key()] = item.value().grad();
  }
  for (const auto& item : model.named_buffers()) out.tensors[item.key()] = item.value().clone();
  return out;
}

void expect_same_bits(const Tensors& expected, const Tensors& found) {
  ASSERT_EQ(expected.size(), found.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_TRUE(at::equal(tensor, found.at(name))) << name;
  }
}

// --- Every backbone -----------------------------------------------------------------------------

std::string type_in(const nlohmann::json& model, const char* part) {
  return model.contains(part) && model[part].is_object() ? model[part].value("type", "") : "";
}

/// The smallest fixture of each pair of a model's type and its backbone's.
std::vector<std::string> fixtures_of_backbones() {
  std::map<std::string, std::pair<int64_t, std::string>> smallest;
  for (const auto& file : reference::fixtures_below(source_path("tests/data/reference"))) {
    const auto json = nlohmann::json::parse(std::ifstream(file));
    const auto elements = json.at("state").at("elements").get<int64_t>();
    constexpr int64_t kLarge = 60'000'000;
    if (!json.contains("losses") || !json.contains("model") || elements > kLarge) continue;
    const std::string types = type_in(json, "model") + type_in(json["model"], "backbone");
    const auto [found, fresh] = smallest.try_emplace(types, elements, file);
    if (!fresh && elements < found->second.first) found->second = {elements, file};
  }
  std::vector<std::string> out;
  for (const auto& [types, file] : smallest) out.push_back(file.second);
  return out;
}

class RecomputesBackbone : public ::testing::TestWithParam<std::string> {};

TEST_P(RecomputesBackbone, WithTheSameNumbers) {
  at::set_num_threads(1);
  const reference::Fixture fixture(GetParam());
  const auto json = nlohmann::json::parse(std::ifstream(GetParam()));
  Diagnostics problems;
  const auto spec = Spec<Segmentor>::parse(fixture.model(), "model", problems);
  ASSERT_TRUE(spec) << problems.text();
  const auto shape = json.at("input").get<std::vector<int64_t>>();
  const auto run = [&](Blocks blocks) {
    torch::manual_seed(0);
    const auto model = spec->build();
    reference::fill(*model, json.value("gain", 1.0));
    model->train();
    const std::vector<int64_t> size{shape.at(0), shape.at(2), shape.at(3)};
    Targets targets(torch::Tensor(), reference::edges(size),
                    json.value("img_shapes", std::vector<std::array<int64_t, 2>>{}));
    if (spec->facts().estimates_depth) {
      targets.depth = reference::depth(size).to(at::kFloat);
    } else {
      targets.labels = reference::labels(size, json.at("classes"), !json.contains("labels"));
    }
    targets.categories = json.value("categories", std::vector<int64_t>{});
    const auto images = reference::image(shape).to(at::kFloat);
    return step_numbers(
        *model, [&] { return model->loss(images, targets); }, blocks);
  };
  const auto kept = run(Blocks::kAllKept), recomputed = run(Blocks::kAllRecomputed);
  expect_same_bits(kept.tensors, recomputed.tensors);
  const auto& backbone = json.at("model").at("backbone");
  const bool always_recomputes = type_in(json["model"], "backbone") == "VPD" ||
                                 (backbone.is_object() && backbone.value("with_cp", false));
  if (always_recomputes) return;
  int64_t saved = 0;
  for (const BlockCost& cost : recomputed.costs) saved += std::max<int64_t>(cost.bytes, 0);
  EXPECT_GT(saved, 0);
}

std::string fixture_name(const ::testing::TestParamInfo<std::string>& info) {
  const std::filesystem::path path(info.param);
  std::string name = path.parent_path().filename().string() + "_" + path.stem().string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Fixtures, RecomputesBackbone, ::testing::ValuesIn(fixtures_of_backbones()),
                         fixture_name);

/// Backbones without fixtures, or of which those have no losses.
const char* const kOtherBackbones[] = {
    "{type: InternImage, channels: 8, depths: [1, 1, 2, 1], groups: [1, 2, 2, 4], "
    "drop_path_rate: 0.3}",
    "{type: MobileViT, stem_channels: 4, arch: [[mobilenetv2, 4, 1, 1, 2], [mobilenetv2, 8, 2, 3, "
    "2], [mobilevit, 8, 2, 8, 16, 2, 2], [mobilevit, 12, 2, 12, 24, 4, 2], [mobilevit, 16, 2, 16, "
    "32, 3, 2]]}",
    "{type: ViTAdapter, embed_dim: 16, depth: 4, num_heads: 2, drop_path_rate: 0.3, conv_inplane: "
    "8, deform_num_heads: 2, interaction_indexes: [[0, 0], [1, 1], [2, 2], [3, 3]]}",
    "{type: SeMaskSwinTransformer, embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [1, 1, 2, 2], "
    "num_cls: 5, sem_window_size: 4, window_size: 4, num_sem_blocks: [1, 1, 1, 1]}",
    "{type: ENet}",
    "{type: SegNet, depth: 11}",
    "{type: VGG, depth: 11, with_bn: true}",
    "{type: CropConcatUNet, base_channels: 4, num_stages: 3}",
    "{type: PlainConvUNet, base_channels: 4, num_stages: 4, out_indices: [0, 1, 2]}",
    "{type: StackingNet, in_channels: 3, base_channels: 16}",
    "{type: SmpEncoder, name: resnet18}",
    "{type: SmpEncoder, name: mobilenet_v2}",
    "{type: SmpEncoder, name: efficientnet-b0}",
    "{type: SmpEncoder, name: densenet121}",
    "{type: SmpEncoder, name: xception}",
    "{type: SmpEncoder, name: tu-convnext_atto}",
};

class RecomputesOtherBackbone : public ::testing::TestWithParam<const char*> {};

/// Operators that run while one lives, in this thread.
class OperatorCount {
 public:
  OperatorCount()
      : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(
            [](const at::RecordFunction&) -> std::unique_ptr<at::ObserverContext> {
              ++count;
              return nullptr;
            }))) {
    count = 0;
  }
  ~OperatorCount() { at::removeCallback(handle_); }
  OperatorCount(const OperatorCount&) = delete;
  OperatorCount& operator=(const OperatorCount&) = delete;
  inline static thread_local int64_t count = 0;

 private:
  at::CallbackHandle handle_;
};

struct BackboneNumbers {
  Tensors gradients, buffers;
  int64_t saved = 0;  ///< bytes, by a plan
  int64_t backward_operators = 0;
};

BackboneNumbers backbone_numbers(const std::string& config, bool recomputes) {
  at::set_num_threads(1);
  torch::manual_seed(0);
  const auto model = Spec<Backbone>::of(config).build();
  model->init_weights();
  model->train();
  RecomputationPlan plan(*model);
  at::Tensor loss;
  {
    const RecomputesBlocks with_cp(&model->recomputed_blocks());
    std::optional<FollowsPlan> scope;
    if (recomputes) scope.emplace(plan);
    for (const auto& map : model->forward(reference::image({2, 3, 64, 64}).to(at::kFloat))) {
      loss = loss.defined() ? loss + map.square().mean() : map.square().mean();
    }
  }
  BackboneNumbers out;
  {
    const OperatorCount counting;
    loss.backward();
    out.backward_operators = OperatorCount::count;
  }
  for (const auto& item : model->named_parameters()) {
    if (item.value().grad().defined()) out.gradients[item.key()] = item.value().grad();
  }
  for (const auto& item : model->named_buffers()) out.buffers[item.key()] = item.value();
  for (const BlockCost& cost : plan.costs()) out.saved += std::max<int64_t>(cost.bytes, 0);
  return out;
}

TEST_P(RecomputesOtherBackbone, WithTheSameNumbers) {
  const auto kept = backbone_numbers(GetParam(), false);
  const auto recomputed = backbone_numbers(GetParam(), true);
  expect_same_bits(kept.gradients, recomputed.gradients);
  expect_same_bits(kept.buffers, recomputed.buffers);
  EXPECT_EQ(kept.saved, 0);
  EXPECT_GT(recomputed.saved, 0);
}

TEST_P(RecomputesOtherBackbone, RunsItsBlocksTwiceUnderWithCp) {
  std::string with_cp = GetParam();
  const bool is_semask = with_cp.find("SeMask") != std::string::npos;
  with_cp.insert(with_cp.size() - 1, is_semask ? ", use_checkpoint: true" : ", with_cp: true");
  const auto once = backbone_numbers(GetParam(), false), twice = backbone_numbers(with_cp, false);
  expect_same_bits(once.gradients, twice.gradients);
  EXPECT_GT(twice.backward_operators, once.backward_operators);
}

INSTANTIATE_TEST_SUITE_P(Types, RecomputesOtherBackbone, ::testing::ValuesIn(kOtherBackbones));

// --- A small model ------------------------------------------------------------------------------

std::shared_ptr<Segmentor> small_model(const std::string& options = "", const char* norm = "BN") {
  torch::manual_seed(0);
  auto model =
      Spec<Segmentor>::of(
          text("{type: EncoderDecoder, backbone: {type: ResNet, depth: 18, base_channels: 4, "
               "stem_channels: 4, norm_cfg: {type: ",
               norm, "}", options,
               "}, decode_head: {type: FCNHead, in_channels: 32, in_index: 3, channels: 8, "
               "dropout_ratio: 0.3, num_classes: 3, norm_cfg: {type: ",
               norm, "}}}"))
          .build();
  model->train();
  return model;
}

LossMap small_loss(Segmentor& model) {
  return model.loss(reference::image({2, 3, 64, 64}).to(at::kFloat),
                    reference::labels({2, 64, 64}, 3));
}

Tensors small_numbers(Blocks blocks, const std::string& options) {
  const auto model = small_model(options);
  return step_numbers(
             *model, [&] { return small_loss(*model); }, blocks)
      .tensors;
}

TEST(RecomputationPlan, KeepsTheBlocksItIsToldTo) {
  for (const char* options : {"", ", with_cp: true"}) {
    const auto kept = small_numbers(Blocks::kAllKept, options);
    expect_same_bits(kept, small_numbers(Blocks::kAllRecomputed, options));
    expect_same_bits(kept, small_numbers(Blocks::kEverySecondKept, options));
  }
}

TEST(RecomputationPlan, LeavesStatisticsUnderWithCpAsTheyAre) {
  const auto once = small_numbers(Blocks::kAllKept, "");
  const auto twice = small_numbers(Blocks::kAllKept, ", with_cp: true");
  const std::string counter = "backbone.layer1.0.bn1.num_batches_tracked";
  EXPECT_EQ(once.at(counter).item<int64_t>(), 1);
  EXPECT_EQ(twice.at(counter).item<int64_t>(), 2);
  expect_same_bits(twice, small_numbers(Blocks::kAllRecomputed, ", with_cp: true"));
}

TEST(WithCp, FollowsABatchOnceBehindWhatIsFrozen) {
  // MMSegmentation recomputes where the input has a gradient.
  const auto plain = small_numbers(Blocks::kAllKept, ", frozen_stages: 0");
  const auto again = small_numbers(Blocks::kAllKept, ", frozen_stages: 0, with_cp: true");
  const auto batches = [&](const std::string& block) {
    return again.at("backbone." + block + ".bn1.num_batches_tracked").item<int64_t>();
  };
  EXPECT_EQ(batches("layer1.0"), 1);
  EXPECT_EQ(batches("layer1.1"), 2);
  for (const auto& [name, tensor] : plain) {
    if (!name.starts_with("grad")) continue;
    EXPECT_TRUE(at::equal(tensor, again.at(name))) << name;
  }
}

TEST(RecomputationPlan, HasTheSameNumbersInMixedPrecision) {
  const auto numbers = [](Blocks blocks) {
    const auto model = small_model();
    const auto loss = [&] {
      const Autocast precision(at::kCPU, at::kBFloat16);
      return small_loss(*model);
    };
    return step_numbers(*model, loss, blocks).tensors;
  };
  expect_same_bits(numbers(Blocks::kAllKept), numbers(Blocks::kAllRecomputed));
}

TEST(RecomputationPlan, OneProcessMayRecomputeWhereAnotherKeeps) {
  at::set_num_threads(1);
  const auto of_ranks = [](bool second_recomputes, const char* options) {
    std::array<Tensors, 2> out;
    std::array<std::shared_ptr<Segmentor>, 2> models{small_model(options, "SyncBN"),
                                                     small_model(options, "SyncBN")};
    // Dropout draws from a generator that threads share.
    for (const auto& model : models) set_drop_probability(*model, 0);
    test::run_thread_ranks(2, [&](test::ThreadCommunicator& communicator) {
      const auto rank = static_cast<size_t>(communicator.rank());
      auto& model = *models[rank];
      set_communicator(model, &communicator);
      const bool recomputes = second_recomputes && rank == 1;
      out[rank] = step_numbers(
                      model, [&] { return small_loss(model); },
                      recomputes ? Blocks::kAllRecomputed : Blocks::kAllKept)
                      .tensors;
    });
    return out;
  };
  for (const char* options : {"", ", with_cp: true"}) {
    const auto kept = of_ranks(false, options), mixed = of_ranks(true, options);
    for (const size_t rank : {0, 1}) expect_same_bits(kept[rank], mixed[rank]);
  }
}

TEST(WithCp, IsAnOptionOfAllBackbones) {
  const auto numbers = [](const char* option) {
    torch::manual_seed(0);
    const auto model =
        Spec<Segmentor>::of(
            text(
                "{type: EncoderDecoder, backbone: {type: MSCAN, embed_dims: [4, 8], num_stages: 2, "
                "depths: [1, 2], mlp_ratios: [2, 2], drop_path_rate: 0.5, norm_cfg: {type: BN}",
                option,
                "}, decode_head: {type: FCNHead, in_channels: 8, in_index: 1, channels: 8, "
                "num_classes: 3, norm_cfg: {type: BN}}}"))
            .build();
    model->train();
    return step_numbers(
               *model, [&] { return small_loss(*model); }, Blocks::kAllKept)
        .tensors;
  };
  const auto plain = numbers(""), again = numbers(", with_cp: true");
  for (const auto& [name, tensor] : plain) {
    if (!name.starts_with("grad")) continue;
    EXPECT_TRUE(at::equal(tensor, again.at(name))) << name;
  }
  // As in PyTorch, which runs the block twice.
  const std::string counter = "backbone.block2.0.norm1.num_batches_tracked";
  EXPECT_EQ(plain.at(counter).item<int64_t>(), 1);
  EXPECT_EQ(again.at(counter).item<int64_t>(), 2);
  for (const auto& info : Registry<Backbone>::instance().types()) {
    const auto& options = info.options;
    EXPECT_TRUE(std::any_of(options.begin(), options.end(), [](const auto& option) {
      return option.name == "with_cp" || option.name == "use_checkpoint";
    })) << info.name;
  }
}

// --- The choice ---------------------------------------------------------------------------------

TEST(BlocksToKeep, AreThoseThatTakeLongestForTheirMemory) {
  const std::vector<BlockCost> blocks{{.bytes = 100, .seconds = 1},
                                      {.bytes = 100, .seconds = 3},
                                      {.bytes = 50, .seconds = 1},
                                      {.bytes = -10, .seconds = 0}};
  using Kept = std::vector<bool>;
  EXPECT_EQ(blocks_to_keep(blocks, -1), (Kept{false, false, false, true}));
  EXPECT_EQ(blocks_to_keep(blocks, 99), (Kept{false, false, true, true}));
  EXPECT_EQ(blocks_to_keep(blocks, 149), (Kept{false, true, false, true}));
  EXPECT_EQ(blocks_to_keep(blocks, 150), (Kept{false, true, true, true}));
  EXPECT_EQ(blocks_to_keep(blocks, 250), (Kept{true, true, true, true}));
}

TEST(BlockSet, HasNoSingleLayersAndNoStages) {
  const auto model = small_model();
  const auto blocks = blocks_of(*model);
  const auto modules = model->named_modules("", /*include_self=*/false);
  EXPECT_TRUE(blocks.contains(modules["backbone.layer1.0"].get()));
  EXPECT_TRUE(blocks.contains(modules["backbone.layer4.1"].get()));
  EXPECT_FALSE(blocks.contains(modules["backbone.layer4.0.downsample.0"].get()));
}

}  // namespace
}  // namespace seg
