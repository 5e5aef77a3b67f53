#include "segcore/evaluation/class_legend.hpp"

#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "segcore/evaluation/picture_text.hpp"

namespace seg {
namespace {

constexpr int kLegendRow = 24, kLegendSwatch = 16, kLegendGap = 8, kLegendRows = 40;
constexpr double kLegendLetters = 0.5;

struct LegendEntry {
  std::string id, name;
};

/// Width of what the entries show, without the gap to the next column.
int legend_column_width(const std::vector<LegendEntry>& entries, int id_width) {
  int out = 0;
  for (const LegendEntry& entry : entries) {
    out = std::max(out, picture_text_width(entry.name, kLegendLetters));
  }
  return kLegendSwatch + kLegendGap + id_width + kLegendGap + out;
}

}  // namespace

cv::Mat class_legend(const Palette& palette, const std::vector<std::string>& classes,
                     int64_t count) {
  std::vector<LegendEntry> entries;
  int id_width = 0;
  for (int64_t id = 0; id < count; ++id) {
    entries.push_back({std::to_string(id), class_label(classes, id)});
    id_width = std::max(id_width, picture_text_width(entries.back().id, kLegendLetters));
  }
  const int column = legend_column_width(entries, id_width) + 3 * kLegendGap;
  const int columns = (static_cast<int>(count) + kLegendRows - 1) / kLegendRows;
  const int rows = std::min(static_cast<int>(count), kLegendRows);
  cv::Mat out(rows * kLegendRow + kLegendGap, std::max(1, columns) * column, CV_8UC3,
              cv::Scalar::all(250));
  for (int i = 0; i < static_cast<int>(count); ++i) {
    const LegendEntry& entry = entries[static_cast<size_t>(i)];
    const auto& rgb = palette.at(static_cast<size_t>(i));
    const int x = i / kLegendRows * column + kLegendGap, y = i % kLegendRows * kLegendRow;
    const cv::Rect box(x, y + kLegendGap, kLegendSwatch, kLegendSwatch);
    cv::rectangle(out, box, cv::Scalar(rgb[2], rgb[1], rgb[0]), cv::FILLED);
    cv::rectangle(out, box, cv::Scalar::all(140), 1);
    const int base = y + kLegendGap + kLegendSwatch - 3;
    const int id_right = box.br().x + kLegendGap + id_width;
    draw_picture_text(out, entry.id,
                      {id_right - picture_text_width(entry.id, kLegendLetters), base},
                      kLegendLetters, cv::Scalar::all(110));
    draw_picture_text(out, entry.name, {id_right + kLegendGap, base}, kLegendLetters);
  }
  return out;
}

}  // namespace seg
