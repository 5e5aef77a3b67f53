/// Predicts rasters tile by tile, so that they may be larger than memory.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <opencv2/core/mat.hpp>
#include <string>

#include "segcore/data/palette.hpp"
#include "segcore/evaluation/class_raster.hpp"

namespace seg {

/// Windows that overlap, each of which gives the pixels of its middle.
struct RasterTiles {
  int window = 0;  ///< side of the part that is predicted at once
  int core = 0;    ///< side of the part of it that is kept
  int block = 0;   ///< side of the tiles of the file, of which a core has whole ones

  /// \param window  at least 16 larger than `overlap`, which is how far windows overlap at least.
  RasterTiles(int64_t window, int64_t overlap);
  /// The window around a core, moved back where it would go beyond the raster.
  cv::Rect window_of(const cv::Rect& core, const cv::Size& raster) const;
};

/// The image of a window as it was loaded, and its class ids.
struct PredictedWindow {
  cv::Mat image;
  at::Tensor ids;
};

struct RasterOutputs {
  std::string ids;    ///< file for the class ids, a GeoTIFF
  std::string shown;  ///< file for the picture of the classes over the image, reduced
  const Palette& palette;
  int64_t classes;
  double opacity;  ///< of the colours in the picture
};

/// Writes the class ids as they are predicted; in memory are one window and the reduced picture.
void predict_by_tiles(const RasterSource& raster, const RasterTiles& tiles,
                      const RasterOutputs& outputs,
                      const std::function<PredictedWindow(const cv::Rect&)>& predict);

}  // namespace seg
