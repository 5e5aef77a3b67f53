/// Options and messages of ConvNeXt, PoolFormer, Twins, ResNeXt and ResNeSt, and of the necks and
/// the head that came with their families.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/error.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/neck.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::pyramid_backbones_test {

using ::testing::HasSubstr;

std::shared_ptr<Backbone> backbone(const std::string& yaml) {
  torch::manual_seed(0);
  return Spec<Backbone>::of(yaml).build();
}

int64_t parameter_count(const torch::nn::Module& module) {
  int64_t count = 0;
  for (const auto& p : module.parameters()) count += p.numel();
  return count;
}

bool trains(const torch::nn::Module& module, const std::string& parameter) {
  return module.named_parameters()[parameter].requires_grad();
}

const char* const kConvNeXt =
    "{type: mmpretrain.ConvNeXt, arch: {depths: [1, 2, 3, 1], channels: [4, 8, 12, 16]}, ";

TEST(ConvNeXt, CountsStagesFromTheEnd) {
  const auto image = torch::rand({1, 3, 64, 96});
  const auto last = backbone(text(kConvNeXt, "}"));
  EXPECT_EQ(last->features().at(0).channels, 16);
  EXPECT_EQ(last->features().at(0).stride, 32);
  const auto two = backbone(text(kConvNeXt, "out_indices: [1, -1]}"))->forward(image);
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].sizes(), (std::vector<int64_t>{1, 8, 8, 12}));
  EXPECT_EQ(two[1].sizes(), (std::vector<int64_t>{1, 16, 2, 3}));
}

TEST(ConvNeXt, HasTheParametersOfTheOriginals) {
  // 28,589,128 of ConvNeXt-T and 88,591,464 of ConvNeXt-B with a classifier of 1000 classes.
  EXPECT_EQ(parameter_count(*backbone("{type: ConvNeXt, arch: tiny}")), 28589128 - 769000);
  EXPECT_EQ(parameter_count(*backbone("{type: ConvNeXt, arch: base}")), 88591464 - 1025000);
}

TEST(ConvNeXt, RecomputesBlocksWithTheSameGradients) {
  const auto image = torch::rand({2, 3, 32, 32});
  const auto gradient = [&](const std::string& options) {
    const auto net = backbone(text(kConvNeXt, options, "}"));
    net->forward(image)[0].square().sum().backward();
    return net->named_parameters()["stages.0.0.depthwise_conv.weight"].grad();
  };
  EXPECT_TRUE(torch::allclose(gradient("with_cp: true"), gradient("with_cp: false"), 1e-4, 1e-6));
}

TEST(ConvNeXt, ChecksItsOptions) {
  const auto error = [](const std::string& options) {
    return test::config_error([&] { backbone("{type: ConvNeXt, " + options + "}"); });
  };
  EXPECT_THAT(
      error("arch: medium"),
      HasSubstr("arch: unknown value 'medium'. Known: atto, base, femto, huge, large, nano, "
                "pico, small, tiny, xlarge, or a mapping of depths and channels"));
  EXPECT_THAT(error("arch: {depths: [1, 1], channels: [4]}"),
              HasSubstr("channels: has 1 entries for 2 stages"));
  EXPECT_THAT(error("out_indices: [0, 4]"), HasSubstr("out_indices: there is no stage 4 among 4"));
  EXPECT_THAT(error("frozen_stages: 5"), HasSubstr("frozen_stages: there are only 4 stages"));
  EXPECT_THAT(error("gap_before_final_norm: true"),
              HasSubstr("gap_before_final_norm: must be false: the means of maps are for "
                        "classifiers, heads need maps"));
  EXPECT_THAT(error("norm_cfg: {type: BN}"),
              HasSubstr("norm_cfg: must be of the type LN2d, got BN"));
}

const char* const kPoolFormer =
    "{type: PoolFormer, arch: {layers: [1, 1, 1, 1], embed_dims: [4, 8, 12, 16]}, ";

