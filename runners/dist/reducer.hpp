/// Averages gradients over the processes of a run.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

namespace torch::nn {
class Module;
}

namespace seg {

class Communicator;

/// Averages gradients while the backward pass still runs (c10d's Reducer).
class GradientReducer {
 public:
  virtual ~GradientReducer() = default;
  /// Before each forward pass.
  virtual void before_forward() = 0;
  /// The backward pass of a loss; gradients are then means over the processes.
  /// \throws RunEnded with 22 where a process is lost in it.
  virtual void backward(const at::Tensor& loss) = 0;
};

/// For several processes; null for one. The weights of all become those of the first.
/// \param find_unused  some parameters get no gradient in some steps.
std::unique_ptr<GradientReducer> make_reducer(Communicator& communicator, torch::nn::Module& model,
                                              bool find_unused);

}  // namespace seg
