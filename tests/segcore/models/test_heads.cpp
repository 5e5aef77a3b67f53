/// Options of decode heads that no fixture has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/io/weights.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/profile/flops.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::heads_test {

using ::testing::HasSubstr;

std::shared_ptr<DecodeHead> head_of(const std::string& yaml, int64_t width = 8) {
  torch::manual_seed(0);
  return Spec<DecodeHead>::of(yaml).build(std::vector<FeatureInfo>{{width, 4}});
}

/// In training. \param dropout  of the first of two heads.
std::shared_ptr<Segmentor> cascade(const std::string& dropout, const std::string& norm) {
  torch::manual_seed(0);
  const auto model =
      Spec<Segmentor>::of(
          "{type: CascadeEncoderDecoder, num_stages: 2, backbone: {type: MixVisionTransformer, "
          "embed_dims: 8, num_stages: 1, num_layers: [1], num_heads: [1], patch_sizes: [7], "
          "strides: [4], sr_ratios: [1], out_indices: [0], drop_path_rate: 0}, decode_head: "
          "[{type: FCNHead, channels: 4, num_classes: 3, dropout_ratio: " +
          dropout + ", norm_cfg: &norm " + norm +
          "}, {type: OCRHead, channels: 4, ocr_channels: 4, num_classes: 3, dropout_ratio: -1, "
          "norm_cfg: *norm}]}")
          .build();
  model->train();
  return model;
}

TEST(Cascade, ComputesAnOutputThatRepeatsOnce) {
  const auto images = torch::randn({2, 3, 32, 32});
  const auto labels = torch::arange(2 * 32 * 32).view({2, 32, 32}).remainder(3);
  for (const std::string norm :
       {"{type: BN}", "{type: BN, momentum: null}", "{type: IN, track_running_stats: true}"}) {
    // What is dropped with this probability is nothing, but the head cannot know that.
    const auto once = cascade("-1", norm), twice = cascade("1.0e-12", norm);
    LossMap losses[2];
    const auto flops_once = count_flops([&] { losses[0] = once->loss(images, labels); });
    const auto flops_twice = count_flops([&] { losses[1] = twice->loss(images, labels); });
    const auto sum = [](const std::map<std::string, int64_t>& flops) {
      int64_t out = 0;
      for (const auto& [name, count] : flops) out += count;
      return out;
    };
    EXPECT_LT(sum(flops_once), 0.9 * static_cast<double>(sum(flops_twice))) << norm;
    ASSERT_EQ(losses[0].size(), losses[1].size());
    for (size_t i = 0; i < losses[0].size(); ++i) {
      EXPECT_EQ(losses[0][i].first, losses[1][i].first);
      EXPECT_TRUE(at::allclose(losses[0][i].second, losses[1][i].second, 1e-5, 1e-6))
          << losses[0][i].first;
    }
    for (const auto& model : {once, twice}) total_loss(model->loss(images, labels)).backward();
    const auto expected = twice->named_buffers();
    EXPECT_FALSE(expected.is_empty());
    for (const auto& buffer : once->named_buffers()) {
      EXPECT_TRUE(at::allclose(buffer.value(), expected[buffer.key()], 1e-5, 1e-6))
          << norm << " " << buffer.key();
    }
    const auto gradients = twice->named_parameters();
    for (const auto& weight : once->named_parameters()) {
      EXPECT_TRUE(at::allclose(weight.value().grad(), gradients[weight.key()].grad(), 1e-4, 1e-6))
          << norm << " " << weight.key();
    }
  }
}

TEST(PointHead, SamplesAFractionOfCandidatesMore) {
  const auto model =
      Spec<Segmentor>::of(
          "{type: CascadeEncoderDecoder, num_stages: 2, train_cfg: {num_points: 10, "
          "oversample_ratio: 2.5}, backbone: {type: MixVisionTransformer, embed_dims: 8, "
          "num_stages: 1, num_layers: [1], num_heads: [1], patch_sizes: [7], strides: [4], "
          "sr_ratios: [1], out_indices: [0]}, decode_head: [{type: FCNHead, channels: 4, "
          "num_classes: 3}, {type: PointHead, channels: 4, num_classes: 3}]}")
          .build();
  std::vector<std::vector<int64_t>> asked;
  set_random_source(*model, [&](at::IntArrayRef shape, const at::TensorOptions& options) {
    asked.push_back(shape.vec());
    return torch::full(shape, 0.5, options);
  });
  model->loss(torch::randn({1, 3, 32, 32}), torch::zeros({1, 32, 32}, torch::kLong));
  using Shapes = std::vector<std::vector<int64_t>>;
  EXPECT_EQ(asked, (Shapes{{1, 25, 2}, {1, 3, 2}}));  // int(10 * 2.5), and 10 - int(10 * 0.75)
}

const char* const kHam =
    "{type: LightHamHead, in_channels: [8], in_index: [0], channels: 4, num_classes: 3, "
    "ham_channels: 8, ham_kwargs: {MD_R: 4, rand_init: false}}";
const std::string kBases = "hamburger.ham.bases";

