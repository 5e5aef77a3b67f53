/// The transformers of MaskFormer and Mask2Former: what their options do.
#include <gtest/gtest.h>

#include "segcore/data/sample.hpp"
#include "segcore/models/blocks/detr_layers.hpp"
#include "segcore/models/blocks/positional_encoding.hpp"
#include "segcore/models/data_preprocessor.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/decode_heads/pixel_decoder.hpp"
#include "segcore/profile/flops.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::detr_test {

const char* const kPyramid =
    "{type: TransformerEncoderPixelDecoder, positional_encoding: {num_feats: 16, normalize: true}, "
    "encoder: {num_layers: 3, num_cp: NUM, layer_cfg: {self_attn_cfg: {embed_dims: 32, num_heads: "
    "4}, ffn_cfg: {embed_dims: 32, feedforward_channels: 64}}}}";
const char* const kDeformable =
    "{type: MSDeformAttnPixelDecoder, num_outs: 2, strides: [4, 8, 16], positional_encoding: "
    "{num_feats: 16, normalize: true}, encoder: {num_layers: 3, num_cp: NUM, layer_cfg: "
    "{self_attn_cfg: {embed_dims: 32, num_levels: 2}, ffn_cfg: {embed_dims: 32, "
    "feedforward_channels: 64}}}}";

std::string with_num_cp(std::string yaml, int num_cp) {
  return yaml.replace(yaml.find("NUM"), 3, std::to_string(num_cp));
}

TEST(DetrEncoders, RecomputeSomeLayersWithTheSameGradients) {
  const std::vector<FeatureInfo> inputs{{8, 4}, {16, 8}, {32, 16}};
  for (const char* yaml : {kPyramid, kDeformable}) {
    std::vector<std::vector<torch::Tensor>> gradients;
    std::vector<int64_t> products;  // of forward passes of layers, in backward passes
    for (const int num_cp : {-1, 1, 2}) {
      const auto decoder = Spec<MaskPixelDecoder>::of(with_num_cp(yaml, num_cp))
                               .build(PixelDecoderInputs{inputs, 32, 32});
      reference::fill(*decoder, 1);
      decoder->to(torch::kFloat64);
      torch::manual_seed(3);  // of the dropout of the deformable attention
      std::vector<torch::Tensor> maps;
      for (const auto& map : inputs) {
        maps.push_back(reference::image({2, map.channels, 64 / map.stride, 48 / map.stride}));
      }
      const auto out = decoder->forward(maps, {});
      const auto loss = out.mask_feature.square().sum() + out.memories[0].square().sum();
      products.push_back(count_flops([&] { loss.backward(); })["linear"]);
      auto& all = gradients.emplace_back();
      for (const auto& p : decoder->parameters()) all.push_back(p.grad());
    }
    EXPECT_GT(products[1], products[0]);
    EXPECT_EQ(products[2] - products[0], 2 * (products[1] - products[0]));
    ASSERT_EQ(gradients[0].size(), gradients[2].size());
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      ASSERT_TRUE(gradients[0][i].defined());
      EXPECT_TRUE(torch::allclose(gradients[0][i], gradients[2][i], 1e-9, 1e-9)) << i;
    }
  }
  const std::string wrong = test::spec_error<MaskPixelDecoder>(with_num_cp(kPyramid, 4));
  EXPECT_NE(wrong.find("encoder.num_cp: is 4 of 3 layers"), std::string::npos) << wrong;
}

TEST(DetrEncoders, DropoutOfDeformableAttentionIsMmdets) {
  // mmdet's default of the whole option has none, mmcv's default of the attention 0.1.
  const auto config = [](const std::string& yaml) {
    Diagnostics problems;
    const auto out =
        Convert<DeformableEncoderLayerCfg>::from(detail::parse_default(yaml), "", problems);
    EXPECT_FALSE(problems.has_errors()) << problems.text();
    return out.value();
  };
  EXPECT_EQ(config("{ffn_cfg: {embed_dims: 256}}").self_attn_cfg.dropout, 0);
  EXPECT_EQ(config("{self_attn_cfg: {embed_dims: 256}}").self_attn_cfg.dropout, 0.1);
}

