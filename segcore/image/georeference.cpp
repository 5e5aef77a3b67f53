#include "segcore/image/georeference.hpp"

#include <algorithm>
#include <cstring>

#include "segcore/image/geo_tags.hpp"
#include "segcore/image/tiff_file.hpp"
#include "segcore/io/file_reader.hpp"

namespace seg {
namespace {

/// libtiff makes fields of their own kind for tags that it does not know: a count and the values.
template <class T>
std::vector<T> unknown_tiff_field(const detail::TiffHandle& handle, uint32_t tag,
                                  TIFFDataType type) {
  const TIFFField* field = TIFFFindField(handle.tiff, tag, type);
  uint32_t count = 0;
  const T* values = nullptr;
  if (!field || !TIFFFieldPassCount(field) || TIFFFieldReadCount(field) != TIFF_VARIABLE2 ||
      !TIFFGetField(handle.tiff, tag, &count, &values) || !values) {
    return {};
  }
  return {values, values + count};
}

bool is_tiff(const std::vector<uint8_t>& begin) {
  for (const char* magic : {"II*\0", "MM\0*", "II+\0", "MM\0+"}) {
    if (begin.size() >= 4 && std::memcmp(begin.data(), magic, 4) == 0) return true;
  }
  return false;
}

}  // namespace

GeoReference GeoReference::of_part(int64_t column, int64_t row) const {
  GeoReference out = *this;
  const auto x = static_cast<double>(column), y = static_cast<double>(row);
  // The new pixel (0, 0) is the old one (column, row).
  for (size_t i = 0; i < 3 && transformation.size() == 16; ++i) {
    out.transformation[4 * i + 3] += transformation[4 * i] * x + transformation[4 * i + 1] * y;
  }
  if (tiepoints.size() == 6 && pixel_scale.size() >= 2) {
    // Of the raster's corner, as many programs take for granted. Rows go south.
    out.tiepoints[3] += (x - tiepoints[0]) * pixel_scale[0];
    out.tiepoints[4] -= (y - tiepoints[1]) * pixel_scale[1];
    out.tiepoints[0] = out.tiepoints[1] = 0;
    return out;
  }
  for (size_t i = 0; i + 6 <= tiepoints.size(); i += 6) {
    out.tiepoints[i] -= x;
    out.tiepoints[i + 1] -= y;
  }
  return out;
}

GeoReference read_georeference(const std::string& path) {
  const FileReader file(path);
  const auto begin = file.beginning(4);
  if (!is_tiff(begin)) return {};
  const detail::EncodedImage image{begin, path, &file};
  const detail::TiffHandle handle(image);
  if (!handle.tiff) detail::throw_tiff_error(path, handle);
  using detail::GeoTag;
  GeoReference out;
  const auto doubles = [&](GeoTag tag) {
    return unknown_tiff_field<double>(handle, static_cast<uint32_t>(tag), TIFF_DOUBLE);
  };
  out.pixel_scale = doubles(GeoTag::kPixelScale);
  out.tiepoints = doubles(GeoTag::kTiepoints);
  out.transformation = doubles(GeoTag::kTransformation);
  out.double_params = doubles(GeoTag::kDoubleParams);
  out.keys = unknown_tiff_field<uint16_t>(handle, static_cast<uint32_t>(GeoTag::kKeys), TIFF_SHORT);
  const auto text =
      unknown_tiff_field<char>(handle, static_cast<uint32_t>(GeoTag::kAsciiParams), TIFF_ASCII);
  out.ascii_params.assign(text.begin(), std::find(text.begin(), text.end(), '\0'));
  return out;
}

}  // namespace seg
