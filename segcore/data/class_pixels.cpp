#include "segcore/data/class_pixels.hpp"

#include <mutex>

#include "segcore/data/for_each_sample.hpp"
#include "segcore/data/transform.hpp"

namespace seg {
namespace {

/// The labels of a sample before any augmentation.
cv::Mat labels_of(const Dataset& dataset, size_t index, const Transform& load) {
  Sample sample = dataset.with_labels(index);
  if (sample.labels.empty()) {
    Rng unused(0, RngPurpose::kCheck, 0, index);
    load.apply(sample, unused);
  }
  cv::Mat out;
  sample.labels.convertTo(out, CV_32S);
  return out;
}

void add_image(const cv::Mat& labels, ClassPixels& sum) {
  std::vector<double> counts(sum.pixels.size());
  double labelled = 0;
  for (int y = 0; y < labels.rows; ++y) {
    const auto* row = labels.ptr<int32_t>(y);
    for (int x = 0; x < labels.cols; ++x) {
      const auto id = static_cast<size_t>(row[x]);  // negative ones are beyond every class
      if (id >= counts.size()) continue;
      ++counts[id];
      ++labelled;
    }
  }
  for (size_t c = 0; c < counts.size(); ++c) {
    sum.pixels[c] += counts[c];
    if (counts[c] > 0) sum.around[c] += labelled;
  }
}

}  // namespace

ClassPixels count_class_pixels(const Dataset& dataset, size_t classes, size_t first, size_t step) {
  ClassPixels out{std::vector<double>(classes), std::vector<double>(classes)};
  const auto load = Spec<Transform>::of("{type: LoadAnnotations}").build();
  const size_t count = first < dataset.size() ? (dataset.size() - first + step - 1) / step : 0;
  std::mutex mutex;
  for_each_sample(count, dataset.skips_corrupt(), [&](size_t i) {
    const cv::Mat labels = labels_of(dataset, first + i * step, *load);
    ClassPixels image{std::vector<double>(classes), std::vector<double>(classes)};
    add_image(labels, image);
    const std::lock_guard lock(mutex);
    for (size_t c = 0; c < classes; ++c) {
      out.pixels[c] += image.pixels[c];
      out.around[c] += image.around[c];
    }
  });
  return out;
}

}  // namespace seg
