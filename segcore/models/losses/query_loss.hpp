/// Losses of heads whose queries predict a class and a mask each (MaskFormer, Mask2Former).
///
/// A `Loss` compares maps of logits with a map of labels. These compare queries with what they were
/// matched with, and have the names, options and defaults of mmdet's losses.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "registry/registry.hpp"

namespace seg {

/// Compares the classes of all queries with the classes they were matched with.
class QueryClassLoss {
 public:
  virtual ~QueryClassLoss() = default;
  /// \param scores  [queries, classes + 1], before softmax; the last column: no object.
  /// \param labels  int64 [queries], in [0, classes].
  /// \return a scalar, times the loss's own weight.
  virtual at::Tensor operator()(const at::Tensor& scores, const at::Tensor& labels) const = 0;
  /// Why the loss cannot be used for this number of classes; empty if it can.
  virtual std::string problem_with(int64_t num_classes) const = 0;
};

template <>
struct Category<QueryClassLoss> {
  static constexpr std::string_view name = "query class loss";
  using Signature = std::unique_ptr<QueryClassLoss>();
};

/// Compares the masks of matched queries with the masks of their classes.
class MaskLoss {
 public:
  virtual ~MaskLoss() = default;
  /// \param logits  [M, P], masks of matched queries at P pixels or points.
  /// \param truth  [M, P], in [0, 1].
  /// \param count  number of masks that the sum over masks is divided by: a mean over processes.
  /// \return a scalar, times the loss's own weight.
  virtual at::Tensor operator()(const at::Tensor& logits, const at::Tensor& truth,
                                double count) const = 0;
  /// Whether it measures the overlap of whole masks, rather than each pixel.
  virtual bool measures_overlap() const = 0;
};

template <>
struct Category<MaskLoss> {
  static constexpr std::string_view name = "mask loss";
  using Signature = std::unique_ptr<MaskLoss>();
};

}  // namespace seg
