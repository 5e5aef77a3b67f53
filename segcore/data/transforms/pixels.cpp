#include "segcore/data/transforms/pixels.hpp"

#include <opencv2/core.hpp>

#include "registry/error.hpp"

namespace seg {

void make_unique(cv::Mat& mat) {
  if (!mat.empty() && (!mat.u || mat.u->refcount != 1)) mat = mat.clone();
}

std::string pixel_text(const cv::Mat& image) {
  const char* depth = "unknown";
  switch (image.depth()) {
    case CV_8U:
      depth = "uint8";
      break;
    case CV_16U:
      depth = "uint16";
      break;
    case CV_32S:
      depth = "int32";
      break;
    case CV_32F:
      depth = "float32";
      break;
    default:
      break;
  }
  return text(image.channels(), image.channels() == 1 ? " band of " : " bands of ", depth);
}

const std::string& sample_name(const Sample& sample) { return sample.meta.img_path; }

void require_image(const Sample& sample, std::string_view transform) {
  if (sample.image.empty()) {
    throw DataError(text(sample_name(sample), ": ", transform,
                         " has no image to work on: put a LoadImageFromFile before it"));
  }
}

void require_planned_image(const Sample& sample, std::string_view transform) {
  if (!sample.source) require_image(sample, transform);
}

cv::Size planned_size(const Sample& sample, std::string_view transform) {
  require_planned_image(sample, transform);
  return sample.planned.image.size(sample.source ? sample.source->size() : sample.image.size());
}

void require_bytes(const Sample& sample, std::string_view transform) {
  if (sample.image.depth() != CV_8U) {
    throw DataError(text(sample_name(sample), ": ", transform,
                         " needs images of uint8, this one has ", pixel_text(sample.image)));
  }
}

void apply_table(cv::Mat& bytes, const std::array<uint8_t, 256>& table) {
  SEG_CHECK(bytes.depth() == CV_8U, "a table of bytes for ", pixel_text(bytes));
  const int width = bytes.cols * bytes.channels();
  for (int y = 0; y < bytes.rows; ++y) {
    uint8_t* row = bytes.ptr<uint8_t>(y);
    for (int x = 0; x < width; ++x) row[x] = table[row[x]];
  }
}

void fill_rect(cv::Mat& image, const cv::Rect& rect, const std::vector<double>& values,
               std::string_view transform) {
  const int bands = image.channels();
  if (values.size() != 1 && static_cast<int>(values.size()) != bands) {
    throw DataError(text(transform, " has ", values.size(), " fill values for an image with ",
                         pixel_text(image)));
  }
  cv::Mat part = image(rect);
  if (part.empty()) return;
  // cv::Scalar holds four bands only: fill one row and copy it.
  cv::Mat flat(1, part.cols * bands, CV_64F);
  for (int i = 0; i < flat.cols; ++i) {
    flat.at<double>(i) = values[values.size() == 1 ? 0 : static_cast<size_t>(i % bands)];
  }
  cv::Mat row;
  flat.convertTo(row, image.depth());
  row = row.reshape(bands);
  for (int y = 0; y < part.rows; ++y) row.copyTo(part.row(y));
}

}  // namespace seg