TEST(PoolFormer, FreezesTheFirstConvolutionUnlessToldOtherwise) {
  const std::string stem = "patch_embed.proj.weight", stage = "network.0.0.mlp.fc1.weight";
  const auto usual = backbone(text(kPoolFormer, "}"));
  EXPECT_FALSE(trains(*usual, stem));
  EXPECT_TRUE(trains(*usual, stage));
  EXPECT_TRUE(trains(*backbone(text(kPoolFormer, "frozen_stages: -1}")), stem));
  const auto two = backbone(text(kPoolFormer, "frozen_stages: 2, out_indices: [0, 2]}"));
  EXPECT_FALSE(trains(*two, stage));
  EXPECT_FALSE(trains(*two, "norm0.weight"));
  EXPECT_FALSE(trains(*two, "network.1.proj.weight"));
  EXPECT_TRUE(trains(*two, "norm2.weight"));
}

TEST(PoolFormer, TakesAnyNumberOfBandsAndGivesMapsBetweenStages) {
  const auto net = backbone(text(kPoolFormer, "in_channels: 5, out_indices: [0, 1, -1]}"));
  const auto out = net->forward(torch::rand({1, 5, 64, 96}));
  ASSERT_EQ(out.size(), 3u);
  for (size_t i = 0; i < out.size(); ++i) {
    const FeatureInfo map = net->features()[i];
    EXPECT_EQ(out[i].sizes(),
              (std::vector<int64_t>{1, map.channels, 64 / map.stride, 96 / map.stride}));
  }
}

TEST(PoolFormer, ChecksItsOptions) {
  const auto error = [](const std::string& options) {
    return test::spec_error<Backbone>("{type: PoolFormer, " + options + "}");
  };
  EXPECT_THAT(
      error("arch: s48"),
      HasSubstr("arch: unknown value 's48'. Known: m36, m48, s12, s24, s36, or a mapping of "
                "layers, embed_dims and others"));
  EXPECT_THAT(error("pool_size: 4"), HasSubstr("pool_size: must be odd, got 4"));
  EXPECT_THAT(error("out_indices: [0, 7]"), HasSubstr("out_indices: there is no part 7 among 7"));
}

const char* const kTwins =
    "embed_dims: [4, 8, 12], num_heads: [1, 2, 3], depths: [2, 1, 1], sr_ratios: [4, 2, 1], "
    "mlp_ratios: [2, 2, 2], out_indices: [0, 2]";

TEST(Twins, SayHowLargeImagesMustBe) {
  for (const std::string type : {"PCPVT", "SVT"}) {
    const auto net = backbone(text("{type: ", type, ", ", kTwins, "}"));
    EXPECT_EQ(net->forward(torch::rand({1, 3, 16, 24}))[1].sizes(),
              (std::vector<int64_t>{1, 12, 1, 2}));
    try {
      net->forward(torch::rand({1, 3, 12, 24}));
      FAIL() << "no error";
    } catch (const DataError& e) {
      EXPECT_EQ(std::string(e.what()),
                "images of 12x24 are too small for this " + type +
                    ": the map of stage 0 is 3x6 and must be at least 4x4. Enlarge them, or pad "
                    "them by size or test_cfg of the data preprocessor");
    }
  }
}

TEST(Twins, CheckTheirOptions) {
  const auto error = [](const std::string& options) {
    return test::spec_error<Backbone>("{type: SVT, " + options + "}");
  };
  EXPECT_THAT(error("depths: [1, 1, 1, 1]"), HasSubstr("sr_ratios: has 3 entries for 4 stages"));
  EXPECT_THAT(error("windiow_sizes: [7, 7]"),
              HasSubstr("windiow_sizes: has 2 entries for 3 stages"));
  EXPECT_THAT(error("num_heads: [1, 3, 4]"),
              HasSubstr("num_heads: stage 1: 3 does not divide its width 128"));
  EXPECT_THAT(error("out_indices: [3]"), HasSubstr("out_indices: there is no stage 3 among 3"));
}

