/// A call of an operator that compares small logits with labels at full size, as kernels read it.
#pragma once
#include <ATen/OpMathType.h>
#include <ATen/core/Tensor.h>

#include <optional>

#include "segcore/ops/resized_pixels.hpp"

namespace seg {

/// The operands of a call in the order of memory, and their sizes.
struct ResizedCall {
  at::Tensor logits;  ///< [N, C, h, w]
  at::Tensor labels;  ///< int64 [N, H, W]
  ResizedLogits geometry;

  ResizedCall(const at::Tensor& logits_, const at::Tensor& labels_, bool align_corners)
      : logits(logits_.contiguous()),
        labels(labels_.to(at::kLong).contiguous()),
        geometry{static_cast<int>(logits.size(0)),
                 static_cast<int>(logits.size(1)),
                 static_cast<int>(logits.size(2)),
                 static_cast<int>(logits.size(3)),
                 static_cast<int>(labels.size(1)),
                 static_cast<int>(labels.size(2)),
                 align_corners} {}

  bool is_empty() const { return labels.numel() == 0 || logits.numel() == 0; }
  /// In which kernels compute, and the type of weights and results: double of double, else float.
  at::ScalarType real() const { return at::toOpMathType(logits.scalar_type()); }
  at::Tensor in_real(const at::Tensor& values) const { return values.to(real()).contiguous(); }
  /// Undefined if there is none.
  at::Tensor in_real(const std::optional<at::Tensor>& values) const {
    return values ? in_real(*values) : at::Tensor();
  }
  template <class Value>
  const Value* logit_data() const {
    return static_cast<const Value*>(logits.const_data_ptr());
  }
};

/// Null for an undefined one.
template <class Real>
const Real* data_or_null(const at::Tensor& values) {
  return values.defined() ? values.const_data_ptr<Real>() : nullptr;
}

}  // namespace seg
