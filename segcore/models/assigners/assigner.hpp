/// Matching of predictions with truths: costs, and the assignment with the least total cost.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <utility>
#include <vector>

#include "registry/registry.hpp"

namespace seg {

/// Predictions and truths of one image.
struct MatchInputs {
  at::Tensor scores;    ///< [Q, classes + 1], before softmax
  at::Tensor masks;     ///< [Q, P], before sigmoid
  at::Tensor labels;    ///< int64 [G]
  at::Tensor gt_masks;  ///< [G, P], floating, in [0, 1]
};

/// The cost of assigning a prediction to a truth.
class MatchCost {
 public:
  virtual ~MatchCost() = default;
  /// \return [Q, G]
  virtual at::Tensor operator()(const MatchInputs& in) const = 0;
};

template <>
struct Category<MatchCost> {
  static constexpr std::string_view name = "match cost";
  using Signature = std::unique_ptr<MatchCost>();
};

/// Pairs predictions with truths in two steps, so that the costs of many images can be made on a
/// GPU and be waited for once.
class Assigner {
 public:
  virtual ~Assigner() = default;
  /// What it costs that a prediction stands for a truth: finite, [Q, G], on the inputs' device.
  virtual at::Tensor costs(const MatchInputs& in) const = 0;
  /// \param costs  double [Q, G], on the CPU.
  /// \return for each prediction the truth assigned to it, or -1.
  virtual std::vector<int64_t> assign(const at::Tensor& costs) const = 0;
};

template <>
struct Category<Assigner> {
  static constexpr std::string_view name = "assigner";
  using Signature = std::unique_ptr<Assigner>();
};

/// Assigns each row to a column, or each column to a row if there are fewer, with the least sum
/// of costs (shortest augmenting paths, Crouse 2016, doi:10.1109/TAES.2016.140952). \param cost
/// finite, [rows, columns]. \return the column of each row, or -1.
std::vector<int64_t> linear_sum_assignment(const at::Tensor& cost);

}  // namespace seg
