#include "segcore/data/class_pixels.hpp"

#include <ATen/Parallel.h>

#include <exception>
#include <mutex>

#include "registry/error.hpp"
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
  std::exception_ptr failure;
  at::parallel_for(0, static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
    ClassPixels mine{std::vector<double>(classes), std::vector<double>(classes)};
    for (int64_t i = begin; i < end; ++i) {
      try {
        add_image(labels_of(dataset, first + static_cast<size_t>(i) * step, *load), mine);
      } catch (const DataError&) {
        if (dataset.skips_corrupt()) continue;
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        return;
      }
    }
    const std::lock_guard lock(mutex);
    for (size_t c = 0; c < classes; ++c) {
      out.pixels[c] += mine.pixels[c];
      out.around[c] += mine.around[c];
    }
  });
  if (failure) std::rethrow_exception(failure);
  return out;
}

}  // namespace seg
