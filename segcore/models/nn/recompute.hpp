/// Recomputation in the backward pass, which trades time for memory: the option `with_cp`.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

namespace seg {

/// f(x), keeping only x for the backward pass, which computes f again with the same random numbers
/// and precision. Plain f(x) where x needs no gradient.
///
/// As in PyTorch, running statistics of norms inside f are updated twice.
at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x);

/// The same for several tensors. Others that f uses must not need a gradient, weights apart.
at::Tensor recompute_of(const std::function<at::Tensor(at::TensorList)>& f, at::TensorList inputs);

}  // namespace seg
