#include "segcore/data/geometry.hpp"

#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/image/resize_image.hpp"

namespace seg {
namespace {

/// Whether a part can be resized by itself.
bool takes_parts(const Resizing& to, const cv::Size& from, int type) {
  if (to.backend != "cv2") return false;
  return to.interpolation == "nearest" ||
         (to.interpolation == "bilinear" && type == CV_8UC3 && !is_averaged(from, to.size));
}

}  // namespace

cv::Rect Geometry::part(const cv::Size& from) const {
  return part_.value_or(cv::Rect({}, resizing_ ? resizing_->size : from));
}

ResizedPart Geometry::resized_part(const cv::Size& from) const {
  return {resizing_->size, part(from), flip_x_, flip_y_};
}

cv::Size Geometry::size(const cv::Size& from) const { return part(from).size(); }

void Geometry::resize(Resizing to) {
  SEG_CHECK(empty(), "a picture is resized before it is cut and flipped");
  resizing_ = std::move(to);
}

void Geometry::crop(const cv::Size& from, const cv::Rect& rect) {
  const cv::Rect now = part(from);
  // What is flipped later is cut on the other side.
  const int x = flip_x_ ? now.width - rect.x - rect.width : rect.x;
  const int y = flip_y_ ? now.height - rect.y - rect.height : rect.y;
  part_ = cv::Rect(now.x + x, now.y + y, rect.width, rect.height);
}

void Geometry::flip(bool x, bool y) {
  flip_x_ ^= x;
  flip_y_ ^= y;
}

bool Geometry::resizes_whole(const cv::Size& from, int type) const {
  return resizing_ && !takes_parts(*resizing_, from, type);
}

cv::Rect Geometry::needed(const cv::Size& from, int type) const {
  if (!resizing_) return part(from);
  // INTER_NEAREST takes other pixels than those that lie around: of labels, which are in memory.
  if (resizing_->interpolation == "nearest" || resizes_whole(from, type)) return {{}, from};
  return needed_pixels(from, resized_part(from));
}

cv::Mat Geometry::apply(const PictureWindow& from) const {
  if (empty()) return from.pixels;
  if (resizing_ && takes_parts(*resizing_, from.whole, from.pixels.type())) {
    const ResizedPart to = resized_part(from.whole);
    return resizing_->interpolation == "nearest" ? resize_part_nearest(from, to)
                                                 : resize_part_bilinear(from, to);
  }
  cv::Mat out = from.pixels;
  if (resizing_) {
    out = resize_image(out, resizing_->size, resizing_->interpolation, resizing_->backend);
  }
  if (part_) out = out(resizing_ ? *part_ : *part_ - from.origin);
  if (!flip_x_ && !flip_y_) return out;
  if (out.type() == CV_8UC1) {  // faster than OpenCV's
    const cv::Size same = out.size();
    return resize_part_nearest({out, same, {}}, {same, {{}, same}, flip_x_, flip_y_});
  }
  cv::Mat flipped;
  cv::flip(out, flipped, !flip_y_ ? 1 : !flip_x_ ? 0 : -1);
  return flipped;
}

}  // namespace seg
