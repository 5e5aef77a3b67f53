/// Options of backbones and necks that no fixture has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/backbone.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/neck.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::backbones_test {

using ::testing::HasSubstr;

const char* const kTokens =
    "type: VisionTransformer, img_size: 32, patch_size: 8, embed_dims: 16, num_layers: 3, "
    "num_heads: 2, out_indices: [0, 2], output_cls_token: true, out_origin: true";

TEST(VisionTransformer, GivesAClassTokenWithEachMap) {
  torch::manual_seed(0);
  const auto vit = Spec<Backbone>::of(text("{", kTokens, "}")).build();
  vit->eval();
  const auto out = vit->forward(torch::randn({2, 3, 32, 40}));
  const auto infos = vit->features();
  ASSERT_EQ(out.size(), 6u);  // before the first block, after blocks 0 and 2
  ASSERT_EQ(infos.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(infos[i].is_token(), i % 2 == 1);
    EXPECT_EQ(infos[i].channels, 16);
    EXPECT_EQ(out[i].sizes(), infos[i].is_token() ? (std::vector<int64_t>{2, 16})
                                                  : (std::vector<int64_t>{2, 16, 4, 5}));
  }
}

TEST(VisionTransformer, ItsPairsHaveOneIndexForHeads) {
  const auto build = [](const std::string& head) {
    torch::manual_seed(0);
    auto model = Spec<Segmentor>::of(text("{type: EncoderDecoder, backbone: {", kTokens,
                                          "}, decode_head: {type: FCNHead, channels: 4, "
                                          "num_classes: 3, num_convs: 1, ",
                                          head, "}}"))
                     .build();
    model->eval();
    return model;
  };
  const auto images = torch::randn({2, 3, 32, 32});
  const torch::NoGradGuard no_grad;
  // By its place among the pairs, from the front or from the back, it is the same map.
  const auto by_place = build("in_index: 2, in_channels: 16")->encode_decode(images);
  const auto from_back = build("in_index: -1, in_channels: 16")->encode_decode(images);
  EXPECT_TRUE(torch::equal(by_place, from_back));
  EXPECT_FALSE(torch::equal(by_place, build("in_index: 1")->encode_decode(images)));
  EXPECT_NO_THROW(build("in_index: [0, 1, 2], in_channels: [16, 16, 16], "
                        "input_transform: resize_concat")
                      ->encode_decode(images));
  EXPECT_THAT(test::config_error([&] { build("in_index: 3"); }),
              HasSubstr("there is no map 3: the head is given 3 maps"));
}

TEST(VisionTransformer, NecksSeeNoClassTokens) {
  const auto model =
      Spec<Segmentor>::of(text("{type: EncoderDecoder, backbone: {", kTokens,
                               "}, neck: {type: MultiLevelNeck, in_channels: [16, 16, 16], "
                               "out_channels: 8, scales: [2, 1, 0.5]}, decode_head: {type: "
                               "FCNHead, channels: 4, num_classes: 3, in_index: 0}}"))
          .build();
  model->eval();
  EXPECT_EQ(model->extract_feat(torch::randn({1, 3, 32, 32})).size(), 3u);
}

TEST(HRNet, LastNormsBeginAtOneWhateverIsAsked) {
  const std::string stage = "{num_modules: 1, num_branches: ";
  const auto net =
      Spec<Backbone>::of(
          text("{type: HRNet, zero_init_residual: true, extra: {stage1: ", stage,
               "1, block: BOTTLENECK, num_blocks: [1], num_channels: [4]}, stage2: ", stage,
               "2, block: BASIC, num_blocks: [1, 1], num_channels: [4, 8]}, stage3: ", stage,
               "2, block: BASIC, num_blocks: [1, 1], num_channels: [4, 8]}, stage4: ", stage,
               "2, block: BASIC, num_blocks: [1, 1], num_channels: [4, 8]}}}"))
          .build();
  net->init_weights();
  size_t seen = 0;
  for (const auto& p : net->named_parameters()) {
    if (!p.key().ends_with("bn2.weight") && !p.key().ends_with("bn3.weight")) continue;
    ++seen;
    EXPECT_EQ(p.value().min().item<double>(), 1) << p.key();
  }
  EXPECT_GE(seen, 7u);
}

