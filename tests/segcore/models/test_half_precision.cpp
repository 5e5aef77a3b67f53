/// What must not be computed in half precision under autocast, and that weights cast in one step do
/// not serve the next.
#include <gtest/gtest.h>

#include <cmath>

#include "segcore/models/assigners/assigner.hpp"
#include "segcore/models/blocks/point_sample.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/decode_heads/pixel_decoder.hpp"
#include "segcore/models/loss.hpp"
#include "segcore/models/losses/query_loss.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/pixel_sampler.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/precision.hpp"
#include "segcore/testing/reference.hpp"
#include "segcore/torch.hpp"

namespace seg::half_precision_test {

/// The results of some steps of descent of a linear layer, and one in half precision after them.
std::vector<torch::Tensor> steps_of_a_layer(bool recomputed) {
  torch::manual_seed(0);
  const auto x = torch::randn({4, 8}).requires_grad_();
  auto weight = torch::randn({8, 8}).requires_grad_();
  const auto layer = [&](const at::Tensor& in) { return at::linear(in, weight).square(); };
  const auto forward = [&] { return recomputed ? recompute(layer, x) : layer(x); };
  std::vector<torch::Tensor> out;
  for (int step = 0; step < 3; ++step) {
    torch::Tensor y;
    {
      const Autocast precision(at::kCPU, at::kBFloat16);
      y = forward();
    }
    y.sum().backward();
    out.push_back(y.detach().clone());
    const torch::NoGradGuard no_grad;
    weight.sub_(weight.grad() * 0.1);
    weight.mutable_grad().zero_();
  }
  const torch::NoGradGuard no_grad;
  const Autocast precision(at::kCPU, at::kBFloat16);
  out.push_back(layer(x));
  return out;
}

TEST(HalfPrecision, RecomputedBlocksSeeTheWeightsOfTheirStep) {
  const auto expected = steps_of_a_layer(false), found = steps_of_a_layer(true);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(torch::equal(found[i], expected[i])) << "step " << i;
  }
}

TEST(HalfPrecision, WeightsThatARecomputedBlockSharesKeepTheirGradient) {
  std::vector<torch::Tensor> gradients;
  for (const bool recomputed : {false, true}) {
    torch::manual_seed(0);
    const auto x = torch::randn({4, 8}).requires_grad_();
    const auto weight = torch::randn({8, 8}).requires_grad_();
    const auto layer = [&](const at::Tensor& in) { return at::linear(in, weight); };
    torch::Tensor y;
    {
      const Autocast precision(at::kCPU, at::kBFloat16);
      y = layer(recomputed ? recompute(layer, x) : layer(x));
    }
    y.sum().backward();
    gradients.push_back(weight.grad());
  }
  EXPECT_TRUE(torch::allclose(gradients[1], gradients[0], 0.02, 0.02));
}

TEST(HalfPrecision, AutocastWithoutATypeIsOff) {
  const auto x = torch::randn({2, 2});
  const Autocast on(at::kCPU, at::kBFloat16);
  EXPECT_EQ(at::matmul(x, x).scalar_type(), at::kBFloat16);
  {
    const Autocast off(at::kCPU, std::nullopt);
    EXPECT_EQ(at::matmul(x, x).scalar_type(), at::kFloat);
  }
  EXPECT_EQ(at::matmul(x, x).scalar_type(), at::kBFloat16);
}

// --- Points -------------------------------------------------------------------------------------

TEST(HalfPrecision, PointsOfALargeMaskStayApart) {
  // Each column of the map has another value than its neighbours.
  const auto row = torch::arange(512).remainder(7).to(at::kBFloat16);
  const auto map = row.view({1, 1, 1, 512}).expand({1, 1, 4, 512}).contiguous();
  const auto x = (torch::arange(512, at::kFloat) + 0.5) / 512;
  const auto points = at::stack({x, torch::full({512}, 0.5f)}, 1).unsqueeze(0);
  const auto values = point_sample(map, points);
  EXPECT_EQ(values.scalar_type(), at::kFloat);
  EXPECT_TRUE(torch::allclose(values.flatten(), row.to(at::kFloat), 1e-3, 1e-3));
}

TEST(HalfPrecision, RandomPointsAreDrawnInFullPrecision) {
  for (const auto type : {at::kBFloat16, at::kHalf, at::kDouble}) {
    const auto logits = torch::randn({1, 1, 16, 16}).to(type);
    const auto expected = type == at::kDouble ? at::kDouble : at::kFloat;
    const auto points = uncertain_points(
        logits, [](const at::Tensor& v) { return -v.squeeze(1).abs(); }, {.num_points = 20},
        [&](at::IntArrayRef shape, const at::TensorOptions& options) {
          EXPECT_EQ(c10::typeMetaToScalarType(options.dtype()), expected);
          return at::rand(shape, options);
        });
    EXPECT_EQ(points.scalar_type(), expected);
  }
}

