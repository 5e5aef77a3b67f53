#include "segcore/data/transforms/random_crop.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "registry/error.hpp"
#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct RandomCropParams {
  std::variant<int64_t, std::array<int64_t, 2>> crop_size = int64_t{0};
  double cat_max_ratio = 1.0;
  int64_t ignore_index = 255;
};

namespace {

/// Draws until the classes of the crop are mixed, at most so often after the first.
constexpr int kCropRedraws = 10;

/// Of so many neighbours, most are of one class.
constexpr int kRun = 16;
bool all_equal(const uint8_t* bytes) {
  uint64_t halves[2];
  static_assert(sizeof halves == kRun);
  std::memcpy(halves, bytes, sizeof halves);
  return halves[0] == halves[1] && halves[0] == bytes[0] * uint64_t{0x0101'0101'0101'0101};
}

/// As far as it lies within the picture.
void crop(const Sample& sample, const cv::Size& from, Geometry& geometry, const cv::Rect& rect) {
  const cv::Size size = geometry.size(from);
  const cv::Rect inside = rect & cv::Rect({}, size);
  if (inside.empty()) {
    throw DataError(text(sample_name(sample), ": a crop of the image at x ", rect.x, ", y ", rect.y,
                         " leaves nothing of a picture of its annotation, ", size.width, " x ",
                         size.height, ": load annotations before the image is resized or padded"));
  }
  geometry.crop(from, inside);
}

class RandomCrop final : public GeometricTransform {
 public:
  using Params = RandomCropParams;
  static Schema<Params> schema() {
    return Schema<Params>("Cuts a random rectangle out of image and labels; what is smaller stays.")
        .source("MMSegmentation 1.2")
        .required("crop_size", &Params::crop_size, "height and width, or one number for both",
                  at_least(1))
        .optional("cat_max_ratio", &Params::cat_max_ratio,
                  "redrawn, up to ten times, while one class has this share of the pixels or "
                  "more",
                  above(0))
        .optional("ignore_index", &Params::ignore_index, "label that cat_max_ratio leaves out");
  }
  explicit RandomCrop(const Params& p)
      : cat_max_ratio_(p.cat_max_ratio), ignore_index_(p.ignore_index) {
    if (const auto* side = std::get_if<int64_t>(&p.crop_size)) {
      height_ = width_ = static_cast<int>(*side);
    } else {
      const auto& sides = std::get<std::array<int64_t, 2>>(p.crop_size);
      height_ = static_cast<int>(sides[0]);
      width_ = static_cast<int>(sides[1]);
    }
  }

  void plan(Sample& sample, Rng& rng) const override {
    const cv::Size size = planned_size(sample, "RandomCrop");
    cv::Rect rect = draw(size, rng);
    cv::Mat mixed;  // the labels of a crop that is good
    if (cat_max_ratio_ < 1.0 && !sample.labels.empty()) {
      if (sample.planned.labels.makes_whole(sample.labels.size(), sample.labels.type())) {
        sample.labels = sample.planned.labels.apply(sample.labels);  // once for all draws
        sample.planned.labels = {};
      }
      for (int i = 0; i < kCropRedraws && mixed.empty(); ++i) {
        Geometry look = sample.planned.labels;
        crop(sample, sample.labels.size(), look, rect);
        const cv::Mat labels = look.apply(sample.labels);
        if (classes_are_mixed(labels, cat_max_ratio_, ignore_index_)) {
          mixed = labels;
        } else {
          rect = draw(size, rng);
        }
      }
    }
    crop_sample(sample, rect);
    if (mixed.empty()) return;
    sample.labels = mixed;
    sample.planned.labels = {};
  }

 private:
  cv::Rect draw(const cv::Size& size, Rng& rng) const {
    const auto offset = [&](int length, int wanted) {
      return static_cast<int>(rng.below(std::max(length - wanted, 0) + 1));
    };
    const int y = offset(size.height, height_);
    return {offset(size.width, width_), y, width_, height_};
  }

  int height_ = 0, width_ = 0;
  double cat_max_ratio_;
  int64_t ignore_index_;
};
SEG_REGISTER(Transform, RandomCrop);

}  // namespace

void crop_sample(Sample& sample, const cv::Rect& rect) {
  for_each_picture(sample, [&](const cv::Mat& pixels, Geometry& geometry) {
    crop(sample, pixels.empty() ? sample.source->size() : pixels.size(), geometry, rect);
  });
}

bool classes_are_mixed(const cv::Mat& labels, double max_ratio, int64_t ignore_index) {
  int64_t classes = 0, most = 0, total = 0;
  const auto add = [&](int64_t label, int64_t count) {
    if (label == ignore_index || count == 0) return;
    ++classes;
    most = std::max(most, count);
    total += count;
  };
  if (labels.depth() == CV_8U) {
    // Four tables: neighbours are mostly equal, and counting into one place waits for itself.
    std::array<std::array<uint32_t, 256>, 4> counts{};
    for (int y = 0; y < labels.rows; ++y) {
      const uint8_t* row = labels.ptr<uint8_t>(y);
      int x = 0;
      for (; x + kRun <= labels.cols; x += kRun) {
        if (all_equal(row + x)) {
          counts[0][row[x]] += kRun;
          continue;
        }
        for (int i = x; i < x + kRun; i += 4) {
          ++counts[0][row[i]];
          ++counts[1][row[i + 1]];
          ++counts[2][row[i + 2]];
          ++counts[3][row[i + 3]];
        }
      }
      for (; x < labels.cols; ++x) ++counts[0][row[x]];
    }
    for (size_t label = 0; label < 256; ++label) {
      add(static_cast<int64_t>(label),
          int64_t{counts[0][label]} + counts[1][label] + counts[2][label] + counts[3][label]);
    }
  } else {
    std::unordered_map<int32_t, int64_t> counts;
    for (int y = 0; y < labels.rows; ++y) {
      const int32_t* row = labels.ptr<int32_t>(y);
      for (int x = 0; x < labels.cols;) {
        int end = x + 1;
        while (end < labels.cols && row[end] == row[x]) ++end;
        counts[row[x]] += end - x;
        x = end;
      }
    }
    for (const auto& [label, count] : counts) add(label, count);
  }
  return classes > 1 && static_cast<double>(most) / static_cast<double>(total) < max_ratio;
}

}  // namespace seg
