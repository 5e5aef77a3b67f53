/// Resizing of images and labels, for all the transforms that choose a size.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "segcore/data/transform.hpp"

namespace seg {

/// Width, height, as MMCV has them.
using WidthHeight = std::array<int64_t, 2>;

/// Options of Resize other than the size; other transforms pass them on.
struct ResizeStyle {
  bool keep_ratio = false;
  std::string backend = "cv2";
  std::string interpolation = "bilinear";
  static Schema<ResizeStyle> schema();
};

struct ResizeParams : ResizeStyle {
  std::optional<std::variant<int64_t, WidthHeight>> scale;
  std::optional<std::variant<double, std::array<double, 2>>> scale_factor;
};

cv::Size size_of(const WidthHeight& size);

/// Plans to resize a picture that has become `now`, as resize_image.
void plan_resizing(Geometry& geometry, const cv::Size& now, const cv::Size& to,
                   const std::string& interpolation, const std::string& backend);

/// int(side * factor + 0.5) for both sides, at least 1.
WidthHeight scale_size(const WidthHeight& size, double factor_w, double factor_h);
/// The largest size of the same ratio that fits into `scale`, in whichever orientation.
WidthHeight rescale_size(const WidthHeight& size, const WidthHeight& scale);

/// Plans to resize image and labels. With keep_ratio, `scale` is the box to fit into.
/// \throws DataError for an 8-bit back end with other images.
void resize_sample(Sample& sample, const WidthHeight& scale, const ResizeStyle& style);

/// The size that ResizeShortestEdge gives: the shorter side becomes `shortest`, unless the longer
/// one would exceed `max_size`.
WidthHeight shortest_edge_size(const WidthHeight& size, int64_t shortest, int64_t max_size);

/// Resizing by one of the transforms that take a `scale`, chosen by name: what RandomResize and
/// RandomChoiceResize do with `resize_type` and the options that follow it.
struct ResizeByTypeParams : ResizeStyle {
  std::string resize_type = "Resize";
  std::optional<int64_t> max_size;
  static Schema<ResizeByTypeParams> schema();
};
void resize_by_type(Sample& sample, const WidthHeight& scale, const ResizeByTypeParams& how);

}  // namespace seg
