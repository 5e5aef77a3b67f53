#include "segcore/data/geometry.hpp"

#include <opencv2/core.hpp>

namespace seg {

cv::Rect Geometry::Stage::part_of(const cv::Size& from) const {
  return part.value_or(cv::Rect({}, warped_size(from)));
}

cv::Rect Geometry::Stage::origin_of(const cv::Size& from, const cv::Rect& rect) const {
  const cv::Rect now = part_of(from);
  // What is flipped later lies on the other side.
  const int x = flips.x ? now.width - rect.x - rect.width : rect.x;
  const int y = flips.y ? now.height - rect.y - rect.height : rect.y;
  return {now.x + x, now.y + y, rect.width, rect.height};
}

std::vector<cv::Size> Geometry::sizes(const cv::Size& from) const {
  std::vector<cv::Size> out{from};
  for (const Stage& stage : stages_) out.push_back(stage.part_of(out.back()).size());
  return out;
}

cv::Size Geometry::size(const cv::Size& from) const { return sizes(from).back(); }

Geometry::Stage& Geometry::last() {
  if (stages_.empty()) stages_.emplace_back();
  return stages_.back();
}

void Geometry::warp(std::shared_ptr<const Warp> by) { stages_.push_back({std::move(by), {}, {}}); }

void Geometry::crop(const cv::Size& from, const cv::Rect& rect) {
  Stage& stage = last();
  stage.part = stage.origin_of(sizes(from)[stages_.size() - 1], rect);
}

void Geometry::flip(bool x, bool y) {
  Flips& flips = last().flips;
  flips.x ^= x;
  flips.y ^= y;
}

bool Geometry::makes_whole(const cv::Size& from, int type) const {
  const auto all = sizes(from);
  for (size_t i = 0; i < stages_.size(); ++i) {
    if (stages_[i].warp && stages_[i].warp->makes_whole(all[i], type)) return true;
  }
  return false;
}

std::vector<Geometry::StageWindow> Geometry::windows(const cv::Size& from, int type) const {
  const auto all = sizes(from);
  std::vector<StageWindow> out(stages_.size());
  cv::Rect wanted({}, all.back());
  for (size_t i = stages_.size(); i-- > 0;) {
    const Stage& stage = stages_[i];
    StageWindow& window = out[i];
    window.output_size = all[i + 1];
    window.output = wanted;
    window.part = stage.origin_of(all[i], wanted);
    window.input = stage.warp ? stage.warp->needed(all[i], type, window.part) : window.part;
    wanted = window.input;
  }
  return out;
}

cv::Rect Geometry::needed(const cv::Size& from, int type) const {
  return empty() ? cv::Rect({}, from) : windows(from, type).front().input;
}

cv::Mat Geometry::apply(const PictureWindow& from) const {
  PictureWindow now = from;
  const auto all = windows(from.whole, from.pixels.type());
  for (size_t i = 0; i < all.size(); ++i) {
    const Stage& stage = stages_[i];
    const StageWindow& window = all[i];
    now.pixels = stage.warp ? stage.warp->make(now, window.part, stage.flips)
                            : flipped(now.pixels(window.part - now.origin), stage.flips);
    now.whole = window.output_size;
    now.origin = window.output.tl();
  }
  return now.pixels;
}

}  // namespace seg
