#include "runners/ensemble/pictures.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "segcore/data/pipeline.hpp"
#include "segcore/evaluation/picture_text.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

constexpr double kOpacity = 0.8;
constexpr double kCaptionScale = 0.5;
constexpr int kCaptionHeight = 24;
constexpr int kGap = 4;
constexpr size_t kColumns = 4;

struct Panel {
  std::string caption;
  cv::Mat picture;
};

at::Tensor ids_of(const cv::Mat& labels) {
  cv::Mat wide;
  labels.convertTo(wide, CV_32S);
  return at::from_blob(wide.data, {wide.rows, wide.cols}, at::kInt).to(at::kLong);
}

/// All of the size of the first.
cv::Mat panels_in_rows(const std::vector<Panel>& panels) {
  const cv::Size size = panels[0].picture.size();
  const auto rows = static_cast<int>((panels.size() + kColumns - 1) / kColumns);
  const auto columns = static_cast<int>(std::min(panels.size(), kColumns));
  cv::Mat out(rows * (size.height + kCaptionHeight + kGap) + kGap,
              columns * (size.width + kGap) + kGap, CV_8UC3, cv::Scalar::all(255));
  for (size_t i = 0; i < panels.size(); ++i) {
    const int x = kGap + static_cast<int>(i % kColumns) * (size.width + kGap);
    const int y = kGap + static_cast<int>(i / kColumns) * (size.height + kCaptionHeight + kGap);
    draw_picture_text(out, fit_picture_text(panels[i].caption, kCaptionScale, size.width),
                      {x, y + kCaptionHeight - 7}, kCaptionScale);
    panels[i].picture.copyTo(out(cv::Rect({x, y + kCaptionHeight}, size)));
  }
  return out;
}

std::vector<Panel> panels_of(const Dataset& dataset, size_t index,
                             const std::vector<ModelPredictions>& models) {
  const DatasetMeta& meta = dataset.meta();
  const Palette palette =
      palette_or_default(meta.palette, static_cast<int64_t>(meta.classes.size()));
  const cv::Mat image = displayable(dataset.with_image(index).image);
  std::vector<Panel> out{{"image", image}};
  const auto add = [&](const std::string& caption, const cv::Mat& labels) {
    out.push_back({caption, overlay(image, ids_of(labels), palette, kOpacity)});
  };
  if (const cv::Mat truth = dataset.with_labels(index).labels; !truth.empty()) add("truth", truth);
  for (const auto& [name, folder] : models) {
    cv::Mat ids = read_labels(fitting_path(folder + "/" + dataset.output_name(index), ".png"));
    // As PredictionWriter stores them.
    if (meta.reduce_zero_label) {
      ids.convertTo(ids, CV_32S);
      ids -= 1;
    }
    add(name, ids);
  }
  return out;
}

}  // namespace

size_t draw_ensemble_pictures(const std::string& folder, const Dataset& dataset,
                              const std::vector<ModelPredictions>& models, size_t count) {
  const size_t drawn = std::min(count, dataset.size());
  for (size_t i = 0; i < drawn; ++i) {
    const size_t index = i * dataset.size() / drawn;
    write_png(fitting_path(folder + "/" + dataset.output_name(index), ".png"),
              panels_in_rows(panels_of(dataset, index, models)));
  }
  return drawn;
}

}  // namespace seg
