#include "segcore/evaluation/prediction_picture.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>
#include <optional>

#include "registry/error.hpp"
#include "registry/printed.hpp"
#include "segcore/evaluation/image_scores.hpp"
#include "segcore/evaluation/picture_text.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/ops/class_histogram/class_histogram.hpp"

namespace seg {
namespace {

const cv::Scalar kPaper = cv::Scalar::all(250), kQuietInk = cv::Scalar::all(110);
const cv::Vec3b kWrong(60, 20, 235);  ///< red, BGR

/// Sizes that follow from that of the image.
struct PictureLayout {
  static constexpr int kColumns = 2;
  cv::Size panel;
  double unit;  ///< 1 for a picture about 1000 pixels wide; letters and gaps grow with it

  explicit PictureLayout(cv::Size image) {
    constexpr int kNarrow = 240, kLongest = 2048;
    const int longest = std::max(image.width, image.height);
    if (image.width < kNarrow && longest < kLongest / 2) {
      const int times =
          std::min((kNarrow + image.width - 1) / image.width, std::max(1, kLongest / longest));
      panel = image * times;
    } else if (longest > kLongest) {
      const double share = static_cast<double>(kLongest) / longest;
      panel = {std::max(1, cvRound(image.width * share)),
               std::max(1, cvRound(image.height * share))};
    } else {
      panel = image;
    }
    unit = std::clamp(panel.width * kColumns / 1000.0, 0.85, 4.0);
  }
  int scaled(double pixels) const { return cvRound(pixels * unit); }
  int gap() const { return scaled(10); }
  int head() const { return scaled(30); }
  int panel_title() const { return scaled(30); }
  int legend_row() const { return scaled(24); }
  int width() const { return kColumns * panel.width + (kColumns + 1) * gap(); }
  double letters(double scale) const { return scale * unit; }
  cv::Point place(int panel_index) const {
    const int row = panel_index / kColumns, column = panel_index % kColumns;
    return {gap() + column * (panel.width + gap()),
            head() + panel_title() + row * (panel.height + panel_title())};
  }
};

struct TitledPanel {
  std::string title;
  cv::Mat picture;
};

/// One class of the legend.
struct ClassShare {
  int64_t id = 0;
  double predicted = 0, labelled = 0;  ///< shares of the pixels that count
};

/// Grey where the prediction is right, red where it is wrong, dark where labels are ignored.
cv::Mat error_panel(const PredictionPictureParts& parts) {
  cv::Mat grey, out;
  cv::cvtColor(parts.image, grey, cv::COLOR_BGR2GRAY);
  cv::cvtColor(grey, out, cv::COLOR_GRAY2BGR);
  const auto classes = static_cast<int64_t>(parts.palette->size());
  const at::Tensor truth = parts.truth.to(at::kLong).contiguous();
  const at::Tensor prediction = parts.prediction.to(at::kLong).contiguous();
  const auto t = truth.accessor<int64_t, 2>();
  const auto p = prediction.accessor<int64_t, 2>();
  const auto row_of = [&](int y) { return int64_t{y} * truth.size(0) / out.rows; };
  const auto column_of = [&](int x) { return int64_t{x} * truth.size(1) / out.cols; };
  for (int y = 0; y < out.rows; ++y) {
    auto* to = out.ptr<cv::Vec3b>(y);
    for (int x = 0; x < out.cols; ++x) {
      const int64_t label = t[row_of(y)][column_of(x)];
      const bool counts = label != parts.ignore_index && label >= 0 && label < classes;
      const bool wrong = counts && label != p[row_of(y)][column_of(x)];
      for (int b = 0; b < 3; ++b) {
        // Bright and pale, so that red is seen everywhere.
        const double base = counts ? 110 + 0.5 * to[x][b] : 0.3 * to[x][b];
        to[x][b] = cv::saturate_cast<uchar>(wrong ? 0.2 * base + 0.8 * kWrong[b] : base);
      }
    }
  }
  return out;
}

/// Most pixels first. \param counts  of class_histogram, on the CPU.
std::vector<ClassShare> class_shares(const at::Tensor& counts) {
  const int64_t n = counts.size(1) - 1;
  const auto c = counts.accessor<int64_t, 2>();
  double predicted = 0, labelled = 0;
  for (int64_t k = 0; k < n; ++k) {
    predicted += static_cast<double>(c[1][k]);
    labelled += static_cast<double>(c[2][k]);
  }
  std::vector<ClassShare> out;
  for (int64_t k = 0; k < n; ++k) {
    if (c[1][k] == 0 && c[2][k] == 0) continue;
    out.push_back({k, static_cast<double>(c[1][k]) / std::max(1.0, predicted),
                   static_cast<double>(c[2][k]) / std::max(1.0, labelled)});
  }
  std::stable_sort(out.begin(), out.end(), [](const ClassShare& a, const ClassShare& b) {
    return a.predicted + a.labelled > b.predicted + b.labelled;
  });
  return out;
}

std::string percent_text(double share) { return printed("%.1f", share * 100); }

/// The legend of classes on paper of the picture's width.
cv::Mat legend_strip(const PredictionPictureParts& parts, const std::vector<ClassShare>& shares,
                     const PictureLayout& layout) {
  const bool both = parts.truth.defined();
  const double letters = layout.letters(0.46);
  const int swatch = layout.scaled(14), pad = layout.scaled(6), between = layout.scaled(20);
  struct Entry {
    cv::Point at;
    std::string name, share;
    int64_t id;
  };
  std::vector<Entry> entries;
  int x = layout.gap(), rows = 0;
  for (const ClassShare& c : shares) {
    const std::string name = class_label(*parts.classes, c.id);
    const std::string share =
        percent_text(c.predicted) + (both ? " / " + percent_text(c.labelled) : "") + " %";
    const int width =
        swatch + 2 * pad + picture_text_width(name, letters) + picture_text_width(share, letters);
    if (x > layout.gap() && x + width > layout.width() - layout.gap()) {
      x = layout.gap();
      ++rows;
    }
    entries.push_back({{x, rows * layout.legend_row()}, name, share, c.id});
    x += width + between;
  }
  const int top = layout.scaled(26);  // of the heading
  cv::Mat out(top + (rows + 1) * layout.legend_row() + layout.gap() / 2, layout.width(), CV_8UC3,
              kPaper);
  draw_picture_text(out, both ? "share of the pixels: prediction / truth" : "share of the pixels",
                    {layout.gap(), layout.scaled(15)}, layout.letters(0.42), kQuietInk);
  for (const Entry& entry : entries) {
    const int y = top + entry.at.y, base = y + layout.scaled(12);
    const auto& rgb = parts.palette->at(static_cast<size_t>(entry.id));
    const cv::Rect box(entry.at.x, y, swatch, swatch);
    cv::rectangle(out, box, cv::Scalar(rgb[2], rgb[1], rgb[0]), cv::FILLED);
    cv::rectangle(out, box, cv::Scalar::all(140), 1);
    const int name_x = entry.at.x + swatch + pad;
    draw_picture_text(out, entry.name, {name_x, base}, letters);
    draw_picture_text(out, entry.share,
                      {name_x + picture_text_width(entry.name, letters) + pad, base}, letters,
                      kQuietInk);
  }
  return out;
}

/// The name of the image at the left, its scores at the right.
void draw_head(cv::Mat& picture, const PredictionPictureParts& parts,
               const std::optional<ImageScore>& score, const PictureLayout& layout) {
  const double letters = layout.letters(0.55);
  const int base = layout.scaled(23);
  int right = layout.width() - layout.gap();
  if (score && !std::isnan(score->mean_iou)) {
    const std::string words = "mIoU " + percent_text(score->mean_iou);
    right -= picture_text_width(words, letters);
    draw_picture_text(picture, words, {right, base}, letters);
    right -= layout.gap();
  }
  draw_picture_text(picture, fit_picture_text(parts.name, letters, right - layout.gap()),
                    {layout.gap(), base}, letters);
}

}  // namespace

cv::Rect image_panel(cv::Size image) {
  const PictureLayout layout(image);
  return {layout.place(0), layout.panel};
}

cv::Mat prediction_picture(const PredictionPictureParts& given) {
  PredictionPictureParts parts = given;
  parts.prediction = given.prediction.cpu();
  if (given.truth.defined()) parts.truth = given.truth.cpu();
  const PictureLayout layout(parts.image.size());
  const auto classes = static_cast<int64_t>(parts.palette->size());
  // Labels that a pipeline resized cannot be compared pixel by pixel.
  const bool compared = parts.truth.defined() && parts.truth.sizes() == parts.prediction.sizes();
  const at::Tensor counts =
      class_histogram(parts.prediction, compared ? parts.truth : parts.prediction, classes,
                      compared ? parts.ignore_index : -1);
  std::optional<ImageScore> score;
  if (compared) score = image_score(counts);

  std::vector<TitledPanel> panels{{"image", parts.image}};
  if (parts.truth.defined()) {
    panels.push_back({"truth", overlay(parts.image, parts.truth, *parts.palette, parts.opacity)});
  }
  panels.push_back(
      {"prediction", overlay(parts.image, parts.prediction, *parts.palette, parts.opacity)});
  if (compared) {
    std::string title = "wrong pixels";
    if (!std::isnan(score->accuracy)) title += ": " + percent_text(1 - score->accuracy) + " %";
    panels.push_back({title, error_panel(parts)});
  }
  if (!compared) parts.truth.reset();
  const cv::Mat legend = legend_strip(parts, class_shares(counts), layout);
  const cv::Point last = layout.place(static_cast<int>(panels.size()) - 1);
  cv::Mat out(last.y + layout.panel.height + layout.gap() + legend.rows, layout.width(), CV_8UC3,
              kPaper);
  draw_head(out, parts, score, layout);
  for (size_t i = 0; i < panels.size(); ++i) {
    const cv::Point at = layout.place(static_cast<int>(i));
    draw_picture_text(out, panels[i].title, {at.x, at.y - layout.scaled(8)}, layout.letters(0.46));
    const bool enlarged = layout.panel.width > parts.image.cols;
    cv::Mat panel = out(cv::Rect(at, layout.panel));
    cv::resize(panels[i].picture, panel, layout.panel, 0, 0,
               enlarged ? cv::INTER_NEAREST : cv::INTER_AREA);
  }
  legend.copyTo(out(cv::Rect(0, out.rows - legend.rows, legend.cols, legend.rows)));
  return out;
}

}  // namespace seg
