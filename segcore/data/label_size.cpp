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

}  // namespace

void check_label_size(const Sample& sample) {
  const auto& [height, width] = sample.meta.ori_shape;
  if (sample.labels.empty() || height == 0) return;
  if (sample.labels.rows != height || sample.labels.cols != width) {
    throw DataError(text(sample.meta.seg_map_path, ": the labels are ", sample.labels.cols, " x ",
                         sample.labels.rows, " pixels (width x height), but the image ",
                         sample.meta.img_path, " is ", width, " x ", height, turned_text(sample)));
  }
}

}  // namespace seg
