// EoMT beyond its fixtures: annealing, losses, weights of timm's encoders, messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "segcore/io/weights.hpp"
#include "segcore/models/blocks/resampled_grid.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/nn/follows_progress.hpp"
#include "segcore/models/orders_layers.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg::eomt_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kSmall =
    "type: EoMT, hidden_size: 24, num_hidden_layers: 4, num_attention_heads: 3, image_size: 32, "
    "patch_size: 8, num_blocks: 2, num_queries: 5, num_upscale_blocks: 1, num_labels: 3, "
    "train_num_points: 16";

/// The options of a small model, with a part of them replaced, or with more.
std::string small_yaml(const std::string& more, const std::string& old = "") {
  std::string out = kSmall;
  if (old.empty()) return "{" + out + more + "}";
  return "{" + out.replace(out.find(old), old.size(), more) + "}";
}

std::shared_ptr<Segmentor> small(const std::string& more = "", const std::string& old = "") {
  torch::manual_seed(0);
  auto model = Spec<Segmentor>::of(small_yaml(more, old)).build();
  model->init_weights();
  return model;
}

std::vector<double> mask_shares(Segmentor& model) {
  const auto shares = model.named_buffers()["attn_mask_probs"].to(torch::kFloat64);
  return {shares.data_ptr<double>(), shares.data_ptr<double>() + shares.numel()};
}

std::vector<double> shares_after(Segmentor& model, int64_t iter, int64_t max_iters) {
  dynamic_cast<FollowsProgress&>(model).set_progress(iter, max_iters);
  return mask_shares(model);
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(EoMT, AnnealsOneBlockAfterAnother) {
  const auto model = small(", attn_mask_annealing_enabled: true");
  EXPECT_THAT(shares_after(*model, 0, 40), ElementsAre(1, 1));
  EXPECT_THAT(shares_after(*model, 10, 40), ElementsAre(1, 1));
  EXPECT_THAT(shares_after(*model, 15, 40),
              ElementsAre(::testing::DoubleNear(std::pow(0.5, 0.9), 1e-6), 1));
  EXPECT_THAT(shares_after(*model, 20, 40), ElementsAre(0, 1));
  EXPECT_THAT(shares_after(*model, 30, 40), ElementsAre(0, 0));
  const auto given = small(
      ", attn_mask_annealing_enabled: true, attn_mask_annealing_start_steps: [2, 4], "
      "attn_mask_annealing_end_steps: [4, 8], poly_power: 1.0");
  EXPECT_THAT(shares_after(*given, 3, 40), ElementsAre(0.5, 1));
  EXPECT_THAT(shares_after(*given, 5, 40), ElementsAre(0, 0.75));
  EXPECT_THAT(shares_after(*small(), 39, 40), ElementsAre(1, 1));  // not asked to
}

TEST(EoMT, MasksAttentionWhereTheShareIsAboveZero) {
  const torch::NoGradGuard no_grad;
  const auto model = small();
  model->eval();
  const auto images = torch::randn({2, 3, 32, 32});
  const auto masked = model->encode_decode(images);
  const auto shares = model->named_buffers()["attn_mask_probs"];
  shares.fill_(0);
  const auto free = model->encode_decode(images);
  EXPECT_FALSE(masked.allclose(free));
  // Where a query's share is a matter of chance, each image lies between.
  shares.fill_(1e-9);
  EXPECT_TRUE(free.allclose(model->encode_decode(images)));
}

TEST(EoMT, LearnsFromEachBlock) {
  const auto model = small();
  model->train();
  Targets targets(torch::randint(3, {2, 32, 32}, torch::kLong));
  targets.labels.narrow(1, 0, 8).fill_(255);
  const auto losses = model->loss(torch::randn({2, 3, 32, 32}), targets);
  std::vector<std::string> names;
  for (const auto& [name, value] : losses) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("loss_cross_entropy", "loss_mask", "loss_dice",
                                 "d0.loss_cross_entropy", "d0.loss_mask", "d0.loss_dice",
                                 "d1.loss_cross_entropy", "d1.loss_mask", "d1.loss_dice"));
  total_loss(losses).backward();
  for (const auto& p : model->named_parameters()) {
    EXPECT_TRUE(p.value().grad().defined()) << p.key();
  }
  // Nothing but ignored pixels: queries learn that there is nothing.
  targets.labels.fill_(255);
  const auto none = model->loss(torch::randn({2, 3, 32, 32}), targets);
  EXPECT_TRUE(std::isfinite(total_loss(none).item<double>()));
}

