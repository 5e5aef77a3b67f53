/// Where on the earth the pixels of a GeoTIFF lie.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace seg {

/// The tags of GeoTIFF 1.1 (OGC 19-008r4), which are taken over as they are.
struct GeoReference {
  std::vector<double> pixel_scale;     ///< ModelPixelScale: of x, y, z
  std::vector<double> tiepoints;       ///< ModelTiepoint: column, row, 0, x, y, z of each
  std::vector<double> transformation;  ///< ModelTransformation: 4 x 4, in place of the two
  std::vector<uint16_t> keys;          ///< GeoKeyDirectory: the coordinate system
  std::vector<double> double_params;   ///< GeoDoubleParams, GeoAsciiParams: of the keys
  std::string ascii_params;

  bool empty() const { return tiepoints.empty() && transformation.empty() && keys.empty(); }
  /// That of the part of the raster that begins at this pixel.
  GeoReference of_part(int64_t column, int64_t row) const;
  bool operator==(const GeoReference&) const = default;
};

/// Empty for files of other formats than TIFF, and for those without the tags.
/// \throws DataError naming the path, where it cannot be read.
GeoReference read_georeference(const std::string& path);

}  // namespace seg
