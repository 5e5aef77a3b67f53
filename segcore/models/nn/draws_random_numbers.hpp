/// Modules that draw uniform random numbers in their forward pass or losses: points to sample,
/// first bases of a decomposition. Dropout is apart (drop.hpp).
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

namespace torch::nn {
class Module;
}

namespace seg {

/// Returns numbers in [0, 1) as torch.rand does.
using RandomSource =
    std::function<at::Tensor(at::IntArrayRef shape, const at::TensorOptions& options)>;

/// Base, beside its own, of a module that draws random numbers.
class DrawsRandomNumbers {
 public:
  virtual ~DrawsRandomNumbers() = default;
  /// Replaces LibTorch's generators, from which numbers come by default.
  void set_random_source(RandomSource source) { source_ = std::move(source); }

 protected:
  at::Tensor uniform(at::IntArrayRef shape, const at::TensorOptions& options) const {
    return source_(shape, options);
  }
  const RandomSource& random_source() const { return source_; }

 private:
  static at::Tensor torch_rand(at::IntArrayRef shape, const at::TensorOptions& options);
  RandomSource source_ = torch_rand;
};

/// Sets the source of every module of a model that draws random numbers.
void set_random_source(torch::nn::Module& model, const RandomSource& source);

}  // namespace seg
