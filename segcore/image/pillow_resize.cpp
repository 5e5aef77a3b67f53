#include "segcore/image/pillow_resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <vector>

#include "registry/error.hpp"

namespace seg {
namespace {

// Weights are integers with so many bits behind the point, as in Pillow for 8-bit images.
constexpr int kPillowBits = 32 - 8 - 2;

struct PillowFilter {
  double (*weight)(double x);
  double support;  // half of the width, in source pixels where the image is not shrunk
};

double pillow_sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

PillowFilter pillow_filter(const std::string& name) {
  if (name == "box") {
    return {[](double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }, 0.5};
  }
  if (name == "hamming") {
    return {[](double x) {
              x = std::abs(x);
              if (x >= 1.0) return 0.0;
              return pillow_sinc(x) * (0.54 + 0.46 * std::cos(x * std::numbers::pi));
            },
            1.0};
  }
  if (name == "bicubic") {
    // Keys' cubic with a = -0.5, where OpenCV has -0.75.
    return {[](double x) {
              constexpr double kA = -0.5;
              x = std::abs(x);
              if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1.0;
              if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * kA;
              return 0.0;
            },
            2.0};
  }
  if (name == "lanczos") {
    return {
        [](double x) { return x >= -3.0 && x < 3.0 ? pillow_sinc(x) * pillow_sinc(x / 3.0) : 0.0; },
        3.0};
  }
  return {[](double x) { return std::max(0.0, 1.0 - std::abs(x)); }, 1.0};
}

/// Which source pixels make one target pixel, and with which weights.
struct PillowTaps {
  int first = 0;
  std::vector<int> weights;
};

std::vector<PillowTaps> pillow_taps(int source, int target, const PillowFilter& filter) {
  const double scale = static_cast<double>(source) / target;
  const double stretch = std::max(scale, 1.0);
  const double support = filter.support * stretch;
  std::vector<PillowTaps> out(static_cast<size_t>(target));
  std::vector<double> weights;
  for (int t = 0; t < target; ++t) {
    const double center = (t + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int last = std::min(source, static_cast<int>(center + support + 0.5));
    weights.clear();
    double sum = 0;
    for (int s = first; s < last; ++s) {
      weights.push_back(filter.weight((s - center + 0.5) * (1.0 / stretch)));
      sum += weights.back();
    }
    auto& taps = out[static_cast<size_t>(t)];
    taps.first = first;
    for (double w : weights) {
      if (sum != 0.0) w /= sum;
      taps.weights.push_back(static_cast<int>((w < 0 ? -0.5 : 0.5) + w * (1 << kPillowBits)));
    }
  }
  return out;
}

uint8_t pillow_byte(int sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kPillowBits, 0, 255));
}

cv::Mat pillow_rows(const cv::Mat& image, int width, const PillowFilter& filter) {
  const int bands = image.channels();
  const auto taps = pillow_taps(image.cols, width, filter);
  cv::Mat out(image.rows, width, image.type());
  for (int y = 0; y < image.rows; ++y) {
    const uint8_t* from = image.ptr<uint8_t>(y);
    uint8_t* to = out.ptr<uint8_t>(y);
    for (const PillowTaps& tap : taps) {
      for (int band = 0; band < bands; ++band) {
        int sum = 1 << (kPillowBits - 1);
        const uint8_t* pixel = from + tap.first * bands + band;
        for (const int weight : tap.weights) {
          sum += *pixel * weight;
          pixel += bands;
        }
        *to++ = pillow_byte(sum);
      }
    }
  }
  return out;
}

cv::Mat pillow_columns(const cv::Mat& image, int height, const PillowFilter& filter) {
  const auto taps = pillow_taps(image.rows, height, filter);
  cv::Mat out(height, image.cols, image.type());
  const int width = image.cols * image.channels();
  std::vector<int> sums(static_cast<size_t>(width));
  for (int y = 0; y < height; ++y) {
    const PillowTaps& tap = taps[static_cast<size_t>(y)];
    std::fill(sums.begin(), sums.end(), 1 << (kPillowBits - 1));
    for (size_t i = 0; i < tap.weights.size(); ++i) {
      const uint8_t* from = image.ptr<uint8_t>(tap.first + static_cast<int>(i));
      const int weight = tap.weights[i];
      for (int x = 0; x < width; ++x) sums[static_cast<size_t>(x)] += from[x] * weight;
    }
    uint8_t* to = out.ptr<uint8_t>(y);
    for (int x = 0; x < width; ++x) to[x] = pillow_byte(sums[static_cast<size_t>(x)]);
  }
  return out;
}

/// The sum grows step by step, as in Pillow, so that rounding falls the same way.
std::vector<int> pillow_nearest(int source, int target) {
  const double step = static_cast<double>(source) / target;
  double position = step * 0.5;
  std::vector<int> out(static_cast<size_t>(target));
  for (int& pixel : out) {
    pixel = std::min(static_cast<int>(position), source - 1);
    position += step;
  }
  return out;
}

}  // namespace

cv::Mat pillow_resize(const cv::Mat& image, const std::array<int64_t, 2>& size,
                      const std::string& interpolation) {
  const int width = static_cast<int>(size[0]), height = static_cast<int>(size[1]);
  if (interpolation == "nearest") {
    const auto columns = pillow_nearest(image.cols, width);
    const auto rows = pillow_nearest(image.rows, height);
    const size_t bytes = image.elemSize();
    cv::Mat out(height, width, image.type());
    for (int y = 0; y < height; ++y) {
      const uint8_t* from = image.ptr<uint8_t>(rows[static_cast<size_t>(y)]);
      uint8_t* to = out.ptr<uint8_t>(y);
      for (const int column : columns) {
        std::memcpy(to, from + static_cast<size_t>(column) * bytes, bytes);
        to += bytes;
      }
    }
    return out;
  }
  SEG_CHECK(image.depth() == CV_8U, "Pillow's filters are for bytes only");
  const PillowFilter filter = pillow_filter(interpolation);
  cv::Mat out = image;
  if (width != image.cols) out = pillow_rows(out, width, filter);
  if (height != image.rows) out = pillow_columns(out, height, filter);
  return out;
}

}  // namespace seg
