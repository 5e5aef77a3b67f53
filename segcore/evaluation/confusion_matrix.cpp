#include "segcore/evaluation/confusion_matrix.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "registry/error.hpp"
#include "registry/printed.hpp"
#include "segcore/evaluation/picture_text.hpp"

namespace seg {
namespace {

/// White to dark blue.
cv::Scalar share_colour(double share) {
  const double t = std::sqrt(std::clamp(share, 0.0, 1.0));  // small confusions are to be seen, too
  const auto mix = [t](double from, double to) { return from + (to - from) * t; };
  return {mix(255, 130), mix(255, 66), mix(255, 8)};
}

constexpr double kTitleSize = 0.55;

/// Sizes of the picture in pixels.
struct ConfusionLayout {
  int cell, left, top, title = 54, margin = 16;
  double letters;

  ConfusionLayout(const std::vector<std::string>& classes, int count)
      : cell(count <= 12   ? 56
             : count <= 40 ? 44
                           : 30),
        letters(count <= 40 ? 0.45 : 0.38) {
    int widest = 0;
    for (const auto& name : classes) {
      widest = std::max(widest, picture_text_width(name, letters));
    }
    left = margin + 26 + widest + 10;
    top = title + widest + 10;
  }
};

/// "87.3", with fewer digits in small cells; "" for nothing.
std::string cell_text(double share, int64_t pixels, int cell) {
  if (pixels == 0) return "";
  const double percent = share * 100;
  if (percent < 0.05) return cell >= 44 ? "<0.1" : "";
  if (cell < 44 && percent < 0.5) return "";
  return printed(cell >= 44 && percent < 99.95 ? "%.1f" : "%.0f", percent);
}

/// Turned by 90 degrees, reading upwards.
void draw_upwards(cv::Mat& picture, const std::string& words, cv::Point bottom_middle,
                  double scale) {
  const int width = picture_text_width(words, scale) + 2, height = cvRound(30 * scale) + 8;
  cv::Mat line(height, width, CV_8UC3, cv::Scalar::all(255)), turned;
  draw_picture_text(line, words, {1, height - 8}, scale);
  cv::rotate(line, turned, cv::ROTATE_90_COUNTERCLOCKWISE);
  const cv::Rect place =
      cv::Rect(bottom_middle.x - height / 2, bottom_middle.y - width, height, width) &
      cv::Rect(0, 0, picture.cols, picture.rows);
  turned(cv::Rect(0, turned.rows - place.height, place.width, place.height)).copyTo(picture(place));
}

}  // namespace

void ConfusionMatrix::add(const at::Tensor& prediction, const at::Tensor& labels,
                          int64_t ignore_index) {
  const at::Tensor truth = labels.to(prediction.device(), at::kLong);
  const at::Tensor predicted = prediction.to(at::kLong);
  const auto is_class = [&](const at::Tensor& ids) {
    return ids.ge(0).logical_and(ids.lt(classes_));
  };
  const at::Tensor known =
      is_class(truth).logical_and(is_class(predicted)).logical_and(truth.ne(ignore_index));
  const at::Tensor pairs = (truth * classes_ + predicted).masked_select(known);
  const at::Tensor counts = at::bincount(pairs, {}, classes_ * classes_);
  counts_ = counts_.defined() ? counts_ + counts : counts;
}

at::Tensor ConfusionMatrix::gather(Communicator& communicator) const {
  at::Tensor sum =
      counts_.defined() ? counts_.cpu().clone() : at::zeros({classes_ * classes_}, at::kLong);
  communicator.all_reduce_sum_(sum);
  return sum.reshape({classes_, classes_});
}

std::string confusion_csv(const at::Tensor& counts, const std::vector<std::string>& classes) {
  const auto cell = [](const std::string& name) {
    std::string quoted = "\"";
    for (const char c : name) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return name.find_first_of(",\"\r\n") == std::string::npos ? name : quoted + "\"";
  };
  std::string out = "truth\\prediction";
  for (const auto& name : classes) out += "," + cell(name);
  out += "\n";
  for (int64_t t = 0; t < counts.size(0); ++t) {
    out += cell(classes.at(static_cast<size_t>(t)));
    for (int64_t p = 0; p < counts.size(1); ++p) out += text(",", counts[t][p].item<int64_t>());
    out += "\n";
  }
  return out;
}

cv::Mat confusion_picture(const at::Tensor& counts, const std::vector<std::string>& classes) {
  const int n = static_cast<int>(counts.size(0));
  SEG_CHECK(static_cast<int>(classes.size()) == n, "expected a name for each of ", n, " classes");
  std::vector<std::string> names;
  for (int c = 0; c < n; ++c) names.push_back(class_label(classes, c));
  const ConfusionLayout layout(names, n);
  // Few classes with short names are narrower than the title.
  const std::string title = "predicted as, in % of the pixels of the true class";
  const int width = std::max(layout.left + n * layout.cell,
                             layout.margin + picture_text_width(title, kTitleSize)) +
                    layout.margin;
  cv::Mat picture(layout.top + n * layout.cell + layout.margin, width, CV_8UC3,
                  cv::Scalar::all(255));
  const auto pixels = counts.accessor<int64_t, 2>();
  for (int t = 0; t < n; ++t) {
    int64_t all = 0;
    for (int p = 0; p < n; ++p) all += pixels[t][p];
    const int y = layout.top + t * layout.cell;
    for (int p = 0; p < n; ++p) {
      const double share =
          all > 0 ? static_cast<double>(pixels[t][p]) / static_cast<double>(all) : 0;
      const cv::Rect cell(layout.left + p * layout.cell, y, layout.cell, layout.cell);
      cv::rectangle(picture, cell, share_colour(share), cv::FILLED);
      cv::rectangle(picture, cell, cv::Scalar::all(225), 1);
      const std::string number = cell_text(share, pixels[t][p], layout.cell);
      const double size = layout.letters * 0.92;
      const cv::Point at(cell.x + (cell.width - picture_text_width(number, size)) / 2,
                         cell.y + cell.height / 2 + 5);
      draw_picture_text(picture, number, at, size,
                        share > 0.3 ? cv::Scalar::all(255) : kPictureInk);
    }
    const std::string& name = names[static_cast<size_t>(t)];
    const cv::Scalar ink = all > 0 ? kPictureInk : cv::Scalar::all(170);
    draw_picture_text(
        picture, name,
        {layout.left - 8 - picture_text_width(name, layout.letters), y + layout.cell / 2 + 5},
        layout.letters, ink);
    draw_upwards(picture, name, {layout.left + t * layout.cell + layout.cell / 2, layout.top - 8},
                 layout.letters);
  }
  draw_picture_text(picture, title, {layout.margin, 24}, kTitleSize);
  draw_upwards(picture, "true class",
               {layout.margin + 8,
                layout.top + n * layout.cell / 2 + picture_text_width("true class", 0.5) / 2},
               0.5);
  return picture;
}

}  // namespace seg
