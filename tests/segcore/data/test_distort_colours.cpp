#include <gtest/gtest.h>

#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "segcore/data/transforms/distort_colours.hpp"

namespace seg {
namespace {

/// Every fifth value of each band, in rows of a whole 32 columns: those beyond are rounded.
cv::Mat many_colours() {
  constexpr int kStep = 5, kLevels = 256 / kStep + 1, kColumns = 32 * 64;
  cv::Mat out(kLevels * kLevels * kLevels / kColumns + 1, kColumns, CV_8UC3);
  for (int i = 0; i < static_cast<int>(out.total()); ++i) {
    out.at<cv::Vec3b>(i / kColumns, i % kColumns) = {
        static_cast<uint8_t>(i % kLevels * kStep),
        static_cast<uint8_t>(i / kLevels % kLevels * kStep),
        static_cast<uint8_t>(i / kLevels / kLevels % kLevels * kStep)};
  }
  return out;
}

/// There and back through OpenCV, with one band changed.
template <class Change>
cv::Mat through_hsv(const cv::Mat& image, int band, const Change& change) {
  cv::Mat hsv, out;
  cv::cvtColor(image, hsv, cv::COLOR_BGR2HSV);
  for (int y = 0; y < hsv.rows; ++y) {
    for (int x = 0; x < hsv.cols; ++x) {
      uint8_t& value = hsv.at<cv::Vec3b>(y, x)[band];
      value = static_cast<uint8_t>(change(value));
    }
  }
  cv::cvtColor(hsv, out, cv::COLOR_HSV2BGR);
  return out;
}

bool has_opencvs_wide_kernels() {
  return cv::checkHardwareSupport(CV_CPU_AVX2) && cv::checkHardwareSupport(CV_CPU_FMA3);
}

TEST(DistortColoursTest, HueIsOpenCvs) {
  if (!has_opencvs_wide_kernels()) GTEST_SKIP() << "OpenCV rounds elsewhere without AVX2";
  const cv::Mat image = many_colours();
  for (const int64_t hue : {-18, 0, 7, 179}) {
    cv::Mat changed = image.clone();
    distort_colours(changed, {.hue = hue});
    const cv::Mat expected =
        through_hsv(image, 0, [&](int value) { return (value + hue + 180) % 180; });
    EXPECT_EQ(cv::norm(changed, expected, cv::NORM_INF), 0) << hue;
  }
}

TEST(DistortColoursTest, SaturationIsOpenCvs) {
  if (!has_opencvs_wide_kernels()) GTEST_SKIP() << "OpenCV rounds elsewhere without AVX2";
  const cv::Mat image = many_colours();
  for (const double factor : {0.5, 0.93, 1.5}) {
    cv::Mat changed = image.clone();
    distort_colours(changed, {.saturation = factor});
    const cv::Mat expected = through_hsv(image, 1, [&](int value) {
      return std::min(255.0F, static_cast<float>(value) * static_cast<float>(factor));
    });
    EXPECT_EQ(cv::norm(changed, expected, cv::NORM_INF), 0) << factor;
  }
}

TEST(DistortColoursTest, ColumnsThatAreLeftOverAreRounded) {
  if (!has_opencvs_wide_kernels()) GTEST_SKIP() << "OpenCV rounds elsewhere without AVX2";
  const cv::Mat image = many_colours().colRange(0, 95).clone();
  cv::Mat changed = image.clone();
  distort_colours(changed, {.hue = 5});
  const cv::Mat expected = through_hsv(image, 0, [](int value) { return (value + 5) % 180; });
  cv::Mat difference;
  cv::absdiff(changed, expected, difference);
  EXPECT_EQ(cv::countNonZero(difference.colRange(0, 64).reshape(1)), 0);
  EXPECT_LE(cv::countNonZero(difference.colRange(64, 95).reshape(1)), 2);
}

/// Rows of one length are distorted by the widest instructions, the others by narrower ones.
TEST(DistortColoursTest, ColoursAreTheSameInRowsOfAnyLength) {
  const cv::Mat image = many_colours();
  const auto in_rows_of = [&](int columns, const Distortion& drawn) {
    cv::Mat changed = image.clone().reshape(3, static_cast<int>(image.total()) / columns);
    distort_colours(changed, drawn);
    return changed.reshape(3, image.rows);
  };
  const Distortion all{.brightness = -11.3, .contrast = 1.41, .saturation = 1.43, .hue = 17};
  Distortion contrast_first = all;
  contrast_first.contrast_first = true;
  for (const Distortion& drawn :
       {all, contrast_first, Distortion{.brightness = 31.7}, Distortion{.contrast = 0.61},
        Distortion{.saturation = 0.71}, Distortion{.hue = -9}}) {
    const cv::Mat wide = in_rows_of(64, drawn);
    EXPECT_EQ(cv::norm(wide, in_rows_of(32, drawn), cv::NORM_INF), 0);
    EXPECT_EQ(cv::norm(wide, in_rows_of(2048, drawn), cv::NORM_INF), 0);
  }
}

TEST(DistortColoursTest, BrightnessAndContrastAreCutAndTruncated) {
  cv::Mat image(1, 3, CV_8UC3);
  for (int i = 0; i < 9; ++i) image.data[i] = static_cast<uint8_t>(i * 31);
  cv::Mat first = image.clone(), contrast = image.clone();
  distort_colours(first, {.brightness = -20.25, .contrast = 1.3, .contrast_first = true});
  distort_colours(contrast, {.contrast = 1.3});
  for (int i = 0; i < 9; ++i) {
    const int darker = std::max(0, static_cast<int>(static_cast<float>(i * 31) - 20.25F));
    EXPECT_EQ(first.data[i], std::min(255, static_cast<int>(static_cast<float>(darker) * 1.3F)));
    EXPECT_EQ(contrast.data[i], std::min(255, static_cast<int>(static_cast<float>(i * 31) * 1.3F)));
  }
}

}  // namespace
}  // namespace seg
