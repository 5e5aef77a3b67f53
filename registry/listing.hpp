/// What tools/list prints: the registered types with their options, as the schemas declare them.
#pragma once
#include <string>
#include <vector>

#include "registry/registry.hpp"

namespace seg {

/// All categories with the number of their types.
std::string list_categories();
/// The types of a category, one a line with its summary.
std::string list_types(const AnyRegistry& registry);
/// A type with its options, their types, defaults and meanings, and the paper.
std::string list_options(const AnyRegistry& registry, const AnyRegistry::TypeInfo& type);

/// The same as Markdown: everything, a category, a type.
std::string markdown_of_all();
std::string markdown_of(const AnyRegistry& registry);
std::string markdown_of(const AnyRegistry& registry, const AnyRegistry::TypeInfo& type);

/// A registry by the name of its category; "backbones" and "training-loop" find "backbone" and
/// "training loop".
/// \throws UsageError naming the nearest.
const AnyRegistry& find_category(const std::string& name);
/// \throws UsageError naming the nearest.
AnyRegistry::TypeInfo find_type(const AnyRegistry& registry, const std::string& name);
/// What a name alone stands for: the category of that name, or all types of that name.
struct Listed {
  const AnyRegistry* registry = nullptr;
  std::optional<AnyRegistry::TypeInfo> type;  ///< nothing: the whole category
};
/// \throws UsageError naming the nearest of both.
std::vector<Listed> find_listed(const std::string& name);

/// The options of a mapping inside a type: of a group, or of the elements of a list of groups; null
/// where there is none.
const std::vector<OptionDoc>* options_inside(const TypeDoc& type);

/// "int, at least 1", "string, one of: a, b": a type with its conditions.
std::string type_text(const TypeDoc& type);

}  // namespace seg
