/// Numbers of a config as a tensor that stays on its device.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

#include <mutex>
#include <vector>

namespace seg {

/// Brings numbers to a device once: a GPU would have to end all that it has to do before it takes
/// them from memory of the system, in every step anew. Safe to use from several threads.
class KeptConstant {
 public:
  /// \param options  device and type.
  /// \return [values]; the tensor of the call before where neither values nor options differ. It
  ///         must not be changed.
  at::Tensor of(const std::vector<double>& values, const at::TensorOptions& options) const;

 private:
  mutable std::mutex mutex_;
  mutable std::vector<double> values_;
  mutable at::Tensor tensor_;
};

}  // namespace seg
