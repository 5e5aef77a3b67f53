#include "segcore/models/layer_order.hpp"

#include <algorithm>
#include <charconv>

#include "registry/error.hpp"

namespace seg {
namespace {

bool starts_with_any(const std::string& name, const std::vector<std::string>& prefixes) {
  return std::ranges::any_of(prefixes, [&](const auto& p) { return name.starts_with(p); });
}

int64_t layers_of_stage(const StageNames& stage) {
  return (stage.num_blocks + stage.blocks_per_layer - 1) / stage.blocks_per_layer;
}

int64_t block_number(const std::string& name, size_t begin) {
  int64_t number = 0;
  const auto end = name.data() + name.size();
  SEG_CHECK(std::from_chars(name.data() + begin, end, number).ec == std::errc(),
            "expected the number of a block in ", name);
  return number;
}

}  // namespace

int64_t LayerOrder::count(LayerUnit unit) const {
  if (unit == LayerUnit::kStage) return static_cast<int64_t>(stages_.size());
  int64_t layers = 0;
  for (const auto& stage : stages_) layers += layers_of_stage(stage);
  return layers;
}

std::optional<int64_t> LayerOrder::layer_of(const std::string& parameter, LayerUnit unit) const {
  const bool by_stage = unit == LayerUnit::kStage;
  int64_t before = 0;  // layers of the stages before this one
  for (size_t s = 0; s < stages_.size(); ++s) {
    const StageNames& stage = stages_[s];
    const int64_t layers = by_stage ? 1 : layers_of_stage(stage);
    if (starts_with_any(parameter, stage.embedding)) {
      return s == 0 || by_stage ? 0 : std::min(before + 1, count(unit));
    }
    if (parameter.starts_with(stage.blocks)) {
      if (by_stage) return before + 1;
      return before + 1 + block_number(parameter, stage.blocks.size()) / stage.blocks_per_layer;
    }
    if (starts_with_any(parameter, stage.after)) return before + layers;
    before += layers;
  }
  return std::nullopt;
}

}  // namespace seg
