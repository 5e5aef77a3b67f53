#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "segcore/models/decode_head.hpp"
#include "segcore/models/loss.hpp"
#include "segcore/models/pixel_sampler.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

using nlohmann::json;
using reference::uniform;
using ::testing::HasSubstr;

std::shared_ptr<Loss> loss_of(const std::string& yaml) { return Spec<Loss>::of(yaml).build(); }

torch::Tensor loss_logits(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  return ((2 * uniform("logits", count) - 1) * 4).view(shape);
}

torch::Tensor loss_labels(const std::vector<int64_t>& shape, int64_t classes, double ignored) {
  const int64_t count = shape[0] * shape[2] * shape[3];
  return (uniform("labels", count) * classes)
      .floor()
      .to(torch::kLong)
      .masked_fill(uniform("ignored", count) < ignored, 255)
      .view({shape[0], shape[2], shape[3]});
}

template <class F>
std::string loss_error(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Losses, GiveTheReferenceValuesAndGradients) {
  std::ifstream file(source_path("tests/data/losses.json"));
  const json cases = json::parse(file)["cases"];
  ASSERT_GT(cases.size(), 70u);
  for (const json& c : cases) {
    SCOPED_TRACE(c.dump());
    const auto shape = c["shape"].get<std::vector<int64_t>>();
    const auto logits = loss_logits(shape).requires_grad_();
    const auto labels = loss_labels(shape, c["classes"], c["ignored"]);
    torch::Tensor weight;
    if (c.contains("weight")) {
      weight = (uniform("weight", labels.numel()) < 0.5).to(torch::kFloat64).view_as(labels);
    }
    const auto loss = build_loss(Spec<Loss>::of(c["loss"].dump()), shape[1]);
    const auto value = loss->forward(logits, labels, weight, 255);
    ASSERT_EQ(value.dim(), 0);
    const double expected = c["value"];
    EXPECT_NEAR(value.item<double>(), expected, 1e-6 * std::abs(expected) + 1e-12);
    const auto gradient = torch::autograd::grad({value}, {logits})[0].flatten();
    const double norm = c["gradient_norm"];
    EXPECT_NEAR(gradient.norm().item<double>(), norm, 1e-6 * norm + 1e-12);
    const int64_t last = gradient.numel() - 1;
    const int64_t places[] = {0, gradient.numel() / 3, last};
    for (int k = 0; k < 3; ++k) {
      EXPECT_NEAR(gradient[places[k]].item<double>(), c["gradient"][k].get<double>(), 1e-6 * norm);
    }
  }
}

TEST(Losses, OfSmallLogitsAreThoseOfResizedOnes) {
  for (const int64_t channels : {1, 5}) {
    const auto labels = loss_labels({2, channels, 23, 31}, channels == 1 ? 2 : channels, 0.125);
    const auto weight = uniform("weight", labels.numel()).view_as(labels);
    const auto logits = loss_logits({2, channels, 7, 9});
    for (const std::string yaml :
         {"{type: DiceLoss}", "{type: DiceLoss, naive_dice: true, activate: false}",
          "{type: DiceLoss, use_sigmoid: false, ignore_index: 3}", "{type: JaccardLoss}",
          "{type: JaccardLoss, use_sigmoid: true, per_image: true, ignore_index: 1}",
          "{type: TverskyLoss, ignore_index: 2}", "{type: FocalLoss}",
          "{type: FocalLoss, gamma: 0.5, alpha: [0.1, 0.3, 0.5, 0.7, 0.9]}",
          "{type: CrossEntropyLoss, use_sigmoid: true, avg_non_ignore: true}"}) {
      if (channels == 1 && yaml.find_first_of("23[") != std::string::npos) continue;
      if (channels == 1 && yaml.find("Tversky") != std::string::npos) continue;
      auto truth = labels;
      if (yaml.find("Tversky") != std::string::npos) truth = labels.masked_fill(labels == 255, 2);
      if (yaml.find("index: 1") != std::string::npos) truth = labels.masked_fill(labels == 255, 1);
      for (const bool align_corners : {false, true}) {
        SCOPED_TRACE(yaml + (align_corners ? " corners, " : ", ") + std::to_string(channels));
        const auto small = logits.to(torch::kFloat).requires_grad_();
        const auto exact = small.detach().to(torch::kFloat64).requires_grad_();
        const auto found = loss_of(yaml)->of_small(small, truth, weight, 255, align_corners);
        ASSERT_TRUE(found.has_value());
        const auto expected = loss_of(yaml)->forward(
            at::upsample_bilinear2d(exact, {23, 31}, align_corners), truth, weight, 255);
        EXPECT_NEAR(found->loss.item<double>(), expected.item<double>(),
                    1e-5 * std::abs(expected.item<double>()));
        found->loss.backward();
        expected.backward();
        EXPECT_LE((small.grad().to(torch::kFloat64) - exact.grad()).abs().max().item<double>(),
                  5e-6 * exact.grad().abs().max().item<double>());
      }
    }
  }
}

