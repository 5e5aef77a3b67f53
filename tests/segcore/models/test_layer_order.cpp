#include "segcore/models/layer_order.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/convnext_layers.hpp"
#include "segcore/torch.hpp"

namespace seg::layer_order_test {

using Layers = std::map<std::string, int64_t>;

constexpr int64_t kHead = -1;  // after the last layer

/// The layers of these parameters of a backbone, which must have them.
Layers layers_of(const std::string& backbone, const std::vector<std::string>& names,
                 LayerUnit unit = LayerUnit::kBlock) {
  const auto built = Spec<Backbone>::of(backbone).build();
  const LayerOrder order = built->layer_order();
  const auto parameters = built->named_parameters();
  Layers out;
  for (const auto& name : names) {
    EXPECT_TRUE(parameters.contains(name)) << name;
    out[name] = order.layer_of(name, unit).value_or(kHead);
  }
  // Each layer has parameters, and no parameter is of a layer that does not exist.
  std::set<int64_t> found, all;
  for (const auto& item : parameters) {
    if (const auto layer = order.layer_of(item.key(), unit)) found.insert(*layer);
  }
  for (int64_t i = 0; i <= order.count(unit); ++i) all.insert(i);
  EXPECT_EQ(found, all) << backbone;
  return out;
}

Layers expected(const std::vector<std::string>& names, const std::vector<int64_t>& layers) {
  Layers out;
  for (size_t i = 0; i < names.size(); ++i) out[names[i]] = layers.at(i);
  return out;
}

TEST(LayerOrder, OfATransformerCountsBlocksFromOneAsBEiTDoes) {
  const std::string vit =
      "{type: VisionTransformer, img_size: 32, embed_dims: 8, num_heads: 2, num_layers: 3, "
      "pre_norm: true, final_norm: true}";
  const std::vector<std::string> names{
      "cls_token",     "pos_embed",           "patch_embed.projection.weight",
      "ln_pre.weight", "layers.0.ln1.weight", "layers.2.ffn.layers.1.weight",
      "ln1.weight"};
  EXPECT_EQ(layers_of(vit, names), expected(names, {0, 0, 0, 0, 1, 3, kHead}));
  const LayerOrder order = Spec<Backbone>::of(vit).build()->layer_order();
  EXPECT_EQ(order.count(LayerUnit::kBlock), 3);
  EXPECT_FALSE(order.has(LayerUnit::kStage));
}

TEST(LayerOrder, OfAPyramidCountsTheBlocksOfAllStages) {
  const std::string swin =
      "{type: SwinTransformer, embed_dims: 4, depths: [1, 2, 1, 1], num_heads: [1, 1, 1, 1], "
      "use_abs_pos_embed: true, pretrain_img_size: 32}";
  const std::vector<std::string> of_swin{
      "absolute_pos_embed",           "patch_embed.norm.weight",
      "stages.0.blocks.0.norm1.bias", "stages.0.downsample.reduction.weight",
      "stages.1.blocks.1.norm1.bias", "stages.1.downsample.norm.weight",
      "stages.3.blocks.0.norm1.bias", "norm3.weight"};
  EXPECT_EQ(layers_of(swin, of_swin), expected(of_swin, {0, 0, 1, 1, 3, 3, 5, kHead}));
  EXPECT_EQ(layers_of(swin, of_swin, LayerUnit::kStage),
            expected(of_swin, {0, 0, 1, 1, 2, 2, 4, kHead}));

  const std::string mit =
      "{type: MixVisionTransformer, embed_dims: 4, num_heads: [1, 1, 1, 1], num_layers: "
      "[1, 2, 1, 1]}";
  const std::vector<std::string> of_mit{"layers.0.0.projection.weight",
                                        "layers.0.1.0.norm1.weight",
                                        "layers.0.2.weight",
                                        "layers.1.0.norm.weight",
                                        "layers.1.1.1.norm1.weight",
                                        "layers.1.2.weight",
                                        "layers.3.2.weight"};
  EXPECT_EQ(layers_of(mit, of_mit), expected(of_mit, {0, 1, 1, 2, 3, 3, 5}));
  EXPECT_EQ(layers_of(mit, of_mit, LayerUnit::kStage), expected(of_mit, {0, 1, 1, 0, 2, 2, 4}));

  const std::string mscan =
      "{type: MSCAN, embed_dims: [4, 4, 4, 4], depths: [1, 2, 1, 1], norm_cfg: {type: BN}}";
  const std::vector<std::string> of_mscan{
      "patch_embed1.proj.0.weight", "block1.0.layer_scale_1", "norm1.weight",
      "patch_embed2.proj.weight",   "block2.1.norm1.weight",  "norm4.weight"};
  EXPECT_EQ(layers_of(mscan, of_mscan), expected(of_mscan, {0, 1, 1, 2, 3, 5}));
}

TEST(LayerOrder, OfAResNetBeginsAfterTheStem) {
  const std::vector<std::string> names{"conv1.weight", "bn1.weight", "layer1.0.conv1.weight",
                                       "layer2.1.bn2.weight", "layer4.1.conv2.weight"};
  const std::string resnet = "{type: ResNet, depth: 18}";
  EXPECT_EQ(layers_of(resnet, names), expected(names, {0, 0, 1, 4, 8}));
  EXPECT_EQ(layers_of(resnet, names, LayerUnit::kStage), expected(names, {0, 0, 1, 2, 4}));
  const std::vector<std::string> deep{"stem.0.weight", "layer1.0.conv1.weight"};
  EXPECT_EQ(layers_of("{type: ResNetV1c, depth: 18}", deep), expected(deep, {0, 1}));
}

TEST(LayerOrder, OfConvNeXtIsThatOfMMSegmentation) {
  // get_layer_id_for_convnext and get_stage_id_for_convnext of mmseg 1.2, for num_layers 12.
  const LayerOrder order = convnext_layer_order({3, 3, 27, 3});
  EXPECT_EQ(order.count(LayerUnit::kBlock), 12);
  EXPECT_EQ(convnext_layer_order({3, 3, 9, 3}).count(LayerUnit::kBlock), 6);
  const std::map<std::string, std::pair<int64_t, int64_t>> want{
      {"downsample_layers.0.0.weight", {0, 0}},
      {"downsample_layers.1.0.weight", {2, 0}},
      {"downsample_layers.2.0.weight", {3, 0}},
      {"downsample_layers.3.0.weight", {12, 0}},
      {"stages.0.2.gamma", {1, 1}},
      {"stages.1.0.gamma", {2, 2}},
      {"stages.2.0.gamma", {3, 3}},
      {"stages.2.2.gamma", {3, 3}},
      {"stages.2.3.gamma", {4, 3}},
      {"stages.2.26.gamma", {11, 3}},
      {"stages.3.1.gamma", {12, 4}},
      {"norm3.weight", {kHead, kHead}}};
  for (const auto& [name, layers] : want) {
    EXPECT_EQ(order.layer_of(name, LayerUnit::kBlock).value_or(kHead), layers.first) << name;
    EXPECT_EQ(order.layer_of(name, LayerUnit::kStage).value_or(kHead), layers.second) << name;
  }
}

TEST(LayerOrder, IsEmptyForBackbonesWithoutOne) {
  const LayerOrder order = Spec<Backbone>::of("{type: MobileNetV2}").build()->layer_order();
  EXPECT_FALSE(order.has(LayerUnit::kBlock));
  EXPECT_EQ(order.layer_of("conv1.weight", LayerUnit::kBlock), std::nullopt);
}

}  // namespace seg::layer_order_test