template <class Cfg>
Cfg layer_cfg(const std::string& yaml) {
  Diagnostics problems;
  auto out = Convert<Cfg>::from(detail::parse_default(yaml), "cfg", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  return *out;
}

/// Probabilities of all that drops values.
std::vector<double> drops(const torch::nn::Module& module) {
  std::vector<double> out;
  for (const auto& child : module.modules()) {
    if (const auto* drop = dynamic_cast<const DropLayer*>(child.get())) {
      out.push_back(drop->drop_probability());
    }
  }
  return out;
}

TEST(DetrLayers, AttentionWithoutBiases) {
  const auto names = [](const std::string& yaml) {
    return layer_cfg<DetrAttentionCfg>(yaml).build()->named_parameters().keys();
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names("{embed_dims: 8, bias: false}"),
            (Names{"attn.in_proj_weight", "attn.out_proj.weight"}));
  EXPECT_EQ(names("{embed_dims: 8}").size(), 4u);
}

TEST(DetrLayers, TheOlderDropoutSetsTheLayerThatIsThere) {
  const auto plain = layer_cfg<DetrAttentionCfg>("{embed_dims: 8, dropout: 0.25}").build();
  EXPECT_EQ(drops(*plain), (std::vector<double>{0, 0.25}));  // proj_drop, dropout_layer
  const auto path =
      layer_cfg<DetrAttentionCfg>("{embed_dims: 8, dropout: 0.25, dropout_layer: {type: DropPath}}")
          .build();
  EXPECT_EQ(drops(*path), (std::vector<double>{0, 0.25}));
  EXPECT_TRUE(std::dynamic_pointer_cast<DropPath>(path->children().back()));
}

TEST(DetrLayers, FeedForwardBlocksKnowTheOlderNames) {
  const auto ffn = layer_cfg<DetrFFNCfg>(
                       "{embed_dims: 8, dropout: 0.3, add_residual: false, "
                       "layer_scale_init_value: 0.5}")
                       .build();
  EXPECT_EQ(drops(*ffn), (std::vector<double>{0.3, 0.3}));
  EXPECT_TRUE(torch::equal(ffn->named_parameters()["gamma2.weight"], torch::full({8}, 0.5)));
  ffn->eval();
  const auto x = torch::randn({1, 3, 8});
  const auto other = layer_cfg<DetrFFNCfg>("{embed_dims: 8, layer_scale_init_value: 0.5}").build();
  for (const auto& p : ffn->named_parameters()) {
    other->named_parameters()[p.key()].detach().copy_(p.value().detach());
  }
  other->eval();
  EXPECT_TRUE(torch::allclose(other->forward(x), x + ffn->forward(x)));
  EXPECT_EQ(
      test::config_error([] { layer_cfg<DetrFFNCfg>("{add_residual: true, add_identity: true}"); }),
      "<default>:1:16: error: cfg.add_residual: is the older name of add_identity, which is "
      "given too\n1 error in the configuration");
}

TEST(SineEncoding, CountsAndNormalisesWithoutPadding) {
  const SinePositionalEncoding encoding{.num_feats = 4, .normalize = true};
  auto padding = torch::zeros({2, 3, 5}, torch::kBool);
  padding[1].narrow(0, 2, 1).fill_(true);
  padding[1].narrow(1, 3, 2).fill_(true);
  const auto map = torch::zeros({2, 8, 3, 5}, torch::kFloat64);
  const auto found = encoding(map, padding).view({2, 3, 5, 8});
  EXPECT_TRUE(torch::allclose(found[0].flatten(0, 1), encoding(map)[0], 1e-12, 1e-12));
  const auto small = encoding(map.narrow(2, 0, 2).narrow(3, 0, 3))[0].view({2, 3, 8});
  EXPECT_TRUE(torch::allclose(found[1].narrow(0, 0, 2).narrow(1, 0, 3), small, 1e-12, 1e-12));
}

TEST(QueryHeads, HaveNoUseForAnInitCfg) {
  const auto weights = [](const std::string& rule) {
    const auto head =
        Spec<DecodeHead>::of(
            "{type: MaskFormerHead, feat_channels: 32, out_channels: 32, num_classes: 5, "
            "pixel_decoder: {type: PixelDecoder" +
            rule +
            "}, positional_encoding: {num_feats: 16}, transformer_decoder: {num_layers: 1, "
            "layer_cfg: {self_attn_cfg: {embed_dims: 32}, cross_attn_cfg: {embed_dims: 32}, "
            "ffn_cfg: {embed_dims: 32}}}" +
            rule + "}")
            .build(std::vector<FeatureInfo>{{8, 4}, {16, 8}});
    head->init_weights();
    return head->parameters();
  };
  for (const auto& w : weights(", init_cfg: {type: Constant, val: 7, layer: [Conv2d, Linear]}")) {
    EXPECT_LT(w.abs().max().item<double>(), 7);
  }
}

TEST(Targets, KnowTheSizesBeforePadding) {
  const auto preprocessor =
      Spec<DataPreProcessor>::of("{type: SegDataPreProcessor, size: [24, 32]}").build();
  Batch batch;
  for (const auto& [h, w] : {std::pair{24, 32}, std::pair{17, 20}}) {
    PackedSample sample;
    sample.image = torch::zeros({3, h, w}, torch::kByte);
    sample.labels = torch::zeros({h, w}, torch::kByte);
    batch.samples.push_back(sample);
  }
  const Targets targets((*preprocessor)(batch, /*training=*/true, c10::kCPU));
  EXPECT_EQ(targets.labels.sizes(), (std::vector<int64_t>{2, 24, 32}));
  using Shapes = std::vector<std::array<int64_t, 2>>;
  EXPECT_EQ(targets.img_shapes, (Shapes{{24, 32}, {17, 20}}));
}

}  // namespace seg::detr_test
