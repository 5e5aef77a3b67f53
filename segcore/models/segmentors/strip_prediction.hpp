/// Classes of images strip by strip, from the logits of a sliding window.
#pragma once
#include <array>
#include <vector>

#include "segcore/models/segmentors/sliding_logits.hpp"
#include "segcore/ops/resize_argmax/resize_argmax.hpp"

namespace seg {

/// The sliding logits of some images, with the geometry of each.
struct SlidImages {
  SlidingLogits logits;
  /// Of each image, without flip_vertical: logits that slide upwards undo that flip by their order.
  std::vector<LogitsGeometry> geometry;

  /// How many rows of the result, from `begin` on, can be made at once.
  int64_t ready(size_t image, int64_t begin) const;
  /// Rows begin <= y < end of the logits at the original shape, [C, end - begin, W].
  torch::Tensor rows(size_t image, int64_t begin, int64_t end) const;

 private:
  int64_t padding(size_t image) const;
  std::array<int64_t, 2> needed(size_t image, int64_t y) const;
};

/// Classes of each image, int64 [ori H, ori W], written as the windows reach them. The
/// probabilities of several sources are averaged.
/// \param sources  one for each augmentation, of the same images; several are of one image each.
std::vector<torch::Tensor> classes_by_strips(std::vector<SlidImages> sources, double threshold);

}  // namespace seg