TEST(Losses, AccuracyIsThatOfResizedLogits) {
  const auto small = loss_logits({2, 5, 7, 9}).to(torch::kFloat);
  const auto labels = loss_labels({2, 5, 23, 31}, 5, 0.125);
  for (const bool align_corners : {false, true}) {
    const auto losses =
        losses_of({loss_of("{type: DiceLoss}")}, nullptr, small, labels, 255, align_corners);
    ASSERT_EQ(losses.back().first, "acc_seg");
    const auto resized = at::upsample_bilinear2d(small, {23, 31}, align_corners);
    EXPECT_NEAR(losses.back().second.item<double>(),
                pixel_accuracy(resized, labels, 255).item<double>(), 0.1);
  }
}

TEST(Losses, SumsOverPixelsEqualThoseOfPerPixel) {
  const std::vector<int64_t> shape{2, 5, 7, 9};
  const auto logits = loss_logits(shape);
  const auto labels = loss_labels(shape, 5, 0.125);
  for (const char* yaml : {"{type: CrossEntropyLoss, reduction: sum, loss_weight: 0.5}",
                           "{type: CrossEntropyLoss, reduction: sum, use_sigmoid: true}",
                           "{type: FocalLoss, reduction: sum}"}) {
    const auto loss = loss_of(yaml);
    const auto pixels = loss->per_pixel(logits, labels, 255);
    EXPECT_EQ(pixels.sizes(), labels.sizes());
    EXPECT_NEAR(pixels.sum().item<double>(), loss->forward(logits, labels, {}, 255).item<double>(),
                1e-9);
    EXPECT_EQ(pixels.masked_select(labels == 255).abs().sum().item<double>(), 0.0);
  }
}

TEST(CrossEntropyLoss, ClassWeightsOfOneChangeNothing) {
  const std::vector<int64_t> shape{2, 5, 7, 9};
  const auto logits = loss_logits(shape);
  const auto labels = loss_labels(shape, 5, 0.125);
  for (const std::string avg : {"true", "false"}) {
    const auto plain = loss_of("{type: CrossEntropyLoss, avg_non_ignore: " + avg + "}");
    const auto weighted = loss_of(
        "{type: CrossEntropyLoss, class_weight: [1, 1, 1, 1, 1], "
        "avg_non_ignore: " +
        avg + "}");
    EXPECT_NEAR(weighted->forward(logits, labels, {}, 255).item<double>(),
                plain->forward(logits, labels, {}, 255).item<double>(), 1e-9);
  }
}

