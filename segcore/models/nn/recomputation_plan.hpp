/// Which blocks of a model are recomputed in the backward pass, and what that costs.
#pragma once
#include <torch/nn/module.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_set>
#include <vector>

namespace seg {

struct BlockCost {
  int64_t bytes = 0;   ///< of memory that keeping its tensors needs beyond recomputing them
  double seconds = 0;  ///< of its second pass
};

/// Modules that are blocks where they run as such.
using BlockSet = std::unordered_set<const torch::nn::Module*>;

/// All below a model but those in sequences that are none: with a single product (a convolution or
/// linear layer), inside of a block, or around several blocks in a sequence of their own.
BlockSet blocks_of(const torch::nn::Module& model);

/// The products below a module: weights of two dimensions or more.
int64_t count_products(const torch::nn::Module& module);

/// The blocks in the order in which a forward pass runs them. One that no measured pass ran is
/// recomputed.
class RecomputationPlan {
 public:
  explicit RecomputationPlan(const torch::nn::Module& model) : blocks_(blocks_of(model)) {}

  /// Begins a forward pass that recomputes and measures all.
  void measure();
  /// Begins a forward pass with these blocks kept.
  void follow(std::vector<bool> kept);
  /// Of the last pass that measured. Its backward pass must be done.
  std::vector<BlockCost> costs() const;

  struct Decision {
    bool recomputed = true;
    std::shared_ptr<BlockCost> cost;  ///< where it is measured
  };
  /// For the block that runs next.
  Decision next();
  bool has_block(const torch::nn::Module& module) const { return blocks_.contains(&module); }

 private:
  BlockSet blocks_;
  std::vector<std::shared_ptr<BlockCost>> costs_;
  std::vector<bool> kept_;
  size_t next_ = 0;
  bool measures_ = true;
};

/// While one lives, blocks that this thread runs ask the plan.
class FollowsPlan {
 public:
  explicit FollowsPlan(RecomputationPlan& plan);
  ~FollowsPlan();
  FollowsPlan(const FollowsPlan&) = delete;
  FollowsPlan& operator=(const FollowsPlan&) = delete;

 private:
  RecomputationPlan* outer_;
};

/// While one lives, these blocks are recomputed by this thread as under `with_cp`.
class RecomputesBlocks {
 public:
  /// \param blocks  null: none.
  explicit RecomputesBlocks(const BlockSet* blocks);
  ~RecomputesBlocks();
  RecomputesBlocks(const RecomputesBlocks&) = delete;
  RecomputesBlocks& operator=(const RecomputesBlocks&) = delete;

 private:
  const BlockSet* outer_;
};

/// The blocks whose recomputation takes longest for the memory that it saves, as far as they fit.
/// Those whose recomputation saves nothing are always kept.
/// \param bytes  that may be held beside what is held when all blocks are recomputed.
std::vector<bool> blocks_to_keep(const std::vector<BlockCost>& blocks, int64_t bytes);

}  // namespace seg
