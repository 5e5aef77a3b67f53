/// Modules that change with the progress of a training.
#pragma once
#include <torch/nn/module.h>

#include <cstdint>

namespace seg {

/// Base, beside its own, of a module that depends on how far a training has come.
class FollowsProgress {
 public:
  virtual ~FollowsProgress() = default;
  /// Before the first step of a run and after each one.
  /// \param iter  steps done, of max_iters.
  virtual void set_progress(int64_t iter, int64_t max_iters) = 0;
};

/// Sets the progress of every module of a model that follows it.
void set_progress(torch::nn::Module& model, int64_t iter, int64_t max_iters);

}  // namespace seg
