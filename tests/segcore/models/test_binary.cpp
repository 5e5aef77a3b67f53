/// Two classes by one map of logits: label 1 is the foreground, for losses as for predictions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/decode_head.hpp"
#include "segcore/models/loss.hpp"
#include "segcore/models/pixel_sampler.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

/// Int64 [1, 2, 4]: two pixels of the background, two of the foreground, ignored ones.
torch::Tensor binary_labels() {
  return torch::tensor({0, 1, 0, 1, 255, 255, 1, 0}, torch::kLong).view({1, 2, 4});
}

TEST(Binary, EveryLossRaisesTheLogitsOfLabelOne) {
  const auto labels = binary_labels();
  for (const char* yaml :
       {"{type: CrossEntropyLoss, use_sigmoid: true}", "{type: DiceLoss}",
        "{type: DiceLoss, naive_dice: true}", "{type: DiceLoss, ignore_index: null}",
        "{type: FocalLoss}", "{type: JaccardLoss}", "{type: JaccardLoss, use_sigmoid: true}",
        "{type: LovaszLoss, loss_type: binary, reduction: none}"}) {
    SCOPED_TRACE(yaml);
    const auto loss = build_loss(Spec<Loss>::of(yaml), 1);
    const auto logits = torch::zeros({1, 1, 2, 4}, torch::kFloat64).requires_grad_();
    const auto gradient =
        torch::autograd::grad({loss->forward(logits, labels, {}, 255)}, {logits})[0].flatten();
    const auto flat = labels.flatten();
    EXPECT_LT(gradient.masked_select(flat == 1).max().item<double>(), 0);
    EXPECT_GT(gradient.masked_select(flat == 0).sum().item<double>(), 0);
    const auto right = torch::where(labels == 1, 8.0, -8.0).unsqueeze(1).to(torch::kFloat64);
    EXPECT_LT(loss->forward(right, labels, {}, 255).item<double>(),
              loss->forward(-right, labels, {}, 255).item<double>());
  }
}

TEST(Binary, LossesOfASoftmaxSayWhatToWriteInstead) {
  const auto error = [](const std::string& yaml) {
    return config_error([&] { build_loss(Spec<Loss>::of(yaml), 1); });
  };
  const auto expected = [](int column, const std::string& option, const std::string& instead) {
    return text("<default>:1:", column, ": error: ", option,
                ": a softmax over the 1 channel of the logits is always 1. Write ", instead,
                ", or give the model 2 channels (out_channels: 2; classes: 2 in models of smp)\n"
                "1 error in the configuration");
  };
  EXPECT_EQ(error("{type: CrossEntropyLoss, use_sigmoid: false}"),
            expected(39, "use_sigmoid", "use_sigmoid: true"));
  EXPECT_EQ(error("{type: DiceLoss, use_sigmoid: false}"),
            expected(31, "use_sigmoid", "use_sigmoid: true"));
  EXPECT_EQ(error("{type: TverskyLoss}"),
            expected(8, "type", "{type: JaccardLoss} or {type: DiceLoss}"));
  EXPECT_EQ(error("{type: LovaszLoss, loss_type: multi_class}"),
            expected(31, "loss_type", "loss_type: binary"));
  EXPECT_EQ(error("{type: OhemCrossEntropy}"),
            expected(8, "type",
                     "{type: CrossEntropyLoss, use_sigmoid: true} with the head's sampler: {type: "
                     "OHEMPixelSampler, thresh: 0.7}"));
  EXPECT_EQ(error("{type: HuasdorffDisstanceLoss}"), expected(8, "type", "{type: DiceLoss}"));
  EXPECT_THAT(error("{type: DiceLoss, ignore_index: 1}"),
              HasSubstr("ignore_index: leaves out class 1, but logits of 1 channel only tell the "
                        "classes 0 and 1 apart"));
}

TEST(Binary, TheDefaultLossOfAHeadIsRefusedAtTheHead) {
  const std::vector<FeatureInfo> inputs{{.channels = 4, .stride = 4}};
  EXPECT_THAT(
      config_error([&] {
        Spec<DecodeHead>::of("{type: FCNHead, channels: 4, num_classes: 2, out_channels: 1}")
            .build(inputs);
      }),
      HasSubstr("loss_decode: the default, {type: CrossEntropyLoss, use_sigmoid: false, "
                "loss_weight: 1.0}, does not fit: a softmax over the 1 channel"));
}

TEST(Binary, HardPixelsAreFoundByTheSigmoid) {
  const auto sampler = Spec<PixelSampler>::of("{type: OHEMPixelSampler, thresh: 0.7, min_kept: 2}");
  const auto labels = binary_labels();
  // Right and sure; wrong; unsure, by row and column; ignored ones are never kept.
  const auto logits = torch::tensor({-4.0, 4.0, 4.0, -4.0, 4.0, -4.0, 0.1, 0.1}).view({1, 1, 2, 4});
  const auto weight = sampler.build()->sample(logits, labels, 255, {});
  EXPECT_TRUE(torch::equal(
      weight.flatten(), torch::tensor({0., 0., 1., 1., 0., 0., 1., 1.}).to(weight.scalar_type())));
}

TEST(Binary, AccuracyCountsBothClasses) {
  const auto logits = torch::tensor({-1.0, 1.0, 1.0, 2.0, 0.0, 0.0, -2.0, -1.0}).view({1, 1, 2, 4});
  // Of the six pixels that count, the third and the seventh are wrong.
  EXPECT_NEAR(pixel_accuracy(logits, binary_labels(), 255).item<double>(), 100.0 * 4 / 6, 1e-3);
}

/// Models of smp have one class by default, for two.
TEST(Binary, ModelsOfSmpLearnLabelOneToo) {
  const auto model = Spec<Segmentor>::of(
                         "{type: Unet, encoder_name: resnet18, encoder_weights: null, "
                         "encoder_depth: 3, decoder_channels: [8, 8, 4], classes: 1, "
                         "loss_decode: [{type: CrossEntropyLoss, use_sigmoid: true}, "
                         "{type: DiceLoss}]}")
                         .build();
  EXPECT_EQ(model->num_classes(), 2);
  EXPECT_THAT(
      config_error([] {
        Spec<Segmentor>::of(
            "{type: Unet, encoder_name: resnet18, encoder_weights: null, "
            "classes: 1, loss_decode: {type: TverskyLoss}}")
            .build();
      }),
      HasSubstr("loss_decode.type: a softmax over the 1 channel of the logits is always 1"));
}

}  // namespace
}  // namespace seg::test
