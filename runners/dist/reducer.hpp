/// Averages gradients over the processes of a run.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

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
  /// \throws RunEnded with 22 where a process is lost in it; OptionError where a parameter got no
  ///         gradient and `find_unused` is off.
  virtual void backward(const at::Tensor& loss) = 0;
};

struct ReducerOptions {
  bool find_unused = false;   ///< some parameters get no gradient in some steps
  bool static_graph = false;  ///< the same parameters get gradients in every step
  /// Gradients travel as "float32" (as they are), "float16" or "bfloat16".
  std::string gradient_dtype = "float32";
};

/// For several processes; null for one. The weights of all become those of the first.
std::unique_ptr<GradientReducer> make_reducer(Communicator& communicator, torch::nn::Module& model,
                                              const ReducerOptions& options);

}  // namespace seg
