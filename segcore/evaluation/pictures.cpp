#include "segcore/evaluation/pictures.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "registry/error.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

/// Class ids in int32, in memory of their own or the tensor's.
at::Tensor picture_ids(const at::Tensor& ids) {
  SEG_CHECK(ids.dim() == 2, "expected [H, W], got ", ids.sizes());
  return ids.to(at::kCPU, at::kInt).contiguous();
}

cv::Mat picture_mat(const at::Tensor& ids) {
  return cv::Mat(static_cast<int>(ids.size(0)), static_cast<int>(ids.size(1)), CV_32S,
                 ids.data_ptr());
}

}  // namespace

cv::Mat displayable(const cv::Mat& image) {
  cv::Mat bands;
  if (image.channels() == 1 || image.channels() == 2) {
    cv::Mat first;
    cv::extractChannel(image, first, 0);
    cv::merge(std::vector<cv::Mat>{first, first, first}, bands);
  } else if (image.channels() == 3) {
    bands = image;
  } else {
    std::vector<cv::Mat> three(3);
    for (int b = 0; b < 3; ++b) cv::extractChannel(image, three[static_cast<size_t>(b)], b);
    cv::merge(three, bands);
  }
  if (bands.depth() == CV_8U) return bands.clone();
  double low = 0, high = 0;
  cv::minMaxLoc(bands.reshape(1), &low, &high);
  cv::Mat out;
  if (bands.depth() == CV_32F && low >= 0 && high > 1 && high <= 255) {
    bands.convertTo(out, CV_8U);  // bytes that a pipeline made floats
    return out;
  }
  const double scale = high > low ? 255.0 / (high - low) : 0.0;
  bands.convertTo(out, CV_8U, scale, -low * scale);
  return out;
}

cv::Mat displayable(const at::Tensor& image) {
  SEG_CHECK(image.dim() == 3, "expected [bands, H, W], got ", image.sizes());
  const int64_t shown = image.size(0) >= 3 ? 3 : 1;
  at::Tensor hwc = image.narrow(0, 0, shown).permute({1, 2, 0}).cpu();
  const bool bytes = hwc.scalar_type() == at::kByte;
  hwc = (bytes ? hwc : hwc.to(at::kFloat)).contiguous();
  const int type = CV_MAKETYPE(bytes ? CV_8U : CV_32F, static_cast<int>(shown));
  return displayable(
      cv::Mat(static_cast<int>(hwc.size(0)), static_cast<int>(hwc.size(1)), type, hwc.data_ptr()));
}

cv::Mat colour_map(const at::Tensor& ids, const Palette& palette) {
  const at::Tensor flat = picture_ids(ids);
  const cv::Mat map = picture_mat(flat);
  cv::Mat out(map.size(), CV_8UC3);
  for (int y = 0; y < map.rows; ++y) {
    const int* from = map.ptr<int>(y);
    auto* to = out.ptr<cv::Vec3b>(y);
    for (int x = 0; x < map.cols; ++x) {
      const int c = from[x];
      if (c < 0 || c >= static_cast<int>(palette.size())) {
        to[x] = cv::Vec3b(0, 0, 0);
        continue;
      }
      const auto& rgb = palette[static_cast<size_t>(c)];
      to[x] = cv::Vec3b(cv::saturate_cast<uchar>(rgb[2]), cv::saturate_cast<uchar>(rgb[1]),
                        cv::saturate_cast<uchar>(rgb[0]));
    }
  }
  return out;
}

cv::Mat overlay(const cv::Mat& image, const at::Tensor& ids, const Palette& palette,
                double opacity) {
  SEG_CHECK(image.type() == CV_8UC3, "expected an 8-bit BGR image");
  at::Tensor flat = picture_ids(ids);
  cv::Mat map = picture_mat(flat);
  if (map.size() != image.size()) {
    cv::Mat resized;
    cv::Mat as_float;
    map.convertTo(as_float, CV_32F);  // OpenCV does not resize 32-bit integers
    cv::resize(as_float, resized, image.size(), 0, 0, cv::INTER_NEAREST);
    resized.convertTo(map, CV_32S);
  }
  cv::Mat out = image.clone();
  for (int y = 0; y < out.rows; ++y) {
    const int* from = map.ptr<int>(y);
    auto* to = out.ptr<cv::Vec3b>(y);
    for (int x = 0; x < out.cols; ++x) {
      const int c = from[x];
      if (c < 0 || c >= static_cast<int>(palette.size())) continue;
      const auto& rgb = palette[static_cast<size_t>(c)];
      for (int b = 0; b < 3; ++b) {
        to[x][b] = cv::saturate_cast<uchar>(to[x][b] * (1 - opacity) +
                                            rgb[static_cast<size_t>(2 - b)] * opacity);
      }
    }
  }
  return out;
}

cv::Mat side_by_side(const std::vector<cv::Mat>& pictures) {
  SEG_CHECK(!pictures.empty(), "no picture");
  constexpr int kLine = 4;  // pixels
  const int height = pictures.front().rows;
  std::vector<cv::Mat> row;
  for (const cv::Mat& picture : pictures) {
    if (!row.empty()) row.emplace_back(height, kLine, CV_8UC3, cv::Scalar::all(255));
    cv::Mat scaled = picture;
    if (picture.rows != height) {
      const int width = std::max(1, static_cast<int>(std::lround(static_cast<double>(picture.cols) *
                                                                 height / picture.rows)));
      cv::resize(picture, scaled, cv::Size(width, height), 0, 0, cv::INTER_NEAREST);
    }
    row.push_back(scaled);
  }
  cv::Mat out;
  cv::hconcat(row, out);
  return out;
}

void write_class_ids(const std::string& path, const at::Tensor& ids, bool one_up,
                     const Palette& palette) {
  const at::Tensor flat = picture_ids(one_up ? ids + 1 : ids);
  const cv::Mat map = picture_mat(flat);
  const bool wide = flat.numel() > 0 && flat.max().item<int>() > 255;
  cv::Mat out;
  map.convertTo(out, wide ? CV_16U : CV_8U);
  if (wide) {
    write_png(path, out);
    return;
  }
  Palette shown = palette;
  if (one_up) shown.insert(shown.begin(), {0, 0, 0});
  constexpr size_t kMost = 256;  // in a PNG
  if (shown.size() > kMost) shown.resize(kMost);
  write_palette_png(path, out, shown);
}

}  // namespace seg
