#include "segcore/models/nn/recomputation_plan.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "segcore/models/nn/base_module.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Adds the blocks below a module.
/// \return how many of them are in sequences.
int64_t add_blocks_below(const torch::nn::Module& module, BlockSet& blocks) {
  const bool is_sequence = dynamic_cast<const Sequential*>(&module) != nullptr;
  int64_t count = 0;
  for (const auto& child : module.children()) {
    BlockSet inside;
    const int64_t count_inside = add_blocks_below(*child, inside);
    if (!is_sequence || count_inside > 1) {
      if (!is_sequence) blocks.insert(child.get());
      blocks.merge(inside);
      count += count_inside;
    } else if (count_products(*child) > 1) {
      blocks.insert(child.get());
      ++count;
    }
  }
  return count;
}

}  // namespace

BlockSet blocks_of(const torch::nn::Module& model) {
  BlockSet out;
  add_blocks_below(model, out);
  return out;
}

int64_t count_products(const torch::nn::Module& module) {
  int64_t count = 0;
  for (const auto& weight : module.parameters()) count += weight.dim() > 1 ? 1 : 0;
  return count;
}

void RecomputationPlan::measure() {
  measures_ = true;
  costs_.clear();
  next_ = 0;
}

void RecomputationPlan::follow(std::vector<bool> kept) {
  measures_ = false;
  kept_ = std::move(kept);
  next_ = 0;
}

std::vector<BlockCost> RecomputationPlan::costs() const {
  std::vector<BlockCost> out;
  for (const auto& cost : costs_) out.push_back(*cost);
  return out;
}

RecomputationPlan::Decision RecomputationPlan::next() {
  if (measures_) return {.cost = costs_.emplace_back(std::make_shared<BlockCost>())};
  const size_t block = next_++;
  return {.recomputed = block >= kept_.size() || !kept_[block], .cost = nullptr};
}

std::vector<bool> blocks_to_keep(const std::vector<BlockCost>& blocks, int64_t bytes) {
  std::vector<size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto seconds_for_memory = [&](size_t i) {
    return blocks[i].seconds / static_cast<double>(std::max<int64_t>(blocks[i].bytes, 1));
  };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return seconds_for_memory(a) > seconds_for_memory(b);
  });
  std::vector<bool> kept(blocks.size());
  for (const size_t i : order) {
    if (blocks[i].bytes > 0 && blocks[i].bytes > bytes) continue;
    kept[i] = true;
    if (blocks[i].bytes > 0) bytes -= blocks[i].bytes;
  }
  return kept;
}

}  // namespace seg
