/// The memory of a training step, which blocks of the model that the backward pass recomputes keep
/// under a limit: `memory: save`.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "segcore/models/nn/recomputation_plan.hpp"

namespace seg {

/// The option `memory_limit`: bytes, a share of the device's memory, or a size such as "8GB".
using MemoryLimit = std::variant<double, std::string>;
/// \param total  bytes of the device, for a share.
/// \return bytes; none for what is no limit.
std::optional<int64_t> limit_bytes(const MemoryLimit& limit, int64_t total);
/// "1.2 GB"
std::string size_text(int64_t bytes);

/// Recomputes all blocks in a first step and measures them, then those that are cheap to recompute
/// for their memory. Larger images than before are measured again. Numbers do not depend on it.
class StepMemory {
 public:
  /// \param limit  of what `memory_use` counts, in bytes; none: nine tenths of what is free.
  StepMemory(const torch::nn::Module& model, c10::Device device, std::optional<int64_t> limit);
  /// Before the forward pass, for which the result lives.
  std::unique_ptr<FollowsPlan> begin(const at::Tensor& images);
  /// After the backward pass.
  void end();

 private:
  struct Shape {
    int64_t values = 0;  ///< of a batch
    int64_t pixels = 0;  ///< of an image
  };

  void choose(int64_t held);
  bool fits_measured(const Shape& images) const {
    return images.values <= measured_.values && images.pixels <= measured_.pixels;
  }

  RecomputationPlan plan_;
  c10::Device device_;
  int64_t limit_;
  Shape measured_, being_measured_;
  bool measures_ = false;
  int64_t held_ = -1;  ///< at the beginning of a step, that the choice counts with; -1: no choice
  int64_t for_step_ = 0;  ///< what a step that recomputes all blocks takes besides
  std::vector<BlockCost> costs_;
  std::vector<bool> kept_;
  bool chosen_ = false, warned_ = false;
};

}  // namespace seg
