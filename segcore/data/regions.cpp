#include "segcore/data/regions.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <opencv2/imgproc.hpp>

namespace seg {
namespace {

constexpr double kCocoScale = 5;

struct FinePoint {
  int x = 0, y = 0;
};

/// All points of the outline at the fine resolution, edge by edge.
std::vector<FinePoint> fine_outline(const Polygon& polygon) {
  std::vector<FinePoint> corners, out;
  for (const auto& [x, y] : polygon) {
    corners.push_back(
        {static_cast<int>(kCocoScale * x + 0.5), static_cast<int>(kCocoScale * y + 0.5)});
  }
  for (size_t i = 0; i < corners.size(); ++i) {
    FinePoint from = corners[i], to = corners[(i + 1) % corners.size()];
    const int dx = std::abs(to.x - from.x), dy = std::abs(to.y - from.y);
    const bool flat = dx >= dy;
    // Both directions of an edge give the same points.
    const bool backwards = flat ? from.x > to.x : from.y > to.y;
    if (backwards) std::swap(from, to);
    const int length = std::max(dx, dy);
    const double slope =
        length == 0 ? 0 : static_cast<double>(flat ? to.y - from.y : to.x - from.x) / length;
    for (int k = 0; k <= length; ++k) {
      const int t = backwards ? length - k : k;
      out.push_back(flat ? FinePoint{from.x + t, static_cast<int>(from.y + slope * t + 0.5)}
                         : FinePoint{static_cast<int>(from.x + slope * t + 0.5), from.y + t});
    }
  }
  return out;
}

}  // namespace

void fill_polygon(cv::Mat& mask, const Polygon& polygon) {
  std::vector<cv::Point> points;
  for (const auto& [x, y] : polygon) {
    points.emplace_back(static_cast<int>(std::lround(x)), static_cast<int>(std::lround(y)));
  }
  if (!points.empty()) cv::fillPoly(mask, std::vector<std::vector<cv::Point>>{points}, 255);
}

void fill_coco_polygon(cv::Mat& mask, const Polygon& polygon) {
  // Places, counted column by column, where inside and outside change.
  std::vector<int64_t> changes;
  const auto outline = fine_outline(polygon);
  for (size_t i = 1; i < outline.size(); ++i) {
    const FinePoint &before = outline[i - 1], &now = outline[i];
    if (now.x == before.x) continue;
    const double fine_x = now.x < before.x ? now.x : now.x - 1;
    const double x = (fine_x + 0.5) / kCocoScale - 0.5;
    if (std::floor(x) != x || x < 0 || x > mask.cols - 1) continue;
    const double y = std::clamp((std::min(now.y, before.y) + 0.5) / kCocoScale - 0.5, 0.0,
                                static_cast<double>(mask.rows));
    changes.push_back(static_cast<int64_t>(x) * mask.rows + static_cast<int64_t>(std::ceil(y)));
  }
  std::sort(changes.begin(), changes.end());
  std::vector<int64_t> runs;
  int64_t last = 0;
  for (const int64_t change : changes) {
    runs.push_back(change - last);
    last = change;
  }
  runs.push_back(static_cast<int64_t>(mask.total()) - last);
  fill_runs(mask, runs);
}

bool fill_runs(cv::Mat& mask, const std::vector<int64_t>& runs) {
  int64_t sum = 0;
  for (const int64_t run : runs) {
    if (run < 0) return false;
    sum += run;
  }
  if (sum != static_cast<int64_t>(mask.total())) return false;
  int64_t at = 0;
  bool inside = false;
  for (const int64_t run : runs) {
    for (int64_t i = at; inside && i < at + run; ++i) {
      mask.at<uint8_t>(static_cast<int>(i % mask.rows), static_cast<int>(i / mask.rows)) = 255;
    }
    at += run;
    inside = !inside;
  }
  return true;
}

std::vector<int64_t> runs_of_text(const std::string& text) {
  std::vector<int64_t> runs;
  for (size_t i = 0; i < text.size();) {
    uint64_t value = 0;
    int bits = 0;
    bool more = true, negative = false;
    while (more) {
      if (i == text.size() || text[i] < '0' || text[i] > 'o' || bits > 55) return {};
      const auto digit = static_cast<uint64_t>(text[i++] - '0');
      value |= (digit & 0x1f) << bits;
      bits += 5;
      more = (digit & 0x20) != 0;
      negative = (digit & 0x10) != 0;
    }
    if (negative) value |= ~uint64_t{0} << bits;
    auto run = static_cast<int64_t>(value);
    if (runs.size() > 2) run += runs[runs.size() - 2];
    runs.push_back(run);
  }
  return runs;
}

}  // namespace seg