TEST(EoMT, TakesOtherSizesOfWholePatches) {
  const torch::NoGradGuard no_grad;
  for (const std::string encoder : {"dinov2", "dinov3"}) {
    const auto model =
        small(text("num_attention_heads: 6, encoder: ", encoder), "num_attention_heads: 3");
    model->eval();
    EXPECT_EQ(model->encode_decode(torch::randn({1, 3, 24, 48})).sizes(),
              at::IntArrayRef({1, 3, 24, 48}));
    EXPECT_EQ(error_of([&] {
                model->encode_decode(torch::randn({1, 3, 20, 48}));
              }),
              "images of 20x48 do not fit this EoMT: height and width must be multiples of 8. Pad "
              "them to 24x48: for training set size of the data preprocessor (crop_size), for "
              "tests its test_cfg: {size_divisor: 8}");
  }
}

TEST(EoMT, OrdersItsLayers) {
  const auto model = small();
  const auto order = dynamic_cast<const OrdersLayers&>(*model).layer_order();
  EXPECT_EQ(order.count(LayerUnit::kBlock), 4);
  EXPECT_EQ(order.layer_of("embeddings.cls_token", LayerUnit::kBlock), 0);
  EXPECT_EQ(order.layer_of("layers.2.mlp.fc1.weight", LayerUnit::kBlock), 3);
  EXPECT_EQ(order.layer_of("layernorm.weight", LayerUnit::kBlock), 4);
  EXPECT_EQ(order.layer_of("query.weight", LayerUnit::kBlock), std::nullopt);
}

// --- Weights of timm's encoders -----------------------------------------------------------------

Value adapted(const Segmentor& model, const torch::nn::Module& encoder) {
  Value state = state_dict(encoder);
  dynamic_cast<const AdaptsPretrained&>(model).adapt_pretrained(state);
  return state;
}

std::shared_ptr<Encoder> encoder_of_timm(const std::string& name) {
  torch::manual_seed(1);
  auto encoder = build_plain_encoder(name, {.depth = 12, .img_size = 64});
  encoder->init_weights();
  torch::NoGradGuard no_grad;
  for (auto& p : encoder->parameters()) p.normal_();
  return encoder;
}

/// Names that the model has beyond those of the weights, without its own heads.
std::vector<std::string> missing(const Segmentor& model, const Value& weights) {
  std::vector<std::string> out;
  for (const auto& item : model.named_parameters()) {
    const Value* found = weights.find(item.key());
    if (found && found->as_tensor().sizes() == item.value().sizes()) continue;
    const bool head = item.key().starts_with("upscale") || item.key().starts_with("mask_head") ||
                      item.key().starts_with("class_pred") || item.key().starts_with("query");
    if (!head) out.push_back(item.key());
  }
  return out;
}

TEST(EoMT, StartsFromDinov2OfTimm) {
  const auto encoder = encoder_of_timm("tu-vit_small_patch14_reg4_dinov2");
  const auto model = Spec<Segmentor>::of(
                         "{type: EoMT, hidden_size: 384, num_hidden_layers: 12, "
                         "num_attention_heads: 6, image_size: 96, num_queries: 5, num_labels: 3}")
                         .build();
  const auto weights = adapted(*model, *encoder);
  EXPECT_THAT(missing(*model, weights), ElementsAre());
  auto theirs = encoder->named_parameters();
  const auto is = [&](const std::string& name, const torch::Tensor& expected) {
    return weights.find(name)->as_tensor().equal(expected);
  };
  const auto qkv = theirs["blocks.3.attn.qkv.weight"].chunk(3);
  EXPECT_TRUE(is("layers.3.attention.q_proj.weight", qkv[0]));
  EXPECT_TRUE(is("layers.3.attention.k_proj.weight", qkv[1]));
  EXPECT_TRUE(is("layers.3.attention.v_proj.weight", qkv[2]));
  EXPECT_TRUE(is("layers.0.layer_scale2.lambda1", theirs["blocks.0.ls2.gamma"]));
  EXPECT_TRUE(is("embeddings.cls_token", theirs["cls_token"]));
  EXPECT_TRUE(is("embeddings.register_tokens", theirs["reg_token"]));
  EXPECT_TRUE(is("layernorm.bias", theirs["norm.bias"]));
}

