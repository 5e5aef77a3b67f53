/// What heads ask of the maps of a pyramid that they join.
#pragma once
#include <string>
#include <vector>

#include "segcore/models/decode_head.hpp"

namespace seg {

/// For the `validate` of heads that take a list of maps.
inline void check_several_maps(const DecodeHeadParams& p, Problems& problems) {
  if (p.input_transform != "multiple_select") {
    problems.error("input_transform", "must be multiple_select");
  }
}

/// Heads that bring all maps to the size of the first take the finest one first. Maps of dilated
/// stages have one stride.
/// \throws OptionError where a map is finer than the one before it.
inline void check_fine_to_coarse(const std::vector<FeatureInfo>& inputs) {
  for (size_t i = 1; i < inputs.size(); ++i) {
    if (inputs[i].stride >= inputs[i - 1].stride) continue;
    throw OptionError("in_index", text("must name maps from fine to coarse, but stride ",
                                       inputs[i].stride, " follows ", inputs[i - 1].stride));
  }
}

/// Of heads that enlarge all maps of a backbone's four stages to one size.
struct ResizedMapsParams : DecodeHeadParams {
  std::string interpolate_mode = "bilinear";
  ResizedMapsParams() {
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{0, 1, 2, 3};
  }
};

/// The options of `ResizedMapsParams`. \tparam Params  derived from it, which has the defaults.
template <class Params>
Schema<Params> resized_maps_schema(const std::string& summary) {
  return Schema<Params>(summary)
      .include(DecodeHead::base_schema())
      .optional("interpolate_mode", &Params::interpolate_mode, "how maps are enlarged",
                one_of({"bilinear", "nearest", "bicubic", "area"}));
}

}  // namespace seg
