#include "segcore/models/segmentors/strip_prediction.hpp"

#include <algorithm>
#include <utility>

#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Elements of the logits that are resized at once: 32 MB of floats.
constexpr int64_t kPredictedElements = 8 * 1024 * 1024;

/// Classes of images strip by strip, as their logits become final.
class StripPrediction {
 public:
  /// \param sources  one for each augmentation, of the same images.
  StripPrediction(std::vector<SlidImages> sources, double threshold)
      : sources_(std::move(sources)), threshold_(threshold) {
    for (const auto& g : sources_.front().geometry) shapes_.push_back(g.original);
    for (const auto& source : sources_) {
      for (size_t i = 0; i < shapes_.size(); ++i) {
        SEG_CHECK(source.geometry.at(i).original == shapes_[i],
                  "augmentations of one image have different original shapes");
      }
    }
    ids_.resize(shapes_.size());
    written_.resize(shapes_.size(), 0);
  }

  /// int64 [ori H, ori W] of each image.
  std::vector<torch::Tensor> run() {
    while (true) {
      std::vector<bool> late(sources_.size(), false);
      for (size_t i = 0; i < shapes_.size(); ++i) write_all(i, late);
      if (std::none_of(late.begin(), late.end(), [](bool l) { return l; })) return ids_;
      for (size_t s = 0; s < sources_.size(); ++s) {
        if (late[s]) sources_[s].logits.advance();
      }
    }
  }

 private:
  /// Writes all rows of an image that are ready, and marks the sources that the next one needs.
  void write_all(size_t image, std::vector<bool>& late) {
    int64_t& written = written_[image];
    while (written < shapes_[image][0]) {
      int64_t count = shapes_[image][0] - written;
      for (size_t s = 0; s < sources_.size(); ++s) {
        const int64_t ready = sources_[s].ready(image, written);
        late[s] = late[s] || ready == 0;
        count = std::min(count, ready);
      }
      if (count == 0) return;
      const auto classes = classes_of_rows(image, written, written + count);
      auto& ids = ids_[image];
      if (!ids.defined()) {
        ids = torch::empty({shapes_[image][0], shapes_[image][1]}, classes.options());
      }
      ids.narrow(0, written, count).copy_(classes);
      written += count;
    }
  }
  torch::Tensor classes_of_rows(size_t image, int64_t begin, int64_t end) const {
    std::vector<torch::Tensor> strips;
    for (const auto& source : sources_) strips.push_back(source.rows(image, begin, end));
    return strips.size() == 1 ? classes_of(strips[0], threshold_)
                              : classes_of_mean(strips, threshold_);
  }

  std::vector<SlidImages> sources_;
  double threshold_;
  std::vector<std::array<int64_t, 2>> shapes_;
  std::vector<torch::Tensor> ids_;
  std::vector<int64_t> written_;  ///< rows of each image's result
};

}  // namespace

/// Rows of the logits before the first one of the image.
int64_t SlidImages::padding(size_t image) const {
  const LogitsGeometry& g = geometry[image];
  return logits.upwards() ? g.input[0] - g.unpadded[0] : 0;
}

/// The first and the last row of the logits that a row of the result needs.
std::array<int64_t, 2> SlidImages::needed(size_t image, int64_t y) const {
  const auto rows = input_rows_of(geometry[image], y, logits.wide());
  return {padding(image) + rows[0], padding(image) + rows[1]};
}

int64_t SlidImages::ready(size_t image, int64_t begin) const {
  const LogitsGeometry& g = geometry[image];
  if (logits.final_rows() == 0) return 0;
  const int64_t most = std::max<int64_t>(
      1, kPredictedElements / (logits.channels() * std::max(g.input[1], g.original[1])));
  const int64_t first = needed(image, begin)[0];
  int64_t end = begin;
  while (end < g.original[0] && end - begin < most) {
    const int64_t last = needed(image, end)[1];
    if (last >= logits.final_rows() || (end > begin && last - first >= most)) break;
    ++end;
  }
  return end - begin;
}

torch::Tensor SlidImages::rows(size_t image, int64_t begin, int64_t end) const {
  const int64_t first = needed(image, begin)[0];
  const auto mean =
      logits.mean_of(static_cast<int64_t>(image), first, needed(image, end - 1)[1] + 1);
  return LogitRows(mean, geometry[image], first - padding(image)).rows(begin, end);
}

std::vector<torch::Tensor> classes_by_strips(std::vector<SlidImages> sources, double threshold) {
  return StripPrediction(std::move(sources), threshold).run();
}

}  // namespace seg
