/// Padding of samples, for the transforms that need a size.
#pragma once
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "segcore/data/transform.hpp"

namespace seg {

/// What new pixels of image and labels are.
struct PadValues {
  std::variant<double, std::vector<double>> img = 0.0;  ///< of all bands, or of each
  int64_t seg = 255;
  static Schema<PadValues> schema();
};

/// With what padding is done, without the size.
struct PadStyle {
  std::variant<double, PadValues> pad_val = PadValues{};
  std::string padding_mode = "constant";
  static Schema<PadStyle> schema();
};

/// PadStyle as a component: CenterCrop's `pad_cfg`.
struct CropPadParams : PadStyle {
  std::string type = "Pad";
  static Schema<CropPadParams> schema();
};

/// Plans to pad right and bottom up to a size; a side that is longer stays.
void pad_sample(Sample& sample, int height, int width, const PadStyle& style);

}  // namespace seg
