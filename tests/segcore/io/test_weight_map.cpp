// Weights of other repositories: the maps of configs/weights/ on the names that these have, and
// the errors of a wrong map.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <ostream>
#include <sstream>

#include "segcore/io/weight_map.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/named_weights.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using ::testing::HasSubstr;

struct ForeignWeights {
  const char *map, *names, *backbone;
  /// What GoogleTest prints, in place of three addresses.
  friend std::ostream& operator<<(std::ostream& out, const ForeignWeights& w) {
    return out << w.names << " by " << w.map;
  }
};

class WeightMaps : public ::testing::TestWithParam<ForeignWeights> {};

TEST_P(WeightMaps, FillTheBackbone) {
  const ForeignWeights& p = GetParam();
  const std::string problem = test::spec_error<Backbone>(p.backbone);
  if (problem.find("no backbone is called") != std::string::npos) GTEST_SKIP() << problem;
  ASSERT_EQ(problem, "no error");
  const WeightMap map(source_path("configs/weights/" + std::string(p.map) + ".yaml"));
  const Value given = test::weights_named_as(p.names);
  ASSERT_FALSE(given.as_dict().empty());
  const Value state = map.apply(given);
  const auto backbone = Spec<Backbone>::of(p.backbone).build();
  const LoadReport report = load_state_dict(*backbone, state, {.ignore = map.absent()});
  EXPECT_EQ(report.text(), "");
  EXPECT_GT(report.matched.size(), 10U);
}

INSTANTIATE_TEST_SUITE_P(
    All, WeightMaps,
    ::testing::Values(
        ForeignWeights{"mit", "mit",
                       "{type: MixVisionTransformer, embed_dims: 8, num_heads: [1, 1, 2, 2], "
                       "num_layers: [1, 1, 1, 1], mlp_ratio: 4, qkv_bias: true}"},
        ForeignWeights{"swin", "swin",
                       "{type: SwinTransformer, pretrain_img_size: 64, embed_dims: 8, window_size: "
                       "2, depths: [1, 1, 1, 1], num_heads: [1, 1, 2, 2]}"},
        ForeignWeights{"timm_swin", "timm_swin",
                       "{type: SwinTransformer, pretrain_img_size: 64, embed_dims: 8, window_size: "
                       "2, depths: [1, 1, 1, 1], num_heads: [1, 1, 2, 2]}"},
        ForeignWeights{"torchvision_swin", "torchvision_swin",
                       "{type: SwinTransformer, pretrain_img_size: 64, embed_dims: 8, window_size: "
                       "2, depths: [1, 1, 1, 1], num_heads: [1, 1, 2, 2]}"},
        ForeignWeights{"torchvision_vit", "torchvision_vit",
                       "{type: VisionTransformer, img_size: [32, 32], patch_size: 16, embed_dims: "
                       "8, num_layers: 2, num_heads: 2, out_indices: [1], final_norm: true, "
                       "patch_bias: true}"},
        ForeignWeights{"torchvision_convnext", "torchvision_convnext",
                       "{type: ConvNeXt, arch: {depths: [1, 1, 2, 1], channels: [4, 8, 8, 12]}, "
                       "out_indices: [0, 1, 2, 3], gap_before_final_norm: false}"},
        ForeignWeights{"vit", "vit",
                       "{type: VisionTransformer, img_size: [32, 32], patch_size: 16, embed_dims: "
                       "8, num_layers: 2, num_heads: 2, out_indices: [1], final_norm: true, "
                       "patch_bias: true}"},
        ForeignWeights{"convnext", "convnext",
                       "{type: ConvNeXt, arch: {depths: [1, 1, 2, 1], channels: [4, 8, 8, 12]}, "
                       "out_indices: [0, 1, 2, 3], gap_before_final_norm: false}"},
        ForeignWeights{"timm_convnext", "timm_convnext",
                       "{type: ConvNeXt, arch: {depths: [1, 1, 2, 1], channels: [4, 8, 8, 12]}, "
                       "out_indices: [0, 1, 2, 3], gap_before_final_norm: false}"},
        ForeignWeights{"twins_pcpvt", "twins_pcpvt",
                       "{type: PCPVT, embed_dims: [4, 4, 8, 8], num_heads: [1, 1, 2, 2], "
                       "patch_sizes: [4, 2, 2, 2], strides: [4, 2, 2, 2], mlp_ratios: [8, 8, 4, "
                       "4], qkv_bias: true, depths: [1, 1, 2, 1], sr_ratios: [8, 4, 2, 1]}"},
        ForeignWeights{
            "twins_svt", "twins_svt",
            "{type: SVT, embed_dims: [4, 4, 8, 8], num_heads: [1, 1, 2, 2], mlp_ratios: "
            "[4, 4, 4, 4], qkv_bias: true, depths: [2, 2, 2, 2], sr_ratios: [8, 4, 2, 1], "
            "windiow_sizes: [7, 7, 7, 7]}"},
        ForeignWeights{"torchvision_resnet", "torchvision_resnet", "{type: ResNet, depth: 18}"},
        ForeignWeights{"timm_resnet_deep_stem", "timm_resnet_deep_stem",
                       "{type: ResNetV1d, depth: 18}"},
        ForeignWeights{"torchvision_mobilenet_v2", "torchvision_mobilenet_v2",
                       "{type: MobileNetV2}"},
        ForeignWeights{"torchvision_mobilenet_v3", "torchvision_mobilenet_v3_large",
                       "{type: MobileNetV3, arch: large, out_indices: [1, 3, 16]}"},
        ForeignWeights{"torchvision_mobilenet_v3", "torchvision_mobilenet_v3_small",
                       "{type: MobileNetV3, arch: small, out_indices: [0, 1, 12]}"},
        ForeignWeights{"beit", "beit",
                       "{type: BEiT, img_size: [32, 32], patch_size: 16, embed_dims: 8, "
                       "num_layers: 2, num_heads: 2, out_indices: [1], init_values: 0.1}"}),
    [](const auto& test_case) { return std::string(test_case.param.names); });

