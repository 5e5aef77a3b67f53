#include "segcore/data/dataset.hpp"

#include <filesystem>

namespace seg {

Sample Dataset::describe(size_t index) const {
  Sample sample;
  sample.meta.index = static_cast<int64_t>(index);
  std::tie(sample.meta.img_path, sample.meta.seg_map_path) = paths(index);
  sample.reduce_zero_label = meta().reduce_zero_label;
  sample.meta.reduce_zero_label = meta().reduce_zero_label;
  sample.ignore_index = meta().ignore_index;
  return sample;
}

std::string Dataset::output_name(size_t index) const {
  return std::filesystem::path(paths(index).first).stem().string();
}

}  // namespace seg
