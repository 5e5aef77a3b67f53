#include "registry/listing.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "registry/error.hpp"

namespace seg {
namespace {

/// The condition on the scalars in a type, without its name.
std::string condition_text(const TypeDoc& type) {
  if (!type.choices.empty()) return "one of: " + join(type.choices, ", ");
  if (type.minimum && type.maximum) return text(*type.minimum, " to ", *type.maximum);
  if (type.minimum) return text(type.exclusive_minimum ? "above " : "at least ", *type.minimum);
  if (type.maximum) return text("at most ", *type.maximum);
  for (const TypeDoc& item : type.items) {
    if (std::string inner = condition_text(item); !inner.empty()) return inner;
  }
  return {};
}

struct OptionRow {
  std::string name, type, default_value, meaning;
};

void add_option_rows(const std::vector<OptionDoc>& options, const std::string& prefix,
                     std::vector<OptionRow>& rows) {
  std::vector<const OptionDoc*> sorted;
  for (const OptionDoc& option : options) sorted.push_back(&option);
  // Those that must be given come first, all else in the order of the declaration.
  std::stable_partition(sorted.begin(), sorted.end(),
                        [](const OptionDoc* option) { return option->required; });
  for (const OptionDoc* option : sorted) {
    rows.push_back({prefix + option->name, type_text(option->type),
                    option->required ? "required" : option->default_value, option->meaning});
    if (const auto* group = options_inside(option->type)) {
      add_option_rows(*group, prefix + option->name + ".", rows);
    }
  }
}

std::vector<OptionRow> option_rows(const AnyRegistry::TypeInfo& type) {
  std::vector<OptionRow> rows;
  add_option_rows(type.options, "", rows);
  return rows;
}

std::string padded(std::string s, size_t width) {
  s.resize(std::max(width, s.size()), ' ');
  return s;
}

/// Breaks a text into lines of at most `width`, all but the first indented.
std::string wrapped(const std::string& words, size_t indent, size_t width) {
  std::string out;
  size_t column = indent;
  std::istringstream in(words);
  for (std::string word; in >> word;) {
    if (column > indent && column + 1 + word.size() > width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

/// The source file from the root of the project on.
std::string source_file(const std::string& where) {
  std::filesystem::path out;
  bool inside = false;
  for (const auto& part : std::filesystem::path(where)) {
    inside = inside || part == "segcore" || part == "runners";
    // The project's own folder may be called segcore too.
    if (part == "segcore" || part == "runners") out.clear();
    if (inside) out /= part;
  }
  return inside ? out.generic_string() : where;
}

std::string markdown_escaped(const std::string& s) {
  std::string out;
  for (char c : s) {
    if (c == '|' || c == '<' || c == '*' || c == '_') out += '\\';
    out += c;
  }
  return out;
}

std::string code(const std::string& s) { return s.empty() ? std::string() : "`" + s + "`"; }

/// "training loops" for "Training-Loops".
std::string plain_name(std::string name) {
  for (char& c : name) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (c == '-' || c == '_') c = ' ';
  }
  return name;
}

/// By its name or its plural: "loss", "losses", "transforms".
const AnyRegistry* registry_called(const std::string& name) {
  for (const char* ending : {"", "s", "es"}) {
    for (const AnyRegistry* registry : AnyRegistry::all()) {
      if (plain_name(std::string(registry->category())) + ending == plain_name(name)) {
        return registry;
      }
    }
  }
  return nullptr;
}

std::vector<std::string> category_names() {
  std::vector<std::string> names;
  for (const AnyRegistry* registry : AnyRegistry::all()) {
    names.emplace_back(registry->category());
  }
  return names;
}

}  // namespace

const std::vector<OptionDoc>* options_inside(const TypeDoc& type) {
  if (type.group) return type.group.get();
  for (const TypeDoc& item : type.items) {
    if (const auto* inner = options_inside(item)) return inner;
  }
  return nullptr;
}

std::string type_text(const TypeDoc& type) {
  const std::string condition = condition_text(type);
  return type.name + (condition.empty() ? "" : ", " + condition);
}

std::string list_categories() {
  std::string out;
  size_t width = 0;
  for (const auto& name : category_names()) width = std::max(width, name.size());
  for (const AnyRegistry* registry : AnyRegistry::all()) {
    out += text(padded(std::string(registry->category()), width), "  ", registry->types().size(),
                "\n");
  }
  return out;
}

std::string list_types(const AnyRegistry& registry) {
  const auto types = registry.types();
  size_t width = 0;
  for (const auto& type : types) width = std::max(width, type.name.size());
  std::string out;
  for (const auto& type : types) {
    out += padded(type.name, width) + "  " + wrapped(type.summary, width + 2, 110) + "\n";
  }
  return out;
}

std::string list_options(const AnyRegistry& registry, const AnyRegistry::TypeInfo& type) {
  std::string out =
      text(type.name, " (", registry.category(), ")\n", "  ", wrapped(type.summary, 2, 110), "\n");
  if (!type.source.empty()) out += "  Source: " + wrapped(type.source, 10, 110) + "\n";
  out += "  File: " + source_file(type.where) + "\n";
  const auto rows = option_rows(type);
  if (rows.empty()) return out + "\n  It has no options.\n";
  out += "\n";
  for (const OptionRow& row : rows) {
    out += text("  ", row.name, ": ", row.type,
                row.default_value == "required" ? " (required)" : " = " + row.default_value, "\n",
                "      ", wrapped(row.meaning, 6, 110), "\n");
  }
  return out;
}

std::string markdown_of(const AnyRegistry&, const AnyRegistry::TypeInfo& type) {
  std::string out = text("### ", type.name, "\n\n", markdown_escaped(type.summary), "\n");
  if (!type.source.empty()) out += "\nSource: " + markdown_escaped(type.source) + "\n";
  const auto rows = option_rows(type);
  if (rows.empty()) return out + "\nNo options.\n";
  out += "\n| option | type | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const OptionRow& row : rows) {
    out += text("| ", code(row.name), " | ", markdown_escaped(row.type), " | ",
                row.default_value == "required" ? "**required**" : code(row.default_value), " | ",
                markdown_escaped(row.meaning), " |\n");
  }
  return out;
}

std::string markdown_of(const AnyRegistry& registry) {
  std::string out = text("## ", registry.category(), "\n");
  for (const auto& type : registry.types()) out += "\n" + markdown_of(registry, type);
  return out;
}

std::string markdown_of_all() {
  std::string out = "# Types and their options\n";
  for (const AnyRegistry* registry : AnyRegistry::all()) out += "\n" + markdown_of(*registry);
  return out;
}

const AnyRegistry& find_category(const std::string& name) {
  if (const AnyRegistry* registry = registry_called(name)) return *registry;
  const auto names = category_names();
  throw UsageError(text("there is no category '", name, "'.", did_you_mean(name, names),
                        " Known: ", join(names, ", ")));
}

AnyRegistry::TypeInfo find_type(const AnyRegistry& registry, const std::string& name) {
  const std::string unscoped = name.substr(name.rfind('.') + 1);  // npos + 1 is 0
  std::vector<std::string> names;
  for (auto& type : registry.types()) {
    if (type.name == unscoped) return type;
    names.push_back(type.name);
  }
  throw UsageError(text("no ", registry.category(), " is called '", name, "'.",
                        did_you_mean(name, names), " Known: ", join(names, ", ")));
}

std::vector<Listed> find_listed(const std::string& name) {
  if (const AnyRegistry* registry = registry_called(name)) return {{registry, std::nullopt}};
  std::vector<Listed> found;
  std::vector<std::string> names = category_names();
  const std::string unscoped = name.substr(name.rfind('.') + 1);
  for (const AnyRegistry* registry : AnyRegistry::all()) {
    for (auto& type : registry->types()) {
      names.push_back(type.name);
      if (type.name == unscoped) found.push_back({registry, std::move(type)});
    }
  }
  if (found.empty()) {
    throw UsageError(text("no category or type is called '", name, "'.", did_you_mean(name, names),
                          " Categories: ", join(category_names(), ", ")));
  }
  return found;
}

}  // namespace seg
