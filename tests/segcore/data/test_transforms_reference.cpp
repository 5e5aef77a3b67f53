// Transforms against the numbers of MMSegmentation 1.2.2 with MMCV 2.1.0 and OpenCV's Python wheel,
// in tests/data/transforms.json.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/distort_colours.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

using nlohmann::json;

const json& transform_numbers() {
  static const json numbers = json::parse(std::ifstream(source_path("tests/data/transforms.json")));
  return numbers;
}

/// The image that the reference was made with: a formula, not a file.
cv::Mat formula_image(int height, int width, int bands, const std::string& dtype) {
  const int depth = dtype == "uint8" ? CV_8U : dtype == "uint16" ? CV_16U : CV_32F;
  cv::Mat out(height, width, CV_MAKETYPE(depth, bands));
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < bands; ++c) {
        const int v = x * x * 3 + y * y * 5 + x * y * 7 + c * 101 + x * 17 + y * 29;
        const int at = x * bands + c;
        if (depth == CV_8U) out.ptr<uint8_t>(y)[at] = static_cast<uint8_t>(v % 256);
        if (depth == CV_16U) out.ptr<uint16_t>(y)[at] = static_cast<uint16_t>(v * 131 % 65536);
        if (depth == CV_32F) out.ptr<float>(y)[at] = static_cast<float>(v % 256) / 8.0F;
      }
    }
  }
  return out;
}

cv::Mat formula_labels(int height, int width) {
  cv::Mat out(height, width, CV_8U);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const bool ignored = (x / 5 + y / 4 * 7) % 11 == 0;
      out.at<uint8_t>(y, x) = static_cast<uint8_t>(ignored ? 255 : (x / 9 + y / 7 * 3) % 12);
    }
  }
  return out;
}

std::vector<double> flat_values(const cv::Mat& mat) {
  cv::Mat as_double;
  mat.clone().reshape(1, 1).convertTo(as_double, CV_64F);
  return {as_double.begin<double>(), as_double.end<double>()};
}

/// Compares with shape, sum, weighted sum and 32 values. A tolerance below 1 is relative.
void expect_digest(const cv::Mat& found, const json& expected, double tolerance,
                   const std::string& what) {
  SCOPED_TRACE(what);
  std::vector<int64_t> shape{found.rows, found.cols};
  if (expected["shape"].size() == 3) shape.push_back(found.channels());
  ASSERT_EQ(json(shape), expected["shape"]);
  const auto values = flat_values(found);
  const auto& samples = expected["values"];
  for (size_t k = 0; k < samples.size(); ++k) {
    const size_t at = (k * 7919 * 31 + k) % values.size();
    const double want = samples[k];
    const double scale = tolerance < 1 ? std::max(1.0, std::abs(want)) : 1.0;
    EXPECT_NEAR(values[at], want, tolerance * scale) << "at " << at;
  }
  double sum = 0, weighted = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += values[i];
    weighted += values[i] * static_cast<double>(i % 8191 + 1);
  }
  if (tolerance == 0) {
    EXPECT_EQ(sum, expected["sum"].get<double>());
    EXPECT_EQ(weighted, expected["weighted"].get<double>());
  } else {
    EXPECT_NEAR(sum, expected["sum"].get<double>(),
                tolerance * static_cast<double>(values.size()) * 10);
  }
}

class TransformReference : public ::testing::TestWithParam<size_t> {};

TEST_P(TransformReference, Agrees) {
  const json& c = transform_numbers()["cases"][GetParam()];
  const int height = c["height"], width = c["width"];
  Sample sample;
  sample.meta.img_path = c["name"];
  sample.image = formula_image(height, width, c["bands"], c["dtype"]);
  sample.labels = formula_labels(height, width);
  Rng rng(0, RngPurpose::kAugmentation, 0, 0);
  Spec<Transform>::of(c["config"].dump()).build()->apply(sample, rng);
  expect_digest(sample.image, c["image"], c["tolerance"], "image");
  expect_digest(sample.labels, c["labels"], 0, "labels");
  if (c.contains("edges")) expect_digest(sample.edges, c["edges"], 0, "edges");
  if (c.contains("scale_factor")) {
    EXPECT_DOUBLE_EQ(sample.meta.scale_factor[0], c["scale_factor"][0].get<double>());
    EXPECT_DOUBLE_EQ(sample.meta.scale_factor[1], c["scale_factor"][1].get<double>());
  }
}

std::string case_name(const ::testing::TestParamInfo<size_t>& which) {
  return transform_numbers()["cases"][which.param]["name"];
}

INSTANTIATE_TEST_SUITE_P(All, TransformReference,
                         ::testing::Range(size_t{0}, transform_numbers()["cases"].size()),
                         case_name);

TEST(PhotoMetricDistortionReference, AgreesForGivenDraws) {
  size_t number = 0;
  for (const json& c : transform_numbers()["distortions"]) {
    Distortion drawn;
    if (!c["brightness"].is_null()) drawn.brightness = c["brightness"].get<double>();
    if (!c["contrast"].is_null()) drawn.contrast = c["contrast"].get<double>();
    if (!c["saturation"].is_null()) drawn.saturation = c["saturation"].get<double>();
    if (!c["hue"].is_null()) drawn.hue = c["hue"].get<int64_t>();
    drawn.contrast_first = c["contrast_first"];
    cv::Mat image = formula_image(c["height"], c["width"], 3, "uint8");
    distort_colours(image, drawn);
    expect_digest(image, c["image"], 0, text("distortion ", number++));
  }
  EXPECT_EQ(number, 12U);
}

}  // namespace
}  // namespace seg
