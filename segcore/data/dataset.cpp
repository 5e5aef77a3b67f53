#include "segcore/data/dataset.hpp"

#include <filesystem>

#include "segcore/data/pipeline.hpp"

namespace seg {

std::vector<PackedSample> Dataset::get(size_t index, uint64_t seed, uint64_t epoch,
                                       Unusable unusable) const {
  std::vector<PackedSample> out;
  for (Sample& sample : unpacked(index, seed, epoch, unusable)) {
    out.push_back(pack(std::move(sample)));
  }
  return out;
}

std::vector<Sample> Dataset::unpacked(size_t, uint64_t, uint64_t, Unusable) const {
  throw Error("the data set has packed samples only");
}

Sample Dataset::describe(size_t index) const {
  Sample sample = sample_of_files(index, paths(index));
  sample.meta.name = output_name(index);
  return sample;
}

Sample Dataset::sample_of_files(size_t index, std::pair<std::string, std::string> paths) const {
  Sample sample;
  sample.meta.index = static_cast<int64_t>(index);
  std::tie(sample.meta.img_path, sample.meta.seg_map_path) = std::move(paths);
  sample.reduce_zero_label = meta().reduce_zero_label;
  sample.meta.reduce_zero_label = meta().reduce_zero_label;
  sample.ignore_index = meta().ignore_index;
  return sample;
}

std::string Dataset::output_name(size_t index) const {
  return std::filesystem::path(paths(index).first).stem().string();
}

}  // namespace seg
