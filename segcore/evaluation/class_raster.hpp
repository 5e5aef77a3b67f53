/// Class ids as GeoTIFFs, which lie where their images do.
#pragma once
#include <ATen/core/Tensor.h>

#include <opencv2/core/mat.hpp>
#include <optional>
#include <string>

#include "segcore/data/palette.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/image/raster_writer.hpp"

namespace seg {

/// What the files that are made of a raster take over from it.
struct RasterSource {
  std::string path;
  ImageInfo info;
  GeoReference georeference;

  /// Where the raster has no data in any band, as read_missing_window.
  cv::Mat missing(const cv::Rect& window) const;
};

/// The raster of a TIFF file; nothing for files of other formats. Only the header is read.
/// \throws DataError for a TIFF file that cannot be read.
std::optional<RasterSource> raster_source(const std::string& path);

/// How class ids are stored: bytes with the palette that shows them, 16 bits where they need more.
/// The largest value is declared as "no data" where the source declares one.
/// \param height, width  of the ids.
/// \param classes  as many as there are values
RasterForm class_raster_form(const RasterSource& source, int height, int width, int64_t classes,
                             const Palette& palette);
/// The ids as such a raster holds them.
/// \param missing  255 for pixels that have no data, or empty
cv::Mat class_raster_pixels(const at::Tensor& ids, const cv::Mat& missing, const RasterForm& form);

/// Writes the class ids of a raster, or of a window of it, in place of write_class_ids.
/// \param window  empty: all of it
/// \param one_up  likewise
void write_class_raster(const std::string& path, const at::Tensor& ids, bool one_up,
                        const Palette& palette, const RasterSource& source, const cv::Rect& window);

}  // namespace seg