TEST(HalfPrecision, DeformableAttentionFindsItsPlacesOnWideMaps) {
  const auto decoder =
      Spec<MaskPixelDecoder>::of(
          "{type: MSDeformAttnPixelDecoder, num_outs: 1, strides: [4], positional_encoding: "
          "{num_feats: 16, normalize: true}, encoder: {num_layers: 1, layer_cfg: {self_attn_cfg: "
          "{embed_dims: 32, num_levels: 1, dropout: 0.0}, ffn_cfg: {embed_dims: 32, "
          "feedforward_channels: 64}}}}")
          .build(PixelDecoderInputs{{{8, 4}}, 32, 32});
  reference::fill(*decoder, 1);
  decoder->eval();
  const torch::NoGradGuard no_grad;
  torch::manual_seed(0);
  const auto map = torch::randn({1, 8, 4, 1024});
  const auto expected = decoder->forward({map}, {}).memories[0];
  const Autocast precision(at::kCPU, at::kBFloat16);
  const auto found = decoder->forward({map}, {}).memories[0];
  // Of the right half, where positions in bfloat16 are several pixels apart.
  const auto error = (found - expected).narrow(3, 512, 512).abs().mean().item<double>();
  EXPECT_LT(error, 0.02 * expected.abs().mean().item<double>());
}

// --- Matching and losses ------------------------------------------------------------------------

std::vector<int64_t> matched(const std::string& cost, const MatchInputs& in) {
  const auto assigner =
      Spec<Assigner>::of("{type: HungarianAssigner, match_costs: [" + cost + "]}").build();
  return assigner->assign(assigner->costs(in));
}

TEST(HalfPrecision, MatchesAsInFullPrecision) {
  // Confident masks of many points; the second query is nearer to the first truth.
  const int64_t points = 12544;
  MatchInputs in;
  in.scores = torch::zeros({2, 3});
  in.labels = torch::tensor({0, 1}, torch::kLong);
  in.gt_masks = torch::zeros({2, points});
  in.gt_masks[0].narrow(0, 0, 9000).fill_(1);
  in.gt_masks[1].narrow(0, 3000, 9000).fill_(1);
  in.masks = torch::full({2, points}, -15.0f);
  in.masks[0].narrow(0, 3500, 9000).fill_(15);
  in.masks[1].narrow(0, 300, 9000).fill_(15);
  const std::vector<int64_t> expected{1, 0};
  for (const char* cost :
       {"{type: FocalLossCost, binary_input: true}", "{type: CrossEntropyLossCost}",
        "{type: DiceCost, pred_act: true, eps: 1.0}"}) {
    EXPECT_EQ(matched(cost, in), expected) << cost;
    for (const auto type : {at::kHalf, at::kBFloat16}) {
      MatchInputs half = in;
      half.masks = in.masks.to(type);
      half.scores = in.scores.to(type);
      half.gt_masks = in.gt_masks.to(type);
      EXPECT_EQ(matched(cost, half), expected) << cost << " of " << type;
      const Autocast precision(at::kCPU, at::kHalf);
      EXPECT_EQ(matched(cost, half), expected) << cost << " of " << type;
      EXPECT_EQ(matched(cost, in), expected) << cost << " under autocast";
    }
  }
}

TEST(HalfPrecision, LossesCountPixelsAboveTheRangeOfHalves) {
  torch::manual_seed(0);
  // 70,000 pixels, of which a half counts 65,504.
  const auto logits = torch::randn({1, 2, 280, 250}) + torch::tensor({4.0f, 0.0f}).view({2, 1, 1});
  const auto labels = torch::randint(0, 2, {1, 280, 250}, torch::kLong);
  for (const char* name :
       {"JaccardLoss", "TverskyLoss", "DiceLoss", "FocalLoss", "LovaszLoss", "CrossEntropyLoss"}) {
    const std::string options =
        std::string(name) == "LovaszLoss" ? ", reduction: none" : std::string();
    const auto loss = build_loss(Spec<Loss>::of(std::string("{type: ") + name + options + "}"), 2);
    const double expected = loss->forward(logits, labels, {}, 255).item<double>();
    const Autocast precision(at::kCPU, at::kHalf);
    EXPECT_NEAR(loss->forward(logits, labels, {}, 255).item<double>(), expected, 1e-6) << name;
  }
}

TEST(HalfPrecision, LossesOfQueriesAreThoseOfTheSameNumbersInFull) {
  torch::manual_seed(0);
  const auto logits = (torch::randn({3, 3000}) * 4).to(at::kBFloat16);
  const auto truth = (torch::rand({3, 3000}) < 0.4).to(at::kFloat);
  for (const char* yaml : {"{type: CrossEntropyLoss, use_sigmoid: true}", "{type: FocalLoss}",
                           "{type: DiceLoss}", "{type: DiceLoss, naive_dice: true}"}) {
    const auto loss = Spec<MaskLoss>::of(yaml).build();
    EXPECT_TRUE(torch::equal((*loss)(logits, truth, 3), (*loss)(logits.to(at::kFloat), truth, 3)))
        << yaml;
  }
  const auto scores = torch::randn({100, 151}).to(at::kBFloat16);
  const auto labels = torch::randint(0, 151, {100}, torch::kLong);
  const auto loss = Spec<QueryClassLoss>::of("{type: CrossEntropyLoss}").build();
  EXPECT_TRUE(torch::equal((*loss)(scores, labels), (*loss)(scores.to(at::kFloat), labels)));
}