TEST(SwinTransformer, PatchesMayBeOblong) {
  const auto swin = Spec<Backbone>::of(
                        "{type: SwinTransformer, embed_dims: 8, patch_size: [4, 2], strides: [[4, "
                        "2], 2], depths: "
                        "[1, 1], num_heads: [1, 2], out_indices: [0, 1], window_size: 2, "
                        "use_abs_pos_embed: true, "
                        "pretrain_img_size: [16, 16]}")
                        .build();
  EXPECT_EQ(swin->named_parameters()["absolute_pos_embed"].size(1), 4 * 8);
  EXPECT_EQ(swin->named_parameters()["patch_embed.projection.weight"].sizes(),
            (std::vector<int64_t>{8, 3, 4, 2}));
  const auto out = swin->forward(torch::randn({1, 3, 16, 24}));
  EXPECT_EQ(out[0].sizes(), (std::vector<int64_t>{1, 8, 4, 12}));
  EXPECT_EQ(out[1].sizes(), (std::vector<int64_t>{1, 16, 2, 6}));
  EXPECT_THAT(test::spec_error<Backbone>("{type: SwinTransformer, patch_size: [4, 2]}"),
              HasSubstr("strides: the first must be patch_size, [4, 2]"));
  EXPECT_THAT(test::spec_error<Backbone>("{type: SwinTransformer, patch_size: [4, 0]}"),
              HasSubstr("patch_size: must be at least 1, got [4, 0]"));
}

TEST(STDCContextPathNet, EnlargesAsConfigured) {
  const auto run = [](const std::string& mode) {
    torch::manual_seed(0);
    const auto net =
        Spec<Backbone>::of(
            text("{type: STDCContextPathNet, backbone_cfg: {type: STDCNet, stdc_type: STDCNet1, "
                 "in_channels: 3, channels: [4, 8, 16, 16, 16], bottleneck_type: cat, norm_cfg: "
                 "{type: BN}, act_cfg: {type: ReLU}}, last_in_channels: [16, 16], out_channels: 8, "
                 "ffm_cfg: {in_channels: 24, out_channels: 8}, upsample_mode: ",
                 mode, "}"))
            .build();
    net->eval();
    return net->forward(torch::ones({1, 3, 64, 96}))[1];
  };
  const auto bicubic = run("bicubic");
  EXPECT_TRUE(bicubic.isfinite().all().item<bool>());
  EXPECT_FALSE(torch::allclose(bicubic, run("bilinear")));
}

TEST(MultiLevelNeck, TakesTheFirstMapsWhereThereAreMore) {
  torch::manual_seed(0);
  const std::vector<FeatureInfo> inputs{{8, 16}, {8, 16}, {8, 16}};
  const auto build = [&](const std::string& scales) {
    return Spec<Neck>::of(text("{type: MultiLevelNeck, out_channels: 4, scales: ", scales, "}"))
        .build(inputs);
  };
  const auto neck = build("[2, 0.5]");
  EXPECT_EQ(neck->features().size(), 2u);
  EXPECT_TRUE(neck->named_parameters().contains("lateral_convs.2.conv.weight"));
  std::vector<torch::Tensor> maps;
  for (int i = 0; i < 3; ++i) maps.push_back(torch::randn({1, 8, 4, 4}));
  const auto out = neck->forward(maps);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].size(2), 8);
  EXPECT_EQ(out[1].size(2), 2);
  maps[2].zero_();
  EXPECT_TRUE(torch::equal(neck->forward(maps)[1], out[1]));
  maps[1].zero_();
  EXPECT_FALSE(torch::equal(neck->forward(maps)[1], out[1]));
  EXPECT_THAT(test::config_error([&] { build("[1, 1, 1, 1]"); }),
              HasSubstr("scales: has 4 factors for 3 maps; one map, or one for each factor is "
                        "needed"));
}

}  // namespace seg::backbones_test
