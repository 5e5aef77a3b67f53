/// `windows` of a data set: rasters that are read part by part.
#pragma once
#include <array>
#include <cstdint>
#include <opencv2/core/types.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "segcore/data/datasets/sample_files.hpp"

namespace seg {

/// `size: 512`, or `size: [512, 768]`, height first.
using WindowSides = std::variant<int64_t, std::array<int64_t, 2>>;

struct RasterWindowsParams {
  WindowSides size = int64_t{0};
  std::optional<WindowSides> stride;
  std::optional<double> min_valid;
  static Schema<RasterWindowsParams> schema();
};

/// A sample: a part of a raster.
struct RasterWindow {
  size_t file = 0;  ///< into the files of the data set
  cv::Rect rect;    ///< empty: all of it
};

/// Where the windows of a side begin: `stride` apart, the last one moved back so that it ends with
/// the side; one at 0 where the side is no longer than a window.
std::vector<int> window_starts(int64_t length, int64_t size, int64_t stride);

/// The windows of all rasters, row by row; those of a raster that is smaller than one are smaller.
/// Only headers are read.
/// \param tolerant  rasters that cannot be read are left out with a warning.
/// \throws DataError for those, and for labels of another size than their image.
std::vector<RasterWindow> list_windows(const std::vector<SampleFiles>& files,
                                       const RasterWindowsParams& params, bool annotated,
                                       bool tolerant);

}  // namespace seg
