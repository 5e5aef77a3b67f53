#include "segcore/data/dataset_spec.hpp"

#include <algorithm>

#include "registry/changed_spec.hpp"

namespace seg {
namespace {

/// An option that is, lists or may be a component of a category.
bool holds_component(const TypeDoc& type, std::string_view category) {
  if (type.kind == TypeDoc::Kind::kComponent) return type.name == category;
  return std::any_of(type.items.begin(), type.items.end(),
                     [&](const TypeDoc& item) { return holds_component(item, category); });
}

/// The options of a data set's type; none where the type is not known.
std::vector<OptionDoc> dataset_options(const Config& dataset) {
  Diagnostics reported_when_read;
  const auto& registry = Registry<Dataset>::instance();
  const auto type =
      detail::type_of(dataset, "", Category<Dataset>::name, registry.names(), reported_when_read);
  const auto* entry = type ? registry.find(*type) : nullptr;
  return entry ? entry->info().options : std::vector<OptionDoc>();
}

/// The option that holds the pipeline; "pipeline", which is then reported, where there is none.
std::string pipeline_option(const Config& dataset) {
  for (const OptionDoc& option : dataset_options(dataset)) {
    if (holds_component(option.type, Category<Transform>::name)) return option.name;
  }
  return "pipeline";
}

void set_lazy_init(Config& dataset) {
  const auto options = dataset_options(dataset);
  if (std::any_of(options.begin(), options.end(),
                  [](const OptionDoc& option) { return option.name == "lazy_init"; })) {
    dataset.set("lazy_init", Config::of(true));
  }
  for_inner_datasets(dataset, set_lazy_init);
}

}  // namespace

void for_inner_datasets(Config& dataset, const std::function<void(Config&)>& use) {
  for (const OptionDoc& option : dataset_options(dataset)) {
    if (!holds_component(option.type, Category<Dataset>::name)) continue;
    auto* item = dataset.find(option.name);
    if (!item) continue;
    if (item->value.is_map()) use(item->value);
    for (Config& inner : item->value.list) use(inner);
  }
}

Spec<Dataset> innermost_dataset(const Spec<Dataset>& spec) {
  const auto inner = spec.facts().inner;
  return inner.empty() ? spec : innermost_dataset(inner.front());
}

Spec<Dataset> lazy_dataset(const Spec<Dataset>& spec) {
  Config config = spec.config();
  set_lazy_init(config);
  return changed_spec(spec, config);
}

const Config* dataset_pipeline(Config& dataset) {
  const Config* out = nullptr;
  bool wraps = false;
  for_inner_datasets(dataset, [&](Config& inner) {
    if (!wraps) out = dataset_pipeline(inner);
    wraps = true;
  });
  if (wraps) return out;
  const auto* item = dataset.find(pipeline_option(dataset));
  return item ? &item->value : nullptr;
}

Config unwrapped_dataset(const Config& dataset) {
  Config out = dataset;
  std::vector<Config> inner;
  for_inner_datasets(out, [&](Config& one) {
    one = unwrapped_dataset(one);
    inner.push_back(one);
  });
  return inner.size() == 1 ? inner[0] : out;
}

void set_dataset_pipeline(Config& dataset, const Config& pipeline) {
  bool wraps = false;
  for_inner_datasets(dataset, [&](Config& inner) {
    wraps = true;
    set_dataset_pipeline(inner, pipeline);
  });
  if (!wraps) dataset.set(pipeline_option(dataset), pipeline);
}

}  // namespace seg