TEST(WeightMap, ReordersTheMergingOfPatches) {
  // 1 output of 2 channels: [neighbour][channel], neighbours column by column.
  Value state = Value::dict();
  state.set("layers.0.downsample.reduction.weight", torch::arange(8).view({1, 8}));
  state.set("layers.0.downsample.norm.weight", torch::arange(8));
  const Value out = WeightMap(source_path("configs/weights/swin.yaml")).apply(state);
  // [channel][neighbour], row by row.
  const auto expected = torch::tensor({0, 4, 2, 6, 1, 5, 3, 7});
  EXPECT_TRUE(torch::equal(out.at("stages.0.downsample.reduction.weight").as_tensor(),
                           expected.view({1, 8})));
  EXPECT_TRUE(torch::equal(out.at("stages.0.downsample.norm.weight").as_tensor(), expected));
}

class WeightMapRules : public ::testing::Test {
 protected:
  WeightMapRules() {
    state_.set("a.1.q.weight", torch::tensor({{1.0, 2.0}}));
    state_.set("a.1.kv.weight", torch::tensor({{3.0, 4.0}, {5.0, 6.0}}));
    state_.set("head", torch::tensor({7.0}));
  }
  Value apply(const std::string& rules) const {
    return WeightMap(dir_.write("m.yaml", "rules:\n" + rules)).apply(state_);
  }
  std::string problem(const std::string& rules) const {
    try {
      apply(rules);
    } catch (const Error& error) {
      std::string what = error.what();
      for (size_t at; (at = what.find(dir_.path().string() + "/")) != std::string::npos;) {
        what.erase(at, dir_.path().string().size() + 1);
      }
      return what;
    }
    return "no error";
  }
  const test::TempDir dir_;
  Value state_ = Value::dict();
};

