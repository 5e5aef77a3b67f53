/// Losses of heads of queries: their formulas, and errors of their options.
#include <gtest/gtest.h>

#include <cmath>

#include "segcore/models/decode_head.hpp"
#include "segcore/models/losses/query_loss.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::query_losses_test {

double class_loss(const std::string& yaml, const torch::Tensor& scores,
                  const torch::Tensor& labels) {
  return (*Spec<QueryClassLoss>::of(yaml).build())(scores, labels).item<double>();
}

double mask_loss(const std::string& yaml, const torch::Tensor& logits, const torch::Tensor& truth,
                 double count) {
  return (*Spec<MaskLoss>::of(yaml).build())(logits, truth, count).item<double>();
}

TEST(QueryCrossEntropy, WeighsQueriesByTheirClasses) {
  // Probabilities {1/4, 3/4} and {1/2, 1/2}.
  const auto scores = torch::tensor({0.0, std::log(3.0), 0.0, 0.0}, torch::kFloat64).view({2, 2});
  const auto labels = torch::tensor({0, 1}, torch::kLong);
  EXPECT_NEAR(class_loss("{type: CrossEntropyLoss}", scores, labels),
              (std::log(4) + std::log(2)) / 2, 1e-6);
  EXPECT_NEAR(class_loss("{type: CrossEntropyLoss, class_weight: [1, 0.1], loss_weight: 2}", scores,
                         labels),
              2 * (std::log(4) + 0.1 * std::log(2)) / 1.1, 1e-6);
}

TEST(MaskLosses, AreMeansOverTheCountedMasks) {
  // Probabilities 1/4 and 3/4 of one mask, whose first pixel is foreground.
  const double x = std::log(3.0);
  const auto logits = torch::tensor({-x, x}, torch::kFloat64).view({1, 2});
  const auto truth = torch::tensor({1.0, 0.0}, torch::kFloat64).view({1, 2});
  // Counted as four masks of two pixels.
  EXPECT_NEAR(
      mask_loss("{type: CrossEntropyLoss, use_sigmoid: true, loss_weight: 3}", logits, truth, 4),
      3 * 2 * std::log(4) / 8, 1e-6);
  // Both pixels are wrong by 3/4.
  EXPECT_NEAR(mask_loss("{type: FocalLoss, alpha: 0.2, gamma: 3}", logits, truth, 4),
              (0.2 + 0.8) * std::pow(0.75, 3) * std::log(4) / 8, 1e-6);
  const double overlap = 2 * 0.25;
  EXPECT_NEAR(mask_loss("{type: DiceLoss, naive_dice: true, eps: 1}", logits, truth, 4),
              (1 - (overlap + 1) / (1 + 1 + 1)) / 4, 1e-6);
  EXPECT_NEAR(mask_loss("{type: DiceLoss, eps: 1}", logits, truth, 4),
              (1 - overlap / (1.0 / 16 + 9.0 / 16 + 1 + 2)) / 4, 1e-6);
  EXPECT_NEAR(mask_loss("{type: DiceLoss, naive_dice: true, eps: 1, activate: false}",
                        logits.sigmoid(), truth, 4),
              (1 - (overlap + 1) / (1 + 1 + 1)) / 4, 1e-6);
}

std::string query_head_error(const std::string& losses) {
  return test::spec_error<DecodeHead>(
      "{type: MaskFormerHead, feat_channels: 8, out_channels: 8, num_classes: 2, pixel_decoder: "
      "{type: PixelDecoder}, transformer_decoder: {num_layers: 1}, " +
      losses + "}");
}

TEST(QueryHeads, ReportLossesThatDoNotFit) {
  // At the value of the option.
  const auto error_at = [](int column, const std::string& message) {
    return text("<default>:1:", column, ": error: ", message, "\n1 error in the configuration");
  };
  EXPECT_EQ(query_head_error("loss_cls: {type: CrossEntropyLoss, class_weight: [1, 1]}"),
            error_at(160,
                     "loss_cls: class_weight has 2 values, but there are 2 classes and one for "
                     "nothing"));
  EXPECT_EQ(
      query_head_error("loss_mask: {type: DiceLoss}"),
      error_at(161, "loss_mask: must be a FocalLoss, or a CrossEntropyLoss with use_sigmoid"));
  EXPECT_EQ(query_head_error("loss_dice: {type: FocalLoss}"),
            error_at(161, "loss_dice: must be a DiceLoss"));
}

TEST(QueryHeads, ReportOptionsOfLossesThatDoNotFit) {
  EXPECT_EQ(test::spec_error<QueryClassLoss>("{type: CrossEntropyLoss, use_sigmoid: true}"),
            "<default>:1:39: error: use_sigmoid: must be false: a query has one class\n1 error in "
            "the configuration");
  EXPECT_EQ(test::spec_error<QueryClassLoss>("{type: FocalLoss}"),
            "<default>:1:8: error: no query class loss is called 'FocalLoss'. Known: "
            "CrossEntropyLoss\n1 error in the configuration");
  EXPECT_EQ(test::spec_error<MaskLoss>("{type: CrossEntropyLoss}"),
            "<default>:1:1: error: use_sigmoid: must be true: each pixel is a binary problem\n1 "
            "error in the configuration");
  EXPECT_EQ(test::spec_error<MaskLoss>("{type: FocalLoss, reduction: sum}"),
            "<default>:1:30: error: reduction: unknown value 'sum'. Known: mean\n1 error in the "
            "configuration");
}

}  // namespace seg::query_losses_test
