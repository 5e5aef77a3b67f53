/// Which operators a training step calls, for which module, and what they cost.
#pragma once
#include <c10/core/Device.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace seg {

/// A call of an operator by the program itself, with all that it calls in turn. A node of the
/// backward pass is a call, too, with its time outside of operators.
struct OperatorCall {
  std::string name;   ///< aten::conv2d; of a node ConvolutionBackward0
  std::string phase;  ///< the outermost user scope: forward, backward, ...
  /// Of the last parameter or buffer that was taken as input: what follows a convolution without
  /// parameters of its own counts as the convolution's. In a user scope inside of a phase, such as
  /// "loss", the part of the model and the scope: decode_head.loss. In the backward pass that of
  /// the forward pass. Elsewhere the phase.
  std::string module;
  double seconds = 0;
  int64_t bytes = 0;  ///< of tensors taken and returned; views have none
  int64_t flops = 0;  ///< as `operator_flops`
};

/// An operator, at any depth, that costs more than its arithmetic.
struct OperatorNote {
  std::string name, phase, module;
  int64_t bytes = 0;
};

struct RecordedStep {
  std::vector<OperatorCall> calls;  ///< as they began
  /// Operators whose result the CPU needs before it goes on. On a GPU they wait for all queued
  /// work.
  std::vector<OperatorNote> waits;
  /// Copies between contiguous and channels-last that change nothing else; bytes read and written.
  std::vector<OperatorNote> format_copies;
};

/// Runs a step and records it. On a GPU times are those between events around each call.
/// \param step  with user scopes (RECORD_USER_SCOPE of LibTorch) for its phases.
RecordedStep record_operators(const torch::nn::Module& model, c10::Device device,
                              const std::function<void()>& step);

}  // namespace seg
