#include "segcore/models/nn/kept_constant.hpp"

#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

namespace seg {

at::Tensor KeptConstant::of(const std::vector<double>& values,
                            const at::TensorOptions& options) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const at::ScalarType type = c10::typeMetaToScalarType(options.dtype());
  for (const Kept& kept : kept_) {
    if (kept.values == values && kept.tensor.device() == options.device() &&
        kept.tensor.scalar_type() == type) {
      return kept.tensor;
    }
  }
  // A tensor of a test would be refused by the backward pass of a later step.
  const c10::InferenceMode training(/*enabled=*/false);
  kept_.push_back({values, at::tensor(values, at::kDouble).to(options.device(), type)});
  return kept_.back().tensor;
}

}  // namespace seg
