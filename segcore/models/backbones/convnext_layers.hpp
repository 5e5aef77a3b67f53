/// How the layers of ConvNeXt are numbered for learning rates that shrink towards the image.
#pragma once
#include <vector>

#include "registry/text.hpp"
#include "segcore/models/layer_order.hpp"

namespace seg {

/// \param depths  blocks of the four stages.
///
/// ConvNeXt, Liu et al. 2022, arXiv:2201.03545, appendix A.1: every three blocks of the third stage
/// are one layer, each other stage is one layer as a whole. 6 layers for ConvNeXt-T, 12 for the
/// larger ones, as `paramwise_cfg.num_layers` has them in MMSegmentation's configs. The norms of
/// the outputs count with the head.
inline LayerOrder convnext_layer_order(const std::vector<int64_t>& depths) {
  std::vector<StageNames> stages;
  for (size_t i = 0; i < depths.size(); ++i) {
    stages.push_back({.embedding = {text("downsample_layers.", i, ".")},
                      .blocks = text("stages.", i, "."),
                      .num_blocks = depths[i],
                      .blocks_per_layer = i == 2 ? 3 : depths[i]});
  }
  return LayerOrder(std::move(stages));
}

}  // namespace seg
