/// Changes of a picture's geometry of which parts can be made.
#pragma once
#include <opencv2/core/mat.hpp>

#include "segcore/image/resize_part.hpp"

namespace seg {

struct Flips {
  bool x = false, y = false;  ///< about the vertical axis, and the horizontal one
};

/// A geometric transform that can make any part of its result, bit for bit as in the whole.
class Warp {
 public:
  virtual ~Warp() = default;
  /// Of the result.
  virtual cv::Size size(const cv::Size& from) const = 0;
  /// Whether a part costs as much as the whole.
  virtual bool makes_whole(const cv::Size& /*from*/, int /*type*/) const { return false; }
  /// The pixels that `make` reads, at least one.
  /// \param type  OpenCV's, such as CV_8UC3.
  /// \param part  of the result.
  virtual cv::Rect needed(const cv::Size& from, int type, const cv::Rect& part) const = 0;
  /// \param from   with what is needed at least.
  /// \param flips  of the part, afterwards.
  virtual cv::Mat make(const PictureWindow& from, const cv::Rect& part, Flips flips) const = 0;
};

/// A view of the pixels where nothing is flipped.
cv::Mat flipped(const cv::Mat& pixels, Flips flips);

/// The overlap of a rectangle and a picture; pixel (0, 0) where there is none.
cv::Rect within(const cv::Size& picture, const cv::Rect& rect);

}  // namespace seg
