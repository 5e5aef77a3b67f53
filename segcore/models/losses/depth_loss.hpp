/// Losses of heads that estimate depth.
///
/// A `Loss` compares logits with class ids. These compare two maps of depth.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "registry/registry.hpp"

namespace seg {

class DepthLoss {
 public:
  virtual ~DepthLoss() = default;
  /// \param depth  float [N, H, W], positive.
  /// \param truth  float [N, H, W]; 0 where it is unknown.
  /// \return a scalar, times the loss's own weight.
  virtual at::Tensor operator()(const at::Tensor& depth, const at::Tensor& truth) const = 0;
  /// Name in the log ("loss_silog"); losses of one name add up.
  virtual const std::string& loss_name() const = 0;
};

template <>
struct Category<DepthLoss> {
  static constexpr std::string_view name = "depth loss";
  using Signature = std::unique_ptr<DepthLoss>();
};

}  // namespace seg
