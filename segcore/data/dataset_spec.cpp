#include "segcore/data/dataset_spec.hpp"

#include <algorithm>

#include "segcore/data/datasets/base_seg_dataset.hpp"

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

/// Calls `use(config, path below the data set)` for each data set that a wrapper holds.
/// \tparam C  Config or const Config
template <class C, class Use>
void for_inner(C& dataset, const Use& use) {
  for (const OptionDoc& option : dataset_options(dataset)) {
    if (!holds_component(option.type, Category<Dataset>::name)) continue;
    auto* item = dataset.find(option.name);
    if (!item) continue;
    if (item->value.is_map()) use(item->value, option.name);
    for (size_t i = 0; i < item->value.list.size(); ++i) {
      use(item->value.list[i], text(option.name, '.', i));
    }
  }
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
  for_inner(dataset, [](Config& inner, const std::string&) { set_lazy_init(inner); });
}

std::string below(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

}  // namespace

std::vector<Spec<Dataset>> inner_datasets(const Spec<Dataset>& spec) {
  std::vector<Spec<Dataset>> out;
  Diagnostics reported;  // when the wrapper was read
  for_inner(spec.config(), [&](const Config& inner, const std::string& key) {
    if (auto found = Spec<Dataset>::parse(inner, below(spec.path(), key), reported)) {
      out.push_back(std::move(*found));
    }
  });
  return out;
}

Spec<Dataset> innermost_dataset(const Spec<Dataset>& spec) {
  const auto inner = inner_datasets(spec);
  return inner.empty() ? spec : innermost_dataset(inner.front());
}

std::optional<std::vector<Spec<Transform>>> dataset_pipeline(const Spec<Dataset>& spec) {
  const Spec<Dataset> innermost = innermost_dataset(spec);
  const std::string option = pipeline_option(innermost.config());
  const auto* item = innermost.config().find(option);
  if (!item) return std::nullopt;
  Diagnostics reported;  // when the data set was read
  return Convert<std::vector<Spec<Transform>>>::from(item->value, below(innermost.path(), option),
                                                     reported);
}

std::optional<std::vector<std::string>> named_classes(const Spec<Dataset>& spec) {
  const Spec<Dataset> innermost = innermost_dataset(spec);
  const auto* item = innermost.config().find("metainfo");
  if (!item) return std::nullopt;
  Diagnostics reported;  // when the data set was read
  const auto info = Convert<MetaInfo>::from(item->value, "", reported);
  if (!info || !info->classes) return std::nullopt;
  const auto* names = std::get_if<std::vector<std::string>>(&*info->classes);
  return names ? std::optional(*names) : std::nullopt;
}

Spec<Dataset> lazy_dataset(const Spec<Dataset>& spec) {
  Config config = spec.config();
  set_lazy_init(config);
  Diagnostics problems;
  auto lazy = Spec<Dataset>::parse(config, spec.path(), problems);
  if (!lazy) throw ConfigError(problems);
  return *lazy;
}

void set_dataset_pipeline(Config& dataset, const Config& pipeline) {
  bool wraps = false;
  for_inner(dataset, [&](Config& inner, const std::string&) {
    wraps = true;
    set_dataset_pipeline(inner, pipeline);
  });
  if (!wraps) dataset.set(pipeline_option(dataset), pipeline);
}

}  // namespace seg
