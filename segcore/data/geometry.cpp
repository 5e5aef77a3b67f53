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

cv::Size Geometry::size(const cv::Size& from) const {
  cv::Size out = from;
  for (const Stage& stage : stages_) out = stage.part_of(out).size();
  return out;
}

Geometry::Stage& Geometry::last() {
  if (stages_.empty()) stages_.emplace_back();
  return stages_.back();
}

void Geometry::warp(std::shared_ptr<const Warp> by) { stages_.push_back({std::move(by), {}, {}}); }

void Geometry::crop(const cv::Size& from, const cv::Rect& rect) {
  cv::Size before = from;
  for (size_t i = 0; i + 1 < stages_.size(); ++i) before = stages_[i].part_of(before).size();
  Stage& stage = last();
  stage.part = stage.origin_of(before, rect);
}

void Geometry::flip(bool x, bool y) {
  Flips& flips = last().flips;
  flips.x ^= x;
  flips.y ^= y;
}

bool Geometry::makes_whole(const cv::Size& from, int type) const {
  cv::Size now = from;
  for (const Stage& stage : stages_) {
    if (stage.warp && stage.warp->makes_whole(now, type)) return true;
    now = stage.part_of(now).size();
  }
  return false;
}

std::vector<Geometry::StageWindow> Geometry::windows(const cv::Size& from, int type) const {
  std::vector<StageWindow> out;
  cv::Size now = from;
  for (const Stage& stage : stages_) {
    out.push_back({.input_size = now, .input = {}, .part = {}, .output = {}});
    now = stage.part_of(now).size();
  }
  cv::Rect wanted({}, now);
  for (size_t i = stages_.size(); i-- > 0;) {
    const Stage& stage = stages_[i];
    StageWindow& window = out[i];
    window.output = wanted;
    window.part = stage.origin_of(window.input_size, wanted);
    window.input =
        stage.warp ? stage.warp->needed(window.input_size, type, window.part) : window.part;
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
    now.whole = stage.part_of(window.input_size).size();
    now.origin = window.output.tl();
  }
  return now.pixels;
}

}  // namespace seg