TEST(HalfPrecision, HardPixelsAreChosenInFullPrecision) {
  // Probabilities of the true class just above and below the threshold; bfloat16 has no number
  // between them.
  const auto logits = torch::tensor({0.8515625f, 0.84375f, 0.0f, 0.0f}).view({1, 2, 1, 2});
  const auto labels = torch::zeros({1, 1, 2}, torch::kLong);
  const auto sampler = Spec<PixelSampler>::of("{type: OHEMPixelSampler, thresh: 0.7, min_kept: 2}");
  const auto unused = [] { return at::Tensor(); };
  EXPECT_TRUE(torch::equal(
      sampler.build()->sample(logits.to(at::kBFloat16), labels, 255, unused).to(at::kFloat),
      sampler.build()->sample(logits, labels, 255, unused)));
}

TEST(HalfPrecision, BoundariesOfLabelsAreTheSame) {
  const auto head = Spec<DecodeHead>::of(
                        "{type: STDCHead, channels: 4, num_classes: 2, out_channels: 1, num_convs: "
                        "1, loss_decode: {type: CrossEntropyLoss, use_sigmoid: true}}")
                        .build(std::vector<FeatureInfo>{{4, 8}});
  head->eval();
  torch::manual_seed(0);
  const auto labels =
      at::upsample_nearest2d(torch::randint(0, 2, {1, 1, 16, 16}).to(at::kFloat), {64, 64}, {}, {})
          .squeeze(1)
          .to(torch::kLong);
  // Zero logits: the accuracy counts the pixels that are no boundary.
  const auto map = torch::zeros({1, 4, 64, 64});
  const auto accuracy = [&] { return head->loss({map}, Targets(labels)).back().second; };
  const auto expected = accuracy();
  const Autocast precision(at::kCPU, at::kBFloat16);
  EXPECT_TRUE(torch::equal(accuracy(), expected));
}

// --- Predictions --------------------------------------------------------------------------------

/// Whether some values have more digits than bfloat16 holds.
bool has_full_precision(const torch::Tensor& x) {
  return x.scalar_type() == at::kFloat && !torch::equal(x.to(at::kBFloat16).to(at::kFloat), x);
}

TEST(HalfPrecision, WindowsAreResizedAndAveragedInFullPrecision) {
  torch::manual_seed(0);
  const std::string text =
      "{type: EncoderDecoder, backbone: {type: MixVisionTransformer, embed_dims: 8, num_layers: "
      "[1, 1, 1, 1]}, decode_head: {type: SegformerHead, channels: 16, num_classes: 5, norm_cfg: "
      "{type: BN}}, test_cfg: {mode: slide, crop_size: [32, 32], stride: [20, 20]}}";
  const auto model = Spec<Segmentor>::of(text).build();
  model->eval();
  const torch::NoGradGuard no_grad;
  const auto images = torch::randn({1, 3, 48, 64});
  const Autocast precision(at::kCPU, at::kBFloat16);
  EXPECT_TRUE(has_full_precision(model->encode_decode(images)));
  EXPECT_TRUE(has_full_precision(model->inference(images)));
  // One window: the mean of its logits are these logits.
  const auto whole = model->encode_decode(images.narrow(3, 0, 32).narrow(2, 0, 32));
  const auto slid = model->inference(images.narrow(3, 0, 32).narrow(2, 0, 32));
  EXPECT_TRUE(torch::equal(slid, whole));
}

TEST(HalfPrecision, ScoresOfQueriesAreAddedInFullPrecision) {
  const auto head =
      Spec<DecodeHead>::of(
          "{type: MaskFormerHead, feat_channels: 32, out_channels: 32, num_classes: 4, "
          "num_queries: 5, positional_encoding: {num_feats: 16}, pixel_decoder: {type: "
          "PixelDecoder}, transformer_decoder: {num_layers: 1, layer_cfg: {self_attn_cfg: "
          "{embed_dims: 32, num_heads: 2}, cross_attn_cfg: {embed_dims: 32, num_heads: 2}, "
          "ffn_cfg: {embed_dims: 32, feedforward_channels: 64}}, post_norm_cfg: {type: LN}}}")
          .build(std::vector<FeatureInfo>{{8, 4}, {32, 8}});
  head->eval();
  torch::manual_seed(0);
  const torch::NoGradGuard no_grad;
  const std::vector<torch::Tensor> maps{torch::randn({1, 8, 16, 16}), torch::randn({1, 32, 8, 8})};
  const Autocast precision(at::kCPU, at::kBFloat16);
  EXPECT_TRUE(has_full_precision(head->forward(maps)));
  EXPECT_TRUE(has_full_precision(head->predict(maps, {64, 64})));
}

}  // namespace seg::half_precision_test
