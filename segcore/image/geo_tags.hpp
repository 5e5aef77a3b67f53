/// The numbers of TIFF tags that GeoTIFF and GDAL define. Internal.
#pragma once
#include <cstdint>

namespace seg::detail {

enum class GeoTag : uint32_t {
  kPixelScale = 33550,
  kTiepoints = 33922,
  kTransformation = 34264,
  kKeys = 34735,
  kDoubleParams = 34736,
  kAsciiParams = 34737,
  kNoData = 42113,  ///< GDAL's: a number written as text
};

}  // namespace seg::detail