TEST(EoMT, FitsWeightsToPatchesOfAnotherSize) {
  const auto encoder = encoder_of_timm("tu-vit_tiny_patch16_224");
  const torch::NoGradGuard no_grad;
  encoder->named_parameters()["patch_embed.proj.weight"].fill_(1);
  const auto model = Spec<Segmentor>::of(
                         "{type: EoMT, hidden_size: 192, num_hidden_layers: 12, patch_size: 8, "
                         "num_attention_heads: 3, image_size: 32, num_queries: 5, num_labels: 3, "
                         "num_register_tokens: 0}")
                         .build();
  const auto weights = adapted(*model, *encoder);
  const auto patch = weights.find("embeddings.patch_embeddings.projection.weight")->as_tensor();
  EXPECT_EQ(patch.sizes(), at::IntArrayRef({192, 3, 8, 8}));
  // Numbers of timm 1.0.31, resample_patch_embed.
  EXPECT_NEAR(patch[0][0].sum().item<double>(), 253.7212, 1e-3);
  const auto ramp =
      resampled_patch_weight(torch::arange(196.0).view({1, 1, 14, 14}).to(torch::kFloat) / 196, 16);
  EXPECT_NEAR(ramp.sum().item<double>(), 97.5, 1e-3);
  EXPECT_NEAR(ramp[0][0][5][7].item<double>(), 0.259811, 1e-5);
  // The class token had a position of its own.
  auto theirs = encoder->named_parameters();
  EXPECT_TRUE(weights.find("embeddings.cls_token")
                  ->as_tensor()
                  .equal(theirs["cls_token"] + theirs["pos_embed"].narrow(1, 0, 1)));
  EXPECT_TRUE(weights.find("embeddings.position_embeddings.weight")
                  ->as_tensor()
                  .equal(theirs["pos_embed"][0].narrow(0, 1, 16)));
}

TEST(EoMT, StartsFromDinov3OfTimm) {
  for (const std::string name :
       {"tu-vit_tiny_patch16_dinov3_qkvb", "tu-vit_small_plus_patch16_dinov3"}) {
    SCOPED_TRACE(name);
    const bool plus = name.find("plus") != std::string::npos;
    const auto encoder = encoder_of_timm(name);
    const auto model =
        Spec<Segmentor>::of(
            text("{type: EoMT, encoder: dinov3, num_hidden_layers: 12, hidden_size: ",
                 plus ? "384, num_attention_heads: 6, use_swiglu_ffn: true"
                      : "192, num_attention_heads: 3",
                 ", image_size: 64, num_queries: 5, num_labels: 3}"))
            .build();
    const auto weights = adapted(*model, *encoder);
    EXPECT_THAT(missing(*model, weights), ElementsAre());
    const auto bias = weights.find("layers.1.attention.q_proj.bias")->as_tensor();
    if (plus) {
      EXPECT_EQ(bias.abs().sum().item<double>(), 0);
    } else {
      EXPECT_TRUE(bias.equal(encoder->named_parameters()["blocks.1.attn.q_bias"]));
    }
  }
}

// --- Messages -----------------------------------------------------------------------------------

TEST(EoMT, ExplainsWhatDoesNotFit) {
  const auto problem = [](const std::string& more, const std::string& old = "") {
    return error_of([&] { Spec<Segmentor>::of(small_yaml(more, old)); });
  };
  EXPECT_THAT(problem("hidden_size: 25", "hidden_size: 24"),
              HasSubstr("num_attention_heads: must divide hidden_size, 25"));
  EXPECT_THAT(problem("encoder: dinov3, hidden_size: 30", "hidden_size: 24"),
              HasSubstr("num_attention_heads: gives heads a width of 10, which must be a multiple "
                        "of 4 for positions as rotations"));
  EXPECT_THAT(problem("num_blocks: 5", "num_blocks: 2"),
              HasSubstr("num_blocks: there are only 4 blocks"));
  EXPECT_THAT(problem("image_size: 4", "image_size: 32"),
              HasSubstr("image_size: must be at least patch_size, 8"));
  EXPECT_THAT(problem(", attn_mask_annealing_enabled: true, "
                      "attn_mask_annealing_start_steps: [1]"),
              HasSubstr("attn_mask_annealing_start_steps: needs 2 values (num_blocks), got 1"));
}

}  // namespace seg::eomt_test
