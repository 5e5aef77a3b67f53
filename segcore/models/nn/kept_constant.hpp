/// Numbers of a config as a tensor that stays on its device.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

#include <mutex>
#include <vector>

namespace seg {

/// Brings numbers to a device once: a GPU would have to end all that it has to do before it takes
/// them from memory of the system, in every step anew. For numbers that hardly ever change: all
/// tensors live as long as this, as a recorded step may read any of them. Safe to use from several
/// threads.
class KeptConstant {
 public:
  /// \param options  device and type.
  /// \return [values]; that of an earlier call with the same. It must not be changed.
  at::Tensor of(const std::vector<double>& values, const at::TensorOptions& options) const;

 private:
  struct Kept {
    std::vector<double> values;
    at::Tensor tensor;
  };
  mutable std::mutex mutex_;
  mutable std::vector<Kept> kept_;
};

}  // namespace seg
