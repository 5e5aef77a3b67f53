/// The `kernel_update_head` of IterativeDecodeHead.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Masks and kernels after one stage.
struct KernelUpdate {
  torch::Tensor masks;    ///< [N, K, H, W]
  torch::Tensor kernels;  ///< [N, K, C, k, k]
};

/// Updates the kernels of a head once, and makes masks with them.
class KernelUpdateStage : public BaseModule {
 public:
  /// \param x  [N, C, H, W], the features that the first kernels were convolved with.
  virtual KernelUpdate forward(const torch::Tensor& x, const KernelUpdate& before) = 0;
};

template <>
struct Category<KernelUpdateStage> {
  static constexpr std::string_view name = "kernel update head";
  using Signature = std::shared_ptr<KernelUpdateStage>();
};

}  // namespace seg
