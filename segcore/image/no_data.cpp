#include "segcore/image/no_data.hpp"

#include <cmath>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/image/image_notes.hpp"

namespace seg::detail {
namespace {

/// A value as the file's own numbers round it: -3.4028234663852886e+38 is a float written out.
template <class T>
bool is_no_data(T value, double nodata) {
  if constexpr (std::is_floating_point_v<T>) {
    return !std::isfinite(value) || value == static_cast<T>(nodata);
  }
  return static_cast<double>(value) == nodata;
}

/// Calls `use(value, row, column)` for each sample that is missing.
template <class T, class Use>
void for_missing(cv::Mat& pixels, double nodata, const Use& use) {
  const int bands = pixels.channels();
  for (int y = 0; y < pixels.rows; ++y) {
    T* row = pixels.ptr<T>(y);
    for (int x = 0; x < pixels.cols * bands; ++x) {
      if (is_no_data(row[x], nodata)) use(row[x], y, x / bands);
    }
  }
}

template <class Use>
void for_missing_of_any_depth(cv::Mat& pixels, double nodata, const Use& use) {
  switch (pixels.depth()) {
    case CV_8U:
      return for_missing<uint8_t>(pixels, nodata, use);
    case CV_8S:
      return for_missing<int8_t>(pixels, nodata, use);
    case CV_16U:
      return for_missing<uint16_t>(pixels, nodata, use);
    case CV_16S:
      return for_missing<int16_t>(pixels, nodata, use);
    case CV_32S:
      return for_missing<int32_t>(pixels, nodata, use);
    case CV_32F:
      return for_missing<float>(pixels, nodata, use);
    default:
      return for_missing<double>(pixels, nodata, use);
  }
}

}  // namespace

void settle_image_no_data(const EncodedImage& image, const ReadOptions& options,
                          std::optional<double> declared, cv::Mat& pixels) {
  if (options.nodata) {
    for_missing_of_any_depth(pixels, *options.nodata, [&](auto& value, int, int) {
      value = cv::saturate_cast<std::decay_t<decltype(value)>>(options.nodata_fill);
    });
    return;
  }
  if (pixels.depth() != CV_32F) return;
  const auto samples = static_cast<int64_t>(pixels.total()) * pixels.channels();
  int64_t bad = 0, missing = 0;
  const cv::Point origin = image.window ? image.window->tl() : cv::Point();
  int first_y = 0, first_x = 0;
  float first = 0;
  for_missing<float>(pixels, declared.value_or(std::nan("")), [&](float value, int y, int x) {
    if (std::isfinite(value)) {
      ++missing;
      return;
    }
    if (bad++ == 0) first = value, first_y = origin.y + y, first_x = origin.x + x;
  });
  if (bad > 0) {
    throw_image_error(
        image.name,
        text("holds ", std::isnan(first) ? "NaN" : "an infinite value", " at row ", first_y,
             ", column ", first_x, " (", bad, " of ", samples,
             " values are not finite). If they mark pixels without data, set nodata: .nan at the "
             "step that loads the image, which fills them"));
  }
  if (missing == 0) return;
  note_image(ImageNote::kNoDataValue, image.name, [&] {
    return text(missing, " of ", samples, " values are ", *declared,
                ", which the file declares as no data, and are used as they stand. Set nodata: ",
                *declared, " at the step that loads the image, which fills them");
  });
}

cv::Mat missing_pixels(double nodata, cv::Mat& pixels) {
  cv::Mat bands;  // of each pixel, how many are missing
  for_missing_of_any_depth(pixels, nodata, [&](auto&, int y, int x) {
    if (bands.empty()) bands = cv::Mat::zeros(pixels.rows, pixels.cols, CV_32S);
    ++bands.at<int32_t>(y, x);
  });
  if (bands.empty() || cv::countNonZero(bands == pixels.channels()) == 0) return {};
  return bands == pixels.channels();
}

cv::Mat take_label_no_data(double nodata, cv::Mat& pixels) {
  cv::Mat mask;
  for_missing_of_any_depth(pixels, nodata, [&](auto& value, int y, int x) {
    if (mask.empty()) mask = cv::Mat::zeros(pixels.rows, pixels.cols, CV_8UC1);
    mask.at<uint8_t>(y, x) = 255;
    value = 0;
  });
  return mask;
}

}  // namespace seg::detail
