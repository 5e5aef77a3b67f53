#include "segcore/models/decode_head.hpp"

#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>

#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::decode_head_test {

using test::config_error;
using test::spec_error;

const std::vector<FeatureInfo> kPyramid{{32, 4}, {64, 8}, {160, 16}, {256, 32}};

std::string build_error(const std::string& yaml) {
  return config_error([&] { Spec<DecodeHead>::of(yaml).build(kPyramid); });
}

TEST(DecodeHead, WidthsThatDoNotFitNameBoth) {
  EXPECT_EQ(
      build_error(
          "{type: SegformerHead, channels: 8, num_classes: 3, in_channels: [32, 64, 160, 255]}"),
      "<default>:1:65: error: in_channels: is [32, 64, 160, 255], but the chosen maps "
      "(in_index [0, 1, 2, 3]) have [32, 64, 160, 256] channels. Leave it out to take what "
      "they have\n1 error in the configuration");
}

TEST(DecodeHead, MapsThatAreNotThere) {
  EXPECT_EQ(build_error("{type: SegformerHead, channels: 8, num_classes: 3, in_index: [0, 4]}"),
            "<default>:1:62: error: in_index: there is no map 4: the head is given 4 maps\n"
            "1 error in the configuration");
}

TEST(DecodeHead, OptionsThatContradictEachOther) {
  EXPECT_EQ(
      spec_error<DecodeHead>("{type: SegformerHead, channels: 8, num_classes: 3, out_channels: 1}"),
      "<default>:1:66: error: out_channels: must be num_classes (3), or 1 with num_classes 2; "
      "got 1\n1 error in the configuration");
  EXPECT_EQ(
      spec_error<DecodeHead>("{type: SegformerHead, channels: 8, num_classes: 3, in_index: 2}"),
      "<default>:1:62: error: in_index: input_transform 'multiple_select' needs a list of "
      "indices\n1 error in the configuration");
  EXPECT_EQ(spec_error<DecodeHead>("{type: SegformerHead, num_classes: 3}"),
            "<default>:1:1: error: SegformerHead needs 'channels' (int): width before the "
            "classifier\n1 error in the configuration");
}

TEST(DecodeHead, LossesOfOneNameAddUp) {
  const auto head =
      Spec<DecodeHead>::of(
          "{type: SegformerHead, channels: 8, num_classes: 3, dropout_ratio: 0, "
          "norm_cfg: {type: BN}, loss_decode: [{type: CrossEntropyLoss, loss_weight: 0.25}, "
          "{type: CrossEntropyLoss, loss_weight: 0.75}, {type: DiceLoss}]}")
          .build(kPyramid);
  head->eval();
  torch::manual_seed(0);
  std::vector<torch::Tensor> maps;
  for (const auto& f : kPyramid)
    maps.push_back(torch::randn({2, f.channels, 32 / f.stride, 32 / f.stride}));
  const auto labels = torch::randint(0, 3, {2, 32, 32}, torch::kLong);
  const auto losses = head->loss(maps, labels);
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_EQ(losses[0].first, "loss_ce");
  EXPECT_EQ(losses[1].first, "loss_dice");
  EXPECT_EQ(losses[2].first, "acc_seg");
  const auto logits = seg::resize(head->forward(maps), Size2(32));
  EXPECT_NEAR(losses[0].second.item<double>(),
              torch::nn::functional::cross_entropy(logits, labels).item<double>(), 1e-5);
  EXPECT_FALSE(losses[2].second.requires_grad());
}

TEST(PixelAccuracy, LeavesIgnoredPixelsOut) {
  const auto logits =
      torch::tensor({{{{2.0, 0.0, 2.0, 0.0}}, {{0.0, 2.0, 0.0, 2.0}}}});  // [1,2,1,4]
  const auto labels = torch::tensor({{{0, 1, 1, 255}}}, torch::kLong);
  EXPECT_NEAR(pixel_accuracy(logits, labels, 255).item<double>(), 66.6667, 1e-3);
}

}  // namespace seg::decode_head_test