TEST_F(WeightMapRules, JoinSplitAndRename) {
  const Value out = apply(
      "- {match: '^head$', drop: true}\n"
      "- {match: '^a\\.(\\d)\\.q\\.weight$', join: [a.$1.q.weight, a.$1.kv.weight], name: "
      "'b.{$1-1}.qkv'}\n"
      "- {match: '^b.(\\d).qkv$', split: ['c.{$1+9}.qk', 'c.$1.v'], parts: [2, 1]}\n"
      "- {match: '^c', name: x}\n");
  ASSERT_EQ(out.as_dict().size(), 2U);
  EXPECT_TRUE(torch::equal(out.at("x.9.qk").as_tensor(), torch::tensor({{1.0, 2.0}, {3.0, 4.0}})));
  EXPECT_TRUE(torch::equal(out.at("x.0.v").as_tensor(), torch::tensor({{5.0, 6.0}})));
}

TEST_F(WeightMapRules, ChangeLayouts) {
  const Value out = apply(
      "- match: kv\n"
      "  steps: [{permute: [1, 0]}, {take: [1, 0], dim: 1}, {reshape: [0, 0, 1]}]\n");
  EXPECT_TRUE(torch::equal(out.at("a.1.kv.weight").as_tensor(),
                           torch::tensor({{5.0, 3.0}, {6.0, 4.0}}).unsqueeze(2)));
}

TEST_F(WeightMapRules, ReportWhatDoesNotFit) {
  EXPECT_EQ(problem("- {match: nothing, drop: true}\n"),
            "no rule of m.yaml fits any name; the first is 'a.1.q.weight'");
  EXPECT_EQ(problem("- {match: '', drop: true}\n"), "the rules of m.yaml drop every weight");
  EXPECT_EQ(problem("- {match: 'a\\.1\\..*', name: b}\n"), "m.yaml:2:3: two tensors become 'b'");
  EXPECT_EQ(problem("- {match: q, join: [a.1.q.weight, k], name: b}\n"),
            "m.yaml:2:3: 'a.1.q.weight' is to be joined with 'k', which is not there");
  EXPECT_EQ(problem("- {match: q, join: [a.1.q.weight, head], name: b}\n"),
            "m.yaml:2:3: 'a.1.q.weight' cannot be joined with 'head' [1]");
  EXPECT_EQ(problem("- {match: kv, split: [a, b, c]}\n"),
            "m.yaml:2:3: 'a.1.kv.weight' [2, 2] cannot be cut into 3 equal parts");
  EXPECT_EQ(problem("- {match: kv, steps: [{reshape: [3, -1]}]}\n"),
            "m.yaml:2:3: 'a.1.kv.weight' [2, 2] cannot be reshaped to [3, -1]");
  EXPECT_EQ(problem("- {match: kv, steps: [{permute: [0, 2, 1]}]}\n"),
            "m.yaml:2:3: 'a.1.kv.weight' [2, 2] has no dimensions [0, 2, 1] to put in order");
  EXPECT_EQ(problem("- {match: kv, steps: [{take: [0, 2], dim: 1}]}\n"),
            "m.yaml:2:3: 'a.1.kv.weight' [2, 2] has no slices [0, 2] along dimension 1");
}

TEST_F(WeightMapRules, AreCheckedAllAtOnce) {
  const std::string found = problem(
      "- {match: '(', drop: true}\n"
      "- {mach: a, drop: true}\n"
      "- {match: a}\n"
      "- {match: a, drop: true, split: [b, c]}\n"
      "- {match: a, split: [b, c], parts: [1]}\n"
      "- {match: a, join: [b, c]}\n"
      "- {match: a, steps: [{reshape: [1], permute: [0]}]}\n");
  EXPECT_THAT(found, HasSubstr("m.yaml:2:11: error: rules.0.match: '(' is no regular expression"));
  EXPECT_THAT(found, HasSubstr("Did you mean 'match'?"));
  EXPECT_THAT(found, HasSubstr("a rule needs one of name, drop, join, split and steps"));
  EXPECT_THAT(found, HasSubstr("a rule has one of drop, join and split"));
  EXPECT_THAT(found, HasSubstr("must have as many numbers as `split` has names"));
  EXPECT_THAT(found, HasSubstr("needs `name`: what the joined one is called"));
  EXPECT_THAT(found, HasSubstr("a step is one of reshape, permute and take"));
}

}  // namespace
}  // namespace seg