TEST(ResNeXt, HasTheParametersOfTheOriginals) {
  // Those of torchvision without the classifier of 1000 classes.
  EXPECT_EQ(parameter_count(*backbone("{type: ResNeXt, depth: 50, groups: 32, base_width: 4}")),
            25028904 - 2049000);
  EXPECT_EQ(parameter_count(*backbone("{type: ResNeXt, depth: 101, groups: 32, base_width: 8}")),
            88791336 - 2049000);
}

TEST(ResNeXt, LastNormsOfBlocksBeginAtOne) {
  for (const char* type : {"ResNeXt", "ResNeSt"}) {
    const auto net = backbone(text("{type: ", type, ", depth: 50, base_channels: 8}"));
    net->init_weights();
    EXPECT_EQ(net->named_parameters()["layer1.0.bn3.weight"].min().item<double>(), 1) << type;
  }
}

TEST(JPU, ChecksItsOptions) {
  const auto error = [](const std::string& options) {
    return test::config_error([&] {
      Spec<Neck>::of("{type: JPU, " + options + "}")
          .build(std::vector<FeatureInfo>{{4, 8}, {8, 16}});
    });
  };
  EXPECT_THAT(error("in_channels: [4, 9]"),
              HasSubstr("in_channels: is [4, 9], but the backbone gives [4, 8]"));
  EXPECT_THAT(error("start_level: 2"),
              HasSubstr("end_level: levels 2 to 2 of 2 maps cannot be chosen"));
  EXPECT_THAT(error("dilations: []"), HasSubstr("dilations: must name at least one rate"));
}

TEST(Feature2Pyramid, ChecksItsOptions) {
  const auto error = [](const std::string& options) {
    return test::config_error([&] {
      Spec<Neck>::of("{type: Feature2Pyramid, norm_cfg: {type: BN}, " + options + "}")
          .build(std::vector<FeatureInfo>{{4, 16}, {4, 16}});
    });
  };
  EXPECT_EQ(error("embed_dim: 4, rescales: [2, 1]"), "no error");
  EXPECT_THAT(error("embed_dim: 4"), HasSubstr("rescales: has 4 factors for 2 maps"));
  EXPECT_THAT(error("embed_dim: 8, rescales: [2, 1]"),
              HasSubstr("embed_dim: is 8, but map 0 has 4 channels"));
  EXPECT_THAT(error("embed_dim: 4, rescales: [3, 1]"),
              HasSubstr("rescales: must be 4, 2, 1, 0.5 or 0.25, got 3"));
  EXPECT_THAT(error("embed_dim: 4, rescales: [2, 2]"), HasSubstr("rescales: has 2 twice"));
}

TEST(DPTHead, NeedsClassTokensToReadThem) {
  const std::string head =
      "{type: DPTHead, channels: 4, num_classes: 3, embed_dims: 8, post_process_channels: [2, 4, "
      "4, "
      "8], readout_type: ";
  const std::vector<FeatureInfo> bare(4, FeatureInfo{8, 16});
  EXPECT_NO_THROW(Spec<DecodeHead>::of(head + "ignore}").build(bare));
  EXPECT_THAT(test::config_error([&] { Spec<DecodeHead>::of(head + "project}").build(bare); }),
              HasSubstr("readout_type: 'project' needs class tokens: set output_cls_token of the "
                        "backbone, and no neck"));
  EXPECT_THAT(
      test::spec_error<DecodeHead>(head + "add, in_index: [0, 1, 2]}"),
      HasSubstr("in_index: must be a list of 4 maps, with input_transform multiple_select"));
  EXPECT_THAT(
      test::spec_error<DecodeHead>(head + "add, expand_channels: true}"),
      HasSubstr("expand_channels: must be false: the wider convolutions would not fit their "
                "maps"));
}

}  // namespace seg::pyramid_backbones_test
