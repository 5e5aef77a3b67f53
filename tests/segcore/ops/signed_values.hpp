/// Numbers for tests of operators.
#pragma once
#include <string>

#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// Numbers from -0.5 to 0.5 that belong to a name, float64 and exact in float32.
inline at::Tensor signed_values(const std::string& name, at::IntArrayRef shape) {
  return (reference::uniform(name, c10::multiply_integers(shape)) - 0.5).reshape(shape);
}

/// The same in float32, as a leaf that gets a gradient.
inline at::Tensor signed_leaf(const std::string& name, at::IntArrayRef shape) {
  return signed_values(name, shape).to(at::kFloat).requires_grad_();
}

}  // namespace seg
