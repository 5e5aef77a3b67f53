#include "segcore/data/label_size.hpp"

#include "registry/error.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

/// What to do about sizes that differ because one of the two is turned; "" where that is not why.
std::string turned_text(const Sample& sample) {
  const auto& [height, width] = sample.meta.ori_shape;
  if (sample.labels.rows != width || sample.labels.cols != height) return "";
  ImageInfo info;
  try {
    info = image_info(read_file_bytes(sample.meta.img_path), sample.meta.img_path);
  } catch (const DataError&) {
    return "";  // drawn in memory
  }
  if (info.orientation < 5) return "";
  if (info.width == width) {
    return text(". The labels fit the image turned upright by its EXIF orientation ",
                info.orientation,
                ", but it is loaded as it is stored: set color_type: color at LoadImageFromFile");
  }
  return text(". The image is turned upright by its EXIF orientation ", info.orientation,
              ", but the labels were drawn on it as it is stored: set color_type: "
              "color_ignore_orientation at LoadImageFromFile, or turn the labels");
}

bool fits(const Sample& sample, const cv::Mat& pixels) {
  const auto& [height, width] = sample.meta.ori_shape;
  return pixels.empty() || height == 0 || (pixels.rows == height && pixels.cols == width);
}

std::string misfit_text(const Sample& sample, const cv::Mat& pixels, const std::string& path,
                        const char* what_is) {
  const auto& [height, width] = sample.meta.ori_shape;
  return text(path, ": the ", what_is, " ", pixels.cols, " x ", pixels.rows,
              " pixels (width x height), but the image ", sample.meta.img_path, " is ", width,
              " x ", height);
}

}  // namespace

void check_label_size(const Sample& sample) {
  if (!fits(sample, sample.labels)) {
    throw DataError(misfit_text(sample, sample.labels, sample.meta.seg_map_path, "labels are") +
                    turned_text(sample));
  }
  if (!fits(sample, sample.depth)) {
    throw DataError(misfit_text(sample, sample.depth, sample.meta.depth_map_path, "depth is"));
  }
}

}  // namespace seg
