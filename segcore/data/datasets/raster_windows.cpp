#include "segcore/data/datasets/raster_windows.hpp"

#include <algorithm>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

std::array<int64_t, 2> both_sides(const WindowSides& sides) {
  if (const auto* one = std::get_if<int64_t>(&sides)) return {*one, *one};
  return std::get<std::array<int64_t, 2>>(sides);
}

/// Height and width of a raster, whose image and labels are of one size.
std::array<int64_t, 2> raster_size(const SampleFiles& files, bool annotated) {
  const ImageInfo image = read_image_info(files.image);
  const auto compare = [&](const std::string& path, const char* what) {
    const ImageInfo other = read_image_info(path);
    if (other.height == image.height && other.width == image.width) return;
    throw DataError(text(path, ": ", what, " ", other.width, " x ", other.height,
                         " pixels (width x height), but the image ", files.image, " is ",
                         image.width, " x ", image.height));
  };
  if (!files.image2.empty()) compare(files.image2, "the second image is");
  if (annotated && !files.annotation.empty()) compare(files.annotation, "the labels are");
  return {image.height, image.width};
}

}  // namespace

Schema<RasterWindowsParams> RasterWindowsParams::schema() {
  using P = RasterWindowsParams;
  return Schema<P>("Parts of rasters as samples.")
      .required("size", &P::size, "height and width of a window, or one number for both",
                at_least(1))
      .optional("stride", &P::stride,
                "how far windows are apart, likewise; null: as far as they are large, so that they "
                "do not overlap",
                at_least(1))
      .optional("min_valid", &P::min_valid,
                "leave out windows of whose labels a smaller share is not ignored, and those of "
                "which all are; null: none, and no labels are read beforehand",
                in_range(0, 1));
}

std::vector<int> window_starts(int64_t length, int64_t size, int64_t stride) {
  std::vector<int> out{0};
  for (int64_t at = stride; out.back() + size < length; at += stride) {
    out.push_back(static_cast<int>(std::min(at, length - size)));
  }
  return out;
}

std::vector<RasterWindow> list_windows(const std::vector<SampleFiles>& files,
                                       const RasterWindowsParams& params, bool annotated,
                                       bool tolerant) {
  const auto size = both_sides(params.size);
  const auto stride = params.stride ? both_sides(*params.stride) : size;
  std::vector<RasterWindow> out;
  for (size_t file = 0; file < files.size(); ++file) {
    std::array<int64_t, 2> raster{};
    try {
      raster = raster_size(files[file], annotated);
    } catch (const DataError& e) {
      if (!tolerant) throw;
      log::warn(e.what(), ": the windows of this raster are left out");
      continue;
    }
    const int height = static_cast<int>(std::min(size[0], raster[0]));
    const int width = static_cast<int>(std::min(size[1], raster[1]));
    for (const int y : window_starts(raster[0], size[0], stride[0])) {
      for (const int x : window_starts(raster[1], size[1], stride[1])) {
        out.push_back({file, cv::Rect(x, y, width, height)});
      }
    }
  }
  if (out.empty()) throw DataError(text("none of the ", files.size(), " rasters can be read"));
  return out;
}

}  // namespace seg
