/// Trades time for memory: the `with_cp` option of backbones.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

namespace seg {

/// f(x), keeping only x for the backward pass, which computes f once more. Draws the same random
/// numbers and uses the same precision both times. Where x needs no gradient it is plain f(x).
///
/// As with PyTorch's, running statistics of norms inside f move twice.
at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x);

/// The same of several tensors: f(inputs). What f sees beside them must not need a gradient,
/// weights apart.
at::Tensor recompute_of(const std::function<at::Tensor(at::TensorList)>& f, at::TensorList inputs);

}  // namespace seg
