#include "segcore/evaluation/class_raster.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cctype>
#include <opencv2/core.hpp>

namespace seg {
namespace {

bool has_tiff_suffix(std::string path) {
  std::ranges::transform(path, path.begin(), [](unsigned char c) { return std::tolower(c); });
  return path.ends_with(".tif") || path.ends_with(".tiff");
}

/// Bytes hold the ids 0 to 254 beside the value for no data.
constexpr int64_t kByteClasses = 255;

}  // namespace

cv::Mat RasterSource::missing(const cv::Rect& window) const {
  const bool within =
      window.x + window.width <= info.width && window.y + window.height <= info.height;
  // A page of another size was predicted than the one that is described here.
  return info.nodata && within ? read_missing_window(path, window, /*page=*/0) : cv::Mat();
}

std::optional<RasterSource> raster_source(const std::string& path) {
  if (!has_tiff_suffix(path)) return std::nullopt;
  RasterSource out{path, read_image_info(path), {}};
  if (std::string_view(out.info.format) != "TIFF") return std::nullopt;
  out.georeference = read_georeference(path);
  return out;
}

RasterForm class_raster_form(const RasterSource& source, int height, int width, int64_t classes,
                             const Palette& palette) {
  RasterForm form;
  form.height = height;
  form.width = width;
  form.type = classes <= kByteClasses ? CV_8UC1 : CV_16UC1;
  if (form.type == CV_8UC1) form.palette = palette;
  if (source.info.nodata) form.nodata = form.type == CV_8UC1 ? UINT8_MAX : UINT16_MAX;
  form.georeference = source.georeference;
  return form;
}

cv::Mat class_raster_pixels(const at::Tensor& ids, const cv::Mat& missing, const RasterForm& form) {
  const at::Tensor flat = ids.to(at::kCPU, at::kInt).contiguous();
  const cv::Mat map(static_cast<int>(flat.size(0)), static_cast<int>(flat.size(1)), CV_32S,
                    flat.data_ptr());
  cv::Mat out;
  map.convertTo(out, form.type);
  if (form.nodata && !missing.empty()) out.setTo(cv::Scalar::all(*form.nodata), missing);
  return out;
}

void write_class_raster(const std::string& path, const at::Tensor& ids, bool one_up,
                        const Palette& palette, const RasterSource& source,
                        const cv::Rect& window) {
  const int height = static_cast<int>(ids.size(0)), width = static_cast<int>(ids.size(1));
  const at::Tensor values = one_up ? ids + 1 : ids;
  Palette shown = palette;
  if (one_up) shown.insert(shown.begin(), {0, 0, 0});
  const int64_t classes =
      std::max(static_cast<int64_t>(shown.size()),
               values.numel() > 0 ? values.max().item<int64_t>() + 1 : int64_t{0});
  RasterForm form = class_raster_form(source, height, width, classes, shown);
  form.georeference = source.georeference.of_part(window.x, window.y);
  const cv::Mat missing = source.missing(cv::Rect(window.x, window.y, width, height));
  write_raster(path, class_raster_pixels(values, missing, form), form);
}

}  // namespace seg
