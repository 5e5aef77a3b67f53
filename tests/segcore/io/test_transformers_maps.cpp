// The maps of configs/weights/ for models of transformers, on the names of small ones that
// tests/data/weight_names/make_hf_names.py lists.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "registry/error.hpp"
#include "registry/yaml.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/io/weight_map.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/named_weights.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using ::testing::HasSubstr;

WeightMap map_of(const std::string& name) {
  return WeightMap(source_path("configs/weights/" + name + ".yaml"));
}

std::shared_ptr<Segmentor> small_model(const std::string& base, const std::string& yaml) {
  const test::TempDir dir;
  const Config config = load_config(
      dir.write("a.yaml", "_base_: " + source_path("configs/" + base) + "\nmodel:\n" + yaml));
  Diagnostics problems;
  const auto spec = Spec<Segmentor>::parse(*config.at_path("model"), "model", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  return spec->build();
}

void expect_exact(torch::nn::Module& model, const WeightMap& map, const Value& state) {
  const LoadReport report = load_state_dict(model, state, {.ignore = map.absent()});
  EXPECT_EQ(report.text(), "");
  EXPECT_GT(report.matched.size(), 50U);
}

constexpr const char* kSmallSwin =
    "  backbone: {embed_dims: 8, depths: [1, 1, 2, 1], num_heads: [1, 2, 2, 4], window_size: 4, "
    "pretrain_img_size: 64}\n";
constexpr const char* kSmallLayer =
    "layer_cfg: {self_attn_cfg: {embed_dims: 32, num_heads: 4}, ffn_cfg: {embed_dims: 32, "
    "feedforward_channels: 32}";

/// Options of a head with queries.
std::string small_mask_head(int layers) {
  return text(kSmallSwin,
              "  decode_head:\n    in_channels: [8, 16, 32, 64]\n    feat_channels: 32\n"
              "    out_channels: 32\n    num_queries: 6\n    num_classes: 5\n"
              "    positional_encoding: {num_feats: 16}\n    transformer_decoder: {num_layers: ",
              layers, ", ", kSmallLayer,
              ", cross_attn_cfg: {embed_dims: 32, num_heads: 4}}}\n"
              "    loss_cls: {class_weight: [1.0, 1.0, 1.0, 1.0, 1.0, 0.1]}\n");
}

TEST(TransformersMaps, BEiT) {
  const auto model =
      small_model("beit/b_ade20k.yaml",
                  "  backbone: {img_size: 64, embed_dims: 8, num_layers: 4, num_heads: 2, "
                  "out_indices: [0, 1, 2, "
                  "3]}\n  neck: {embed_dim: 8}\n  decode_head: {channels: 8, num_classes: 5}\n"
                  "  auxiliary_head: {channels: 8, num_classes: 5}\n");
  const WeightMap map = map_of("hf_beit");
  const Value given = test::weights_named_as("hf_beit");
  const Value state = map.apply(given);
  expect_exact(*model, map, state);
  const auto joined = state.at("backbone.layers.1.attn.qkv.weight").as_tensor();
  const std::string attention = "beit.encoder.layer.1.attention.attention.";
  EXPECT_TRUE(torch::equal(joined.narrow(0, 8, 8), given.at(attention + "key.weight").as_tensor()));
}

TEST(TransformersMaps, DPT) {
  const auto model = small_model("dpt/vit-b16_ade20k.yaml",
                                 "  backbone: {img_size: 64, embed_dims: 8, num_layers: 4, "
                                 "num_heads: 2, out_indices: [0, 1, 2, "
                                 "3], patch_bias: true, norm_cfg: {type: LN, eps: 1.0e-12}}\n"
                                 "  decode_head: {embed_dims: 8, channels: 8, num_classes: 5, "
                                 "post_process_channels: [4, 8, 8, "
                                 "16], align_corners: true}\n");
  const WeightMap map = map_of("hf_dpt");
  expect_exact(*model, map, map.apply(test::weights_named_as("hf_dpt")));
}

TEST(TransformersMaps, SegFormer) {
  const auto model =
      small_model("segformer/b0_ade20k.yaml",
                  "  backbone: {embed_dims: 8, num_heads: [1, 2, 3, 4], num_layers: [1, 1, 1, 1]}\n"
                  "  decode_head: {channels: 16, num_classes: 5, linear_projection: true}\n");
  const WeightMap map = map_of("hf_segformer");
  const Value given = test::weights_named_as("hf_segformer");
  const Value state = map.apply(given);
  expect_exact(*model, map, state);
  // The coarsest map comes first there and last here.
  EXPECT_TRUE(
      torch::equal(given.at("decode_head.linear_fuse.weight").as_tensor().narrow(1, 0, 16),
                   state.at("decode_head.fusion_conv.conv.weight").as_tensor().narrow(1, 48, 16)));
  const Value& queries = given.at("segformer.encoder.block.1.0.attention.self.query.weight");
  const Value& values = given.at("segformer.encoder.block.1.0.attention.self.value.weight");
  const auto all = state.at("backbone.layers.1.1.0.attn.attn.in_proj_weight").as_tensor();
  EXPECT_TRUE(torch::equal(all.narrow(0, 0, 16), queries.as_tensor()));
  EXPECT_TRUE(torch::equal(all.narrow(0, 32, 16), values.as_tensor()));
}

TEST(TransformersMaps, UPerNet) {
  const auto model = small_model(
      "swin/t_ade20k.yaml",
      text(kSmallSwin,
           "  decode_head: {in_channels: [8, 16, 32, 64], channels: 16, num_classes: 5}\n"
           "  auxiliary_head: {in_channels: 32, channels: 8, num_classes: 5}\n"));
  const WeightMap map = map_of("hf_upernet_swin");
  expect_exact(*model, map, map.apply(test::weights_named_as("hf_upernet_swin")));
}

TEST(TransformersMaps, Mask2Former) {
  const auto model =
      small_model("mask2former/swin-t_ade20k.yaml",
                  text(small_mask_head(3), "    pixel_decoder: {encoder: {num_layers: 2, ",
                       kSmallLayer, "}}, positional_encoding: {num_feats: 16}}\n"));
  const WeightMap map = map_of("hf_mask2former_swin");
  const Value given = test::weights_named_as("hf_mask2former");
  const Value state = map.apply(given);
  expect_exact(*model, map, state);
  // Attention to the maps comes first.
  EXPECT_TRUE(torch::equal(
      given.at("model.transformer_module.decoder.layers.1.cross_attn_layer_norm.weight")
          .as_tensor(),
      state.at("decode_head.transformer_decoder.layers.1.norms.0.weight").as_tensor()));
}

TEST(TransformersMaps, MaskFormer) {
  const auto model = small_model("maskformer/swin-t_ade20k.yaml", small_mask_head(2));
  const WeightMap map = map_of("hf_maskformer_swin");
  expect_exact(*model, map, map.apply(test::weights_named_as("hf_maskformer")));
}

TEST(TransformersMaps, Classifiers) {
  const auto mit = Spec<Backbone>::of(
                       "{type: MixVisionTransformer, embed_dims: 8, num_heads: [1, 2, 3, 4], "
                       "num_layers: [1, 1, 1, 1], mlp_ratio: 4, qkv_bias: true}")
                       .build();
  const WeightMap mit_map = map_of("hf_mit");
  expect_exact(*mit, mit_map, mit_map.apply(test::weights_named_as("hf_mit")));
  const auto swin = Spec<Backbone>::of(
                        "{type: SwinTransformer, pretrain_img_size: 64, embed_dims: 8, "
                        "window_size: 4, depths: [1, 1, 2, 1], num_heads: [1, 2, 2, 4]}")
                        .build();
  const WeightMap swin_map = map_of("hf_swin");
  expect_exact(*swin, swin_map, swin_map.apply(test::weights_named_as("hf_swin")));
}

TEST(TransformersMaps, AMapForAnotherModelIsRefused) {
  const std::string path = source_path("configs/weights/mit.yaml");
  try {
    WeightMap(path).apply(test::weights_named_as("hf_segformer"));
    FAIL() << "the map was applied";
  } catch (const CheckpointError& error) {
    EXPECT_EQ(std::string(error.what()),
              "the rules of " + path +
                  " leave 116 of 124 names as they are, as "
                  "'segformer.encoder.patch_embeddings.0.proj.weight': the weights are of another "
                  "model or repository than they are for");
  }
}

}  // namespace
}  // namespace seg
