/// Sizes of backbones and encoders, as a table.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "segcore/models/backbone.hpp"

namespace seg {

/// One backbone with its default options, or one encoder.
struct BackboneRow {
  std::string name, source;
  int64_t parameters = 0;  ///< of what makes the maps, without a classifier; 0: it was not built
  int64_t flops = 0;       ///< of an image, counted as count_flops does; 0: it takes other images
  std::vector<FeatureInfo> maps;
  std::vector<std::string> weights;  ///< published ones, by name
};

/// Builds each encoder whose name contains `part`, and runs it once.
/// \param side  of the image.
std::vector<BackboneRow> encoder_rows(const std::string& part, int64_t side);
/// The same for the registered backbones that need no option.
std::vector<BackboneRow> backbone_rows(const std::string& part, int64_t side);
/// As Markdown.
std::string table_of(const std::vector<BackboneRow>& rows, int64_t side);

}  // namespace seg
