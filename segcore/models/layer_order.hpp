/// The order of a backbone's parameters from the image to the last block.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace seg {

/// What counts as one layer of a backbone.
enum class LayerUnit { kBlock, kStage };

/// A stage of a backbone, by the names that its parameters have there. All but `blocks` are
/// prefixes of names.
struct StageNames {
  std::vector<std::string> embedding;  ///< what leads into the stage: {"patch_embed."}
  std::string blocks;                  ///< what precedes the number of a block: "layers.0.1."
  int64_t num_blocks = 0;
  std::vector<std::string> after = {};  ///< what follows the last block: {"layers.0.2."}
  int64_t blocks_per_layer = 1;         ///< consecutive blocks that count as one layer
};

/// Numbers the layers of a backbone, for learning rates that shrink towards the image.
///
/// By blocks as BEiT does (Bao et al. 2021, arXiv:2106.08254): embeddings of the image are layer 0,
/// the blocks of all stages follow from 1. What leads into a later stage counts with its first
/// block, what ends a stage with its last one. By stages as MMSegmentation does for ConvNeXt: every
/// embedding is layer 0, stage i is layer i + 1.
class LayerOrder {
 public:
  LayerOrder() = default;  ///< no layers
  explicit LayerOrder(std::vector<StageNames> stages) : stages_(std::move(stages)) {}

  /// Whether there are layers of this unit. A backbone of one stage has no stages to count.
  bool has(LayerUnit unit) const { return stages_.size() > (unit == LayerUnit::kStage ? 1 : 0); }
  /// Layers without the embeddings.
  int64_t count(LayerUnit unit) const;
  /// The layer of a parameter, 0 to count(); nothing for what follows the last layer.
  /// \param parameter  its name within the backbone.
  std::optional<int64_t> layer_of(const std::string& parameter, LayerUnit unit) const;

 private:
  std::vector<StageNames> stages_;
};

}  // namespace seg
