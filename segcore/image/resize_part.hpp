/// Parts of resized pictures, without the rest of them.
#pragma once
#include <opencv2/core/mat.hpp>

namespace seg {

/// A picture of `size`, of which `part` is wanted, flipped afterwards.
struct ResizedPart {
  cv::Size size;
  cv::Rect part;  ///< within the resized picture
  bool flip_x = false, flip_y = false;
};

/// A picture, or a window of it that holds what is needed.
struct PictureWindow {
  cv::Mat pixels;
  cv::Size whole;    ///< of the picture
  cv::Point origin;  ///< of the window
};

/// The pixels of a picture of size `from` that a part of it depends on, resized with the weights of
/// neighbours.
cv::Rect needed_pixels(const cv::Size& from, const ResizedPart& to);

/// The same for INTER_NEAREST.
cv::Rect needed_pixels_nearest(const cv::Size& from, const ResizedPart& to);

/// What cv::resize with INTER_NEAREST gives, bit for bit; for pixels of any type.
cv::Mat resize_part_nearest(const PictureWindow& from, const ResizedPart& to);

/// What cv::resize with INTER_LINEAR gives, bit for bit; for uint8. Not for halves of both sides,
/// which OpenCV averages: see `is_averaged`.
cv::Mat resize_part_bilinear(const PictureWindow& from, const ResizedPart& to);

/// Whether cv::resize with INTER_LINEAR takes means of four pixels.
bool is_averaged(const cv::Size& from, const cv::Size& to);

}  // namespace seg
