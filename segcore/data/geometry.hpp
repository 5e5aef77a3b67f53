/// Where the pixels of a picture go in a pipeline.
#pragma once
#include <memory>
#include <opencv2/core/mat.hpp>
#include <optional>
#include <vector>

#include "segcore/data/warp.hpp"

namespace seg {

/// Warps (resizing, padding, rotation), parts that are cut out, and flips, in any order. Steps of a
/// pipeline note them here one by one, and `apply` makes of each warp what those after it read, bit
/// for bit what the steps would have made by themselves.
class Geometry {
 public:
  /// Nothing is noted.
  bool empty() const { return stages_.empty(); }
  /// What becomes of a picture's size.
  cv::Size size(const cv::Size& from) const;

  void warp(std::shared_ptr<const Warp> by);
  /// \param rect  of what a picture of `from` has become so far, within its bounds.
  void crop(const cv::Size& from, const cv::Rect& rect);
  /// About the vertical axis, and the horizontal one.
  void flip(bool x, bool y);

  /// Whether `apply` makes the whole of a picture in some stage, whatever part is wanted.
  bool makes_whole(const cv::Size& from, int type) const;
  /// The pixels of a picture that `apply` reads.
  /// \param type  of the picture, as OpenCV counts them.
  cv::Rect needed(const cv::Size& from, int type) const;
  /// \param from  with what is needed at least.
  /// \return a view of the pixels where they are not changed.
  cv::Mat apply(const PictureWindow& from) const;
  cv::Mat apply(const cv::Mat& from) const { return apply({from, from.size(), {}}); }

 private:
  /// A warp, then a part, then flips; each may be missing.
  struct Stage {
    std::shared_ptr<const Warp> warp;
    std::optional<cv::Rect> part;
    Flips flips;

    cv::Size warped_size(const cv::Size& from) const { return warp ? warp->size(from) : from; }
    cv::Rect part_of(const cv::Size& from) const;
    /// Where a rectangle of the result lies in the warped picture.
    cv::Rect origin_of(const cv::Size& from, const cv::Rect& rect) const;
  };
  /// What a stage reads and makes for those after it.
  struct StageWindow {
    cv::Rect input;        ///< of its input
    cv::Rect part;         ///< of the warped picture
    cv::Rect output;       ///< of its output
    cv::Size output_size;  ///< of all of it
  };
  std::vector<StageWindow> windows(const cv::Size& from, int type) const;
  /// Of the input of each stage, and of the result.
  std::vector<cv::Size> sizes(const cv::Size& from) const;
  Stage& last();

  std::vector<Stage> stages_;
};

}  // namespace seg
