/// Uniform random numbers that models draw in their forward pass (points to sample, first bases),
/// through one function, so that tests can give known ones.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

namespace seg {

/// Numbers in [0, 1), as torch.rand.
at::Tensor model_rand(at::IntArrayRef shape, const at::TensorOptions& options);

/// While it lives, model_rand gives what `source` gives. For tests; not for several threads.
class ReplaceModelRand {
 public:
  using Source = std::function<at::Tensor(at::IntArrayRef)>;
  explicit ReplaceModelRand(Source source);
  ~ReplaceModelRand();
  ReplaceModelRand(const ReplaceModelRand&) = delete;
  ReplaceModelRand& operator=(const ReplaceModelRand&) = delete;
};

}  // namespace seg
