/// The memory of a training step, which blocks of the model that the backward pass recomputes keep
/// under a limit: `memory: save`.
#pragma once
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "segcore/memory/device_memory.hpp"
#include "segcore/models/nn/recomputation_plan.hpp"

namespace seg {

/// The option `memory_limit`: a share of the device's memory (a number up to 1), bytes (a larger
/// one), or a size such as "8GB".
using MemoryLimit = std::variant<double, std::string>;
/// \param total  bytes of the device, for a share.
/// \return bytes; none for what is no limit: no size, or one that is not above 0.
std::optional<int64_t> limit_bytes(const MemoryLimit& limit, int64_t total);
/// In three digits below 1 GB, else in hundredths: "12.5 MB", "1.20 GB"; of 10^6 and 10^9 bytes.
std::string size_text(int64_t bytes);

/// Recomputes all blocks in a first step and measures them, then those that are cheap to recompute
/// for their memory. Batches of larger images, or of more values, than before are measured again,
/// and plans hold for the worst of those. Numbers do not depend on it.
class StepMemory {
 public:
  using UseOfDevice = std::function<MemoryUse(c10::Device)>;
  /// \param limit  of what `use` counts, in bytes; none: nine tenths of what is free.
  StepMemory(const torch::nn::Module& model, c10::Device device, std::optional<int64_t> limit,
             UseOfDevice use = memory_use);
  /// Before the forward pass, for which the result lives.
  /// \param gradients  bytes of those that are accumulated and that an update lets go: they are
  /// part
  ///                   of what a step takes.
  std::unique_ptr<FollowsPlan> begin(const at::Tensor& images, int64_t gradients = 0);
  /// After the backward pass.
  void end();

 private:
  struct Shape {
    int64_t values = 0;  ///< of a batch
    int64_t pixels = 0;  ///< of an image
    bool covers(const Shape& other) const {
      return other.values <= values && other.pixels <= pixels;
    }
    void grow_to(const Shape& other) {
      values = std::max(values, other.values);
      pixels = std::max(pixels, other.pixels);
    }
  };

  void choose(int64_t held);
  void raise_costs(const std::vector<BlockCost>& measured);

  RecomputationPlan plan_;
  c10::Device device_;
  UseOfDevice use_;
  int64_t limit_;
  Shape measured_;  ///< covers all batches so far
  Shape being_measured_;
  bool measures_ = false;
  int64_t held_ = 0;      ///< without gradients at the beginning of a step, measured or chosen for
  int64_t for_step_ = 0;  ///< what a step that recomputes all blocks takes besides
  std::vector<BlockCost> costs_;
  std::vector<bool> kept_;
  bool chosen_for_costs_ = false, reported_ = false, warned_ = false;
};

}  // namespace seg