TEST(CrossEntropyLoss, AnIgnoredPixelWeighsOneInTheMeanOverAll) {
  const auto logits = torch::zeros({1, 2, 1, 3}, torch::kFloat64);
  const auto labels = torch::tensor({0, 1, 255}, torch::kLong).view({1, 1, 3});
  const double each = std::log(2.0);
  const auto all = loss_of("{type: CrossEntropyLoss, class_weight: [1, 3]}");
  EXPECT_NEAR(all->forward(logits, labels, {}, 255).item<double>(), each * 4 / 5, 1e-6);
  const auto rest = loss_of("{type: CrossEntropyLoss, class_weight: [1, 3], avg_non_ignore: true}");
  EXPECT_NEAR(rest->forward(logits, labels, {}, 255).item<double>(), each, 1e-6);
}

TEST(CrossEntropyLoss, HalfPrecisionIsSummedInFloat) {
  const std::vector<int64_t> shape{1, 3, 64, 64};
  const auto labels = loss_labels(shape, 3, 0);
  const auto logits = loss_logits(shape).to(torch::kBFloat16);
  const auto loss = loss_of("{type: CrossEntropyLoss}")->forward(logits, labels, {}, 255);
  EXPECT_EQ(loss.scalar_type(), torch::kFloat);
  const auto exact =
      loss_of("{type: CrossEntropyLoss}")->forward(logits.to(torch::kFloat64), labels, {}, 255);
  EXPECT_NEAR(loss.item<double>(), exact.item<double>(), 1e-5);
}

TEST(CrossEntropyLoss, ReadsClassWeightsFromFiles) {
  const std::string folder = ::testing::TempDir();
  std::ofstream(folder + "weights.json") << "[0.5, 2]";
  std::ofstream(folder + "weights.yaml") << "- 0.5\n- 2\n";
  {
    std::ofstream npy(folder + "weights.npy", std::ios::binary);
    std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }";
    header.resize(117, ' ');
    header += '\n';
    npy << "\x93NUMPY" << '\x01' << '\0' << static_cast<char>(header.size()) << '\0' << header;
    const double values[] = {0.5, 2};
    npy.write(reinterpret_cast<const char*>(values), sizeof(values));
  }
  const auto logits = loss_logits({1, 2, 4, 4});
  const auto labels = loss_labels({1, 2, 4, 4}, 2, 0);
  const auto expected = loss_of("{type: CrossEntropyLoss, class_weight: [0.5, 2]}")
                            ->forward(logits, labels, {}, 255)
                            .item<double>();
  for (const char* name : {"weights.json", "weights.yaml", "weights.npy"}) {
    const auto loss = build_loss(
        Spec<Loss>::of("{type: CrossEntropyLoss, class_weight: " + folder + name + "}"), 2);
    EXPECT_EQ(loss->forward(logits, labels, {}, 255).item<double>(), expected) << name;
  }
  EXPECT_THAT(loss_error([] { loss_of("{type: CrossEntropyLoss, class_weight: /nowhere.npy}"); }),
              HasSubstr("cannot read '/nowhere.npy': there is no such file"));
}

TEST(Losses, WrongNumbersOfClassWeightsNameBothCounts) {
  EXPECT_THAT(loss_error([] {
                build_loss(Spec<Loss>::of("{type: CrossEntropyLoss, class_weight: [1, 2, 3]}"), 19);
              }),
              HasSubstr("class_weight: has 3 values, but the head's logits have 19 channels"));
  EXPECT_THAT(loss_error([] { build_loss(Spec<Loss>::of("{type: FocalLoss, alpha: [0.5]}"), 2); }),
              HasSubstr("alpha: has 1 values, but the head's logits have 2 channels"));
}

