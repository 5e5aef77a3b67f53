/// Where the pixels of a picture go in a pipeline.
#pragma once
#include <opencv2/core/mat.hpp>
#include <optional>
#include <string>

#include "segcore/image/resize_part.hpp"

namespace seg {

/// As resize_image.
struct Resizing {
  cv::Size size;
  std::string interpolation, backend;
};

/// A resizing, then a part that is cut out, then flips; each may be missing. Steps of a pipeline
/// note them here one by one, and `apply` makes them in one pass over the pixels that are left:
/// bit for bit what the steps would have made by themselves.
class Geometry {
 public:
  /// Nothing is noted.
  bool empty() const { return !resizing_ && !part_ && !flip_x_ && !flip_y_; }
  /// What becomes of a picture's size.
  cv::Size size(const cv::Size& from) const;

  /// Only where nothing is noted.
  void resize(Resizing to);
  /// \param rect  of what a picture of `from` has become so far, within its bounds.
  void crop(const cv::Size& from, const cv::Rect& rect);
  /// About the vertical axis, and the horizontal one.
  void flip(bool x, bool y);

  /// Whether each `apply` resizes a whole picture, of whatever part.
  bool resizes_whole(const cv::Size& from, int type) const;
  /// The pixels of a picture that `apply` reads; all, where it has to be resized as a whole.
  /// \param type  of the picture, as OpenCV counts them.
  cv::Rect needed(const cv::Size& from, int type) const;
  /// \param from  with what is needed at least.
  /// \return a view of the pixels where they are not changed.
  cv::Mat apply(const PictureWindow& from) const;
  cv::Mat apply(const cv::Mat& from) const { return apply({from, from.size(), {}}); }

 private:
  cv::Rect part(const cv::Size& from) const;
  ResizedPart resized_part(const cv::Size& from) const;

  std::optional<Resizing> resizing_;
  std::optional<cv::Rect> part_;
  bool flip_x_ = false, flip_y_ = false;
};

}  // namespace seg
