/// Changes of a picture's geometry of which parts can be made.
#pragma once
#include <opencv2/core/mat.hpp>

#include "segcore/image/resize_part.hpp"

namespace seg {

struct Flips {
  bool x = false, y = false;  ///< about the vertical axis, and the horizontal one
};

/// Where the pixels of a picture go; what it makes of a part are the pixels that it makes of the
/// whole picture, bit for bit.
class Warp {
 public:
  virtual ~Warp() = default;
  /// What becomes of a picture's size.
  virtual cv::Size size(const cv::Size& from) const = 0;
  /// Whether any part takes as long as the whole picture.
  virtual bool makes_whole(const cv::Size& /*from*/, int /*type*/) const { return false; }
  /// The pixels that `make` reads, at least one.
  /// \param type  of the picture, as OpenCV counts them.
  /// \param part  of what becomes of it.
  virtual cv::Rect needed(const cv::Size& from, int type, const cv::Rect& part) const = 0;
  /// \param from   with what is needed at least.
  /// \param flips  of the part, afterwards.
  virtual cv::Mat make(const PictureWindow& from, const cv::Rect& part, Flips flips) const = 0;
};

/// A view of the pixels where nothing is flipped.
cv::Mat flipped(const cv::Mat& pixels, Flips flips);

/// As far as it lies within a picture; its first pixel where none does.
cv::Rect within(const cv::Size& picture, const cv::Rect& rect);

}  // namespace seg
