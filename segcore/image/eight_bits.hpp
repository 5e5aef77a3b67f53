/// Samples of 16 bits as the 8 bits that colours and grey values are used in.
#pragma once
#include <opencv2/core/mat.hpp>

#include "segcore/image/image_codecs.hpp"

namespace seg::detail {

enum class Narrowing { kUpperBits, kRounded };

/// \param pixels  of any depth; those of 16 bits are narrowed, others returned as they are. A
/// picture
///     of 12-bit sensors stored in 16 bits comes out nearly black, as from other readers; a warning
///     names it.
cv::Mat to_eight_bits(const EncodedImage& image, const cv::Mat& pixels, Narrowing how);

}  // namespace seg::detail