TEST(Losses, LabelsOutOfRangeAreNamed) {
  const auto logits = loss_logits({2, 5, 7, 9});
  auto labels = loss_labels({2, 5, 7, 9}, 5, 0);
  labels[1][2][3] = 9;
  for (const char* yaml :
       {"{type: CrossEntropyLoss}", "{type: CrossEntropyLoss, use_sigmoid: true}",
        "{type: FocalLoss}", "{type: LovaszLoss, reduction: none}", "{type: TverskyLoss}",
        "{type: JaccardLoss}", "{type: OhemCrossEntropy}"}) {
    EXPECT_THAT(loss_error([&] { loss_of(yaml)->forward(logits, labels, {}, 255); }),
                HasSubstr("label 9 at row 2, column 3 of image 1 of the batch"))
        << yaml;
  }
  labels[1][2][3] = -1;
  EXPECT_THAT(
      loss_error([&] { loss_of("{type: CrossEntropyLoss}")->forward(logits, labels, {}, 255); }),
      HasSubstr("label -1 at row 2, column 3 of image 1 of the batch is neither in [0, 4] nor "
                "ignored (255)"));
}

TEST(Losses, WrongOptionsAreErrors) {
  EXPECT_THAT(loss_error([] { loss_of("{type: CrossEntropyLoss, reduction: men}"); }),
              HasSubstr("unknown value 'men'. Did you mean 'mean'?"));
  EXPECT_THAT(loss_error([] { loss_of("{type: TverskyLoss, alpha: 0.5}"); }),
              HasSubstr("alpha + beta must be 1, got 0.5 + 0.7"));
  EXPECT_THAT(loss_error([] { loss_of("{type: FocalLoss, use_sigmoid: false}"); }),
              HasSubstr("must be true"));
  EXPECT_THAT(loss_error([] { loss_of("{type: LovaszLoss, classes: some}"); }),
              HasSubstr("unknown value 'some'"));
}

TEST(Losses, OfIgnoredPixelsAloneAreZeroWithAGradient) {
  const std::vector<int64_t> shape{2, 5, 7, 9};
  const auto labels = loss_labels(shape, 5, 1);
  for (const char* yaml : {"{type: CrossEntropyLoss, avg_non_ignore: true}",
                           "{type: LovaszLoss, reduction: none}", "{type: OhemCrossEntropy}",
                           "{type: CrossEntropyLoss, use_sigmoid: true, avg_non_ignore: true}"}) {
    const auto logits = loss_logits(shape).requires_grad_();
    const auto value = loss_of(yaml)->forward(logits, labels, {}, 255);
    EXPECT_EQ(value.item<double>(), 0.0) << yaml;
    EXPECT_EQ(torch::autograd::grad({value}, {logits})[0].abs().sum().item<double>(), 0.0) << yaml;
  }
}

TEST(OHEMPixelSampler, KeepsImprobablePixels) {
  const auto sampler =
      Spec<PixelSampler>::of("{type: OHEMPixelSampler, thresh: 0.3, min_kept: 2}").build();
  const std::vector<int64_t> shape{2, 5, 7, 9};
  const auto logits = loss_logits(shape);
  const auto labels = loss_labels(shape, 5, 0.125);
  const auto weight = sampler->sample(logits, labels, 255, nullptr);
  const auto valid = labels != 255;
  const auto probability =
      logits.softmax(1).gather(1, labels.masked_fill(~valid, 0).unsqueeze(1)).squeeze(1);
  EXPECT_TRUE(torch::equal(weight == 1, valid & (probability < 0.3)));
}

TEST(OHEMPixelSampler, WithoutAThresholdKeepsTheLargestLosses) {
  const auto sampler = Spec<PixelSampler>::of("{type: OHEMPixelSampler, min_kept: 5}").build();
  ASSERT_TRUE(sampler->needs_pixel_losses());
  const std::vector<int64_t> shape{2, 5, 7, 9};
  const auto logits = loss_logits(shape);
  const auto labels = loss_labels(shape, 5, 0.125);
  const auto losses = loss_of("{type: CrossEntropyLoss}")->per_pixel(logits, labels, 255);
  const auto weight = sampler->sample(logits, labels, 255, [&] { return losses; });
  EXPECT_EQ(weight.sum().item<double>(), 10.0);
  EXPECT_GE((losses + (weight == 0) * 1e9).min().item<double>(),
            (losses * (weight == 0)).max().item<double>());
}

}  // namespace
}  // namespace seg
