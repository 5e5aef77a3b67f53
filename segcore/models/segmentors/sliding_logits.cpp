#include "segcore/models/segmentors/sliding_logits.hpp"

#include <algorithm>
#include <utility>

#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Elements of a window's logits that are resized at once: 16 MB of floats.
constexpr int64_t kResizedElements = 4 * 1024 * 1024;

/// Where windows begin along one side of an image.
std::vector<int64_t> window_begins(int64_t side, int64_t crop, int64_t stride) {
  const int64_t count = std::max<int64_t>(side - crop + stride - 1, 0) / stride + 1;
  std::vector<int64_t> out;
  for (int64_t i = 0; i < count; ++i) {
    out.push_back(std::max<int64_t>(std::min(i * stride + crop, side) - crop, 0));
  }
  return out;
}

}  // namespace

SlidingLogits::SlidingLogits(OfWindows of_windows, torch::Tensor images, Size2 crop, Size2 stride,
                             int64_t batch, bool upwards)
    : of_windows_(std::move(of_windows)),
      images_(std::move(images)),
      height_(images_.size(2)),
      tops_(window_begins(height_, crop.h, stride.h)),
      lefts_(window_begins(images_.size(3), crop.w, stride.w)),
      window_(std::min(crop.h, height_), std::min(crop.w, images_.size(3))),
      batch_(batch),
      upwards_(upwards) {
  if (!upwards_) return;
  std::reverse(tops_.begin(), tops_.end());
  for (int64_t& top : tops_) top = height_ - top - window_.h;
}

void SlidingLogits::advance() {
  SEG_CHECK(!done(), "there are no more windows");
  const int64_t top = tops_[next_];
  if (next_ > 0) drop_before(std::max<int64_t>(final_ - 1, base_));
  const auto rows = images_.narrow(2, upwards_ ? height_ - top - window_.h : top, window_.h);
  for (size_t first = 0; first < lefts_.size(); first += static_cast<size_t>(batch_)) {
    const size_t end = std::min(first + static_cast<size_t>(batch_), lefts_.size());
    std::vector<torch::Tensor> windows;
    for (size_t i = first; i < end; ++i) windows.push_back(rows.narrow(3, lefts_[i], window_.w));
    const auto logits = of_windows_(windows.size() == 1 ? windows[0] : at::cat(windows));
    for (size_t i = first; i < end; ++i) {
      add(logits, static_cast<int64_t>(i - first) * images_.size(0), top, lefts_[i]);
    }
  }
  ++next_;
  final_ = next_ < tops_.size() ? tops_[next_] : height_;
}

torch::Tensor SlidingLogits::held(const torch::Tensor& x, int64_t begin, int64_t end) const {
  SEG_CHECK(begin >= base_ && end <= final_, "rows ", begin, " to ", end, " are not held");
  return x.narrow(2, begin - base_, end - begin);
}

torch::Tensor SlidingLogits::mean(int64_t begin, int64_t end) const {
  return held(sum_, begin, end) / held(count_, begin, end);
}

torch::Tensor SlidingLogits::mean_of(int64_t image, int64_t begin, int64_t end) const {
  return held(sum_, begin, end)[image] / held(count_, begin, end)[0];
}

void SlidingLogits::begin_sums(const torch::Tensor& logits) {
  // Half precision would lose the order of near classes.
  const bool wide_sums = logits.scalar_type() == torch::kDouble;
  const auto options = logits.options().dtype(wide_sums ? torch::kDouble : torch::kFloat32);
  // One row more than a window: a row of a resized result may lie between the last final row
  // and the first that is not.
  const int64_t rows = window_.h + 1, width = images_.size(3);
  sum_ = torch::zeros({images_.size(0), logits.size(1), rows, width}, options);
  count_ = torch::zeros({1, 1, rows, width}, options);
}

void SlidingLogits::add(const WindowLogits& logits, int64_t first, int64_t top, int64_t left) {
  SEG_CHECK(!logits.maps.empty() && logits.mirrored.size() == logits.maps.size(), "no logits");
  if (!sum_.defined()) begin_sums(logits.maps.front());
  const auto window = [&](const torch::Tensor& x) {
    return x.narrow(2, top - base_, window_.h).narrow(3, left, window_.w);
  };
  const int64_t images = images_.size(0), channels = sum_.size(1);
  const int64_t step = std::max<int64_t>(1, kResizedElements / (images * window_.h * window_.w));
  for (int64_t begin = 0; begin < channels; begin += step) {
    const int64_t count = std::min(step, channels - begin);
    torch::Tensor mean;
    for (size_t i = 0; i < logits.maps.size(); ++i) {
      const auto part = logits.maps[i].narrow(0, first, images).narrow(1, begin, count);
      auto full = resize(part, window_, logits.align_corners);
      if (logits.mirrored[i]) full = full.flip({3});
      mean = mean.defined() ? mean + full : full;
    }
    if (logits.maps.size() > 1) mean = mean / static_cast<double>(logits.maps.size());
    window(sum_.narrow(1, begin, count)).add_(upwards_ ? mean.flip(2) : mean);
  }
  window(count_).add_(1);
}

void SlidingLogits::drop_before(int64_t row) {
  const int64_t rows = sum_.size(2);
  const int64_t step = std::min(row - base_, rows);
  base_ = row;
  if (step == 0) return;
  for (torch::Tensor* x : {&sum_, &count_}) {
    // Upwards by `step` rows, in pieces of which none is read after it was written.
    for (int64_t to = 0; to + step < rows; to += step) {
      const int64_t n = std::min(step, rows - to - step);
      x->narrow(2, to, n).copy_(x->narrow(2, to + step, n));
    }
    x->narrow(2, rows - step, step).zero_();
  }
}

}  // namespace seg