TEST(LightHamHead, MakesKeptBasesWhenTheyAreNeeded) {
  const auto images = torch::rand({2, 8, 6, 6});
  const auto head = head_of(kHam);
  EXPECT_FALSE(head->named_buffers().contains(kBases));  // as in MMSegmentation
  const Value fresh = state_dict(*head);
  head->eval();
  const auto out = head->forward({images});
  EXPECT_EQ(head->named_buffers()[kBases].sizes(), (std::vector<int64_t>{1, 8, 4}));
  EXPECT_TRUE(torch::equal(head->forward({images}), out));

  // Weights with bases bring them.
  const auto other = head_of(kHam);
  EXPECT_TRUE(load_state_dict(*other, state_dict(*head), {.strict = true}).exact());
  other->eval();
  EXPECT_TRUE(torch::equal(other->forward({images}), out));
  // Weights without fit too.
  EXPECT_TRUE(load_state_dict(*head_of(kHam), fresh, {.strict = true}).exact());

  const auto trained = head_of(kHam);
  trained->train();
  EXPECT_TRUE(trained->named_buffers().contains(kBases));
  const auto random =
      head_of("{type: LightHamHead, in_index: [0], channels: 4, num_classes: 3, ham_channels: 8}");
  random->train();
  random->forward({images});
  EXPECT_FALSE(random->named_buffers().contains(kBases));
}

TEST(DepthwiseSeparableFCNHead, ActivatesDepthwiseConvolutionsByItsOption) {
  const auto options = [](const std::string& act) {
    return "{type: DepthwiseSeparableFCNHead, channels: 8, num_classes: 3, concat_input: false, "
           "num_convs: 1, dropout_ratio: 0" +
           act + "}";
  };
  const auto run = [&](const std::string& act) {
    const auto head = head_of(options(act));
    torch::manual_seed(1);
    return head->forward({torch::randn({1, 8, 6, 6})});
  };
  const auto none = run("");
  EXPECT_TRUE(torch::equal(none, run(", dw_act_cfg: null")));
  EXPECT_FALSE(torch::equal(none, run(", dw_act_cfg: default")));
  EXPECT_TRUE(torch::equal(run(", dw_act_cfg: {type: ReLU}"), run(", dw_act_cfg: default")));
  EXPECT_THAT(test::spec_error<DecodeHead>(options(", dw_act_cfg: relu")),
              HasSubstr("dw_act_cfg: must be a mapping, null or 'default', got 'relu'"));
}

TEST(KernelUpdateHead, TransformsFeaturesByAnyConvModule) {
  const auto knet = [](const std::string& transform) {
    return "{type: IterativeDecodeHead, num_stages: 1, kernel_generate_head: {type: FCNHead, "
           "channels: 8, num_classes: 3, num_convs: 1}, kernel_update_head: [{type: "
           "KernelUpdateHead, num_classes: 3, in_channels: 8, out_channels: 8, num_heads: 2, "
           "feedforward_channels: 16, feat_transform_cfg: {" +
           transform +
           "}, kernel_updator_cfg: {type: KernelUpdator, in_channels: 8, feat_channels: 8, "
           "out_channels: 8}}]}";
  };
  const std::string prefix = "kernel_update_head.0.feat_transform.";
  const auto plain = head_of(knet("conv_cfg: {type: Conv2d}"))->named_parameters();
  EXPECT_EQ(plain[prefix + "conv.weight"].sizes(), (std::vector<int64_t>{8, 8, 1, 1}));
  EXPECT_TRUE(plain.contains(prefix + "conv.bias"));
  const auto head =
      head_of(knet("kernel_size: [1, 1], groups: 2, bias: false, norm_cfg: {type: BN}, act_cfg: "
                   "null, order: [norm, conv, act], padding_mode: reflect, inplace: false, "
                   "dilation: 1, with_spectral_norm: false, efficient_conv_bn_eval: true"));
  const auto weights = head->named_parameters();
  EXPECT_EQ(weights[prefix + "conv.weight"].sizes(), (std::vector<int64_t>{8, 4, 1, 1}));
  EXPECT_FALSE(weights.contains(prefix + "conv.bias"));
  EXPECT_EQ(weights[prefix + "bn.weight"].size(0), 8);
  EXPECT_EQ(head->forward({torch::randn({2, 8, 6, 6})}).sizes(),
            (std::vector<int64_t>{2, 3, 6, 6}));
  const auto error = [&](const std::string& transform) {
    return test::config_error([&] { head_of(knet(transform)); });
  };
  EXPECT_THAT(error("order: [conv, conv, act]"),
              HasSubstr("feat_transform_cfg.order: must have each of conv, norm and act once"));
  EXPECT_THAT(error("bias: sometimes"),
              HasSubstr("feat_transform_cfg.bias: must be true, false or 'auto', got 'sometimes'"));
  EXPECT_THAT(error("with_spectral_norm: true"),
              HasSubstr("feat_transform_cfg.with_spectral_norm: spectral norm is not supported"));
  EXPECT_THAT(error("groups: 3"),
              HasSubstr("feat_transform_cfg: 3 groups do not divide in_channels 8"));
}

}  // namespace seg::heads_test
