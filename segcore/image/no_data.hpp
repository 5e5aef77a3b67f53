/// Pixels of float rasters that hold no measurement. Internal.
#pragma once
#include <optional>

#include "segcore/image/image_codecs.hpp"

namespace seg::detail {

/// Fills the pixels that count as missing where `options.nodata` says which; else refuses values
/// that are not finite, and warns of the value that the file itself declares.
/// \param declared  the no-data value of the file.
void settle_image_no_data(const EncodedImage& image, const ReadOptions& options,
                          std::optional<double> declared, cv::Mat& pixels);

/// Where a raster of labels holds `nodata` (or NaN, which is no label either): uint8, 255 there;
/// the pixels themselves become 0. Empty where none does.
cv::Mat take_label_no_data(double nodata, cv::Mat& pixels);

/// Where all bands are missing, likewise.
cv::Mat missing_pixels(double nodata, cv::Mat& pixels);

}  // namespace seg::detail
