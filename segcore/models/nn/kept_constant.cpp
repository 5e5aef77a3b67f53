#include "segcore/models/nn/kept_constant.hpp"

#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

namespace seg {

at::Tensor KeptConstant::of(const std::vector<double>& values,
                            const at::TensorOptions& options) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const at::ScalarType type = c10::typeMetaToScalarType(options.dtype());
  if (!tensor_.defined() || values_ != values || tensor_.device() != options.device() ||
      tensor_.scalar_type() != type) {
    // A tensor of a test would be refused by the backward pass of a later step.
    const c10::InferenceMode training(/*enabled=*/false);
    tensor_ = at::tensor(values, at::kDouble).to(options.device(), type);
    values_ = values;
  }
  return tensor_;
}

}  // namespace seg
