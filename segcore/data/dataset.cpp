#include "segcore/data/dataset.hpp"

#include <algorithm>

namespace seg {
namespace {

bool has_lazy_init(const Config& dataset) {
  const auto* type = dataset.find("type");
  if (!type) return false;
  for (const auto& known : Registry<Dataset>::instance().types()) {
    // A scope may stand before the name: mmseg.ADE20KDataset.
    if (known.name != type->value.scalar.substr(type->value.scalar.rfind('.') + 1)) continue;
    return std::any_of(known.options.begin(), known.options.end(),
                       [](const OptionDoc& option) { return option.name == "lazy_init"; });
  }
  return false;
}

void set_lazy_init(Config& dataset) {
  if (has_lazy_init(dataset)) dataset.set("lazy_init", Config::of(true));
  if (auto* inner = dataset.find("dataset")) set_lazy_init(inner->value);
  if (auto* parts = dataset.find("datasets")) {
    for (Config& part : parts->value.list) set_lazy_init(part);
  }
}

}  // namespace

Spec<Dataset> lazy_dataset(const Spec<Dataset>& spec) {
  Config config = spec.config();
  set_lazy_init(config);
  Diagnostics problems;
  auto lazy = Spec<Dataset>::parse(config, spec.path(), problems);
  if (!lazy) throw ConfigError(problems);
  return *lazy;
}

Sample Dataset::describe(size_t index) const {
  Sample sample;
  sample.meta.index = static_cast<int64_t>(index);
  std::tie(sample.meta.img_path, sample.meta.seg_map_path) = paths(index);
  sample.reduce_zero_label = meta().reduce_zero_label;
  sample.meta.reduce_zero_label = meta().reduce_zero_label;
  sample.ignore_index = meta().ignore_index;
  return sample;
}

}  // namespace seg
