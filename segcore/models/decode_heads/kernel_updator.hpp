/// The `kernel_updator_cfg` of KernelUpdateHead.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Updates kernels with the features that they gathered.
class KernelUpdatorBase : public BaseModule {
 public:
  /// \param update  [N, K, in_channels], the features that each kernel gathered.
  /// \param kernels  [N, K, S, in_channels], S positions of each kernel.
  /// \return [N * K, S, out_channels]
  virtual torch::Tensor forward(const torch::Tensor& update, const torch::Tensor& kernels) = 0;
};

template <>
struct Category<KernelUpdatorBase> {
  static constexpr std::string_view name = "kernel updator";
  using Signature = std::shared_ptr<KernelUpdatorBase>();
};

}  // namespace seg
