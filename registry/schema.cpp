#include "registry/schema.hpp"

#include <algorithm>

namespace seg {

void detail::describe_scalars(TypeDoc& doc, const std::function<void(TypeDoc&)>& add) {
  if (doc.items.empty()) {
    if (doc.kind != TypeDoc::Kind::kNull) add(doc);
  } else {
    for (TypeDoc& item : doc.items) describe_scalars(item, add);
  }
}

namespace {
const Origin& option_origin(const Config& component, std::string_view option) {
  const Config* value = option.empty() ? nullptr : component.at_path(option);
  return value ? value->origin : component.origin;
}

std::string option_path(const std::string& component, std::string_view option) {
  return text(component, component.empty() || option.empty() ? "" : ".", option);
}
}  // namespace

void Problems::error(std::string_view option, const std::string& message) {
  found_.error(option_origin(config_, option), option_path(path_, option), message);
}

void Problems::warn(std::string_view option, const std::string& message) {
  found_.warn(option_origin(config_, option), option_path(path_, option), message);
}

std::vector<OptionDoc> SchemaBase::docs() const {
  std::vector<OptionDoc> out;
  for (const Field& f : fields_) out.push_back(f.doc);
  return out;
}

void SchemaBase::add_field(Field field) {
  // A derived type may declare an option of its base again, with another meaning or default.
  auto same = std::find_if(fields_.begin(), fields_.end(),
                           [&](const Field& f) { return f.doc.name == field.doc.name; });
  if (same != fields_.end()) {
    *same = std::move(field);
  } else {
    fields_.push_back(std::move(field));
  }
}

namespace {

/// What to do about an option that a base gives to another type than the one chosen over it.
std::string delete_hint(const Config& c, const Config::Item& unknown) {
  const Config::Item* type = c.find("type");
  const auto& file = unknown.key_origin.file;
  if (!type || !file || !unknown.key_origin.line || !type->value.origin.line) return "";
  const auto& history = type->value.history;
  const bool inherited = std::any_of(history.begin(), history.end(), [&](const auto& earlier) {
    return earlier.shown != type->value.scalar && earlier.origin.file &&
           *earlier.origin.file == *file;
  });
  const bool same_file = type->value.origin.file && *type->value.origin.file == *file;
  if (!inherited || same_file) return "";
  return text(" Write '_delete_: true' beside the type (", type->value.origin.text(),
              ") to drop the options of ", *file, ".");
}

}  // namespace

void SchemaBase::parse_into(void* target, const Config& c, const std::string& path,
                            std::string_view type, Diagnostics& problems) const {
  const size_t before = problems.error_count();
  const std::string prefix = path.empty() ? "" : path + ".";
  bool hinted = false;  // all such options have the same cure
  for (const Config::Item& item : c.map) {
    if (item.key == "_scope_" || (item.key == "type" && !type.empty())) continue;
    const auto field = std::find_if(fields_.begin(), fields_.end(),
                                    [&](const Field& f) { return f.doc.name == item.key; });
    if (field != fields_.end()) {
      field->read(target, item.value, prefix + item.key, problems);
      continue;
    }
    const std::string hint = hinted ? "" : delete_hint(c, item);
    hinted |= !hint.empty();
    std::vector<std::string> names;
    for (const Field& f : fields_) names.push_back(f.doc.name);
    problems.error(
        item.key_origin, path,
        text(type.empty() ? "there is" : type, type.empty() ? " no option '" : " has no option '",
             item.key, "'.", did_you_mean(item.key, names), hint,
             names.empty() ? " It has none." : " Known: ", join(names, ", ")));
  }
  for (const Field& f : fields_) {
    if (f.doc.required && !c.find(f.doc.name)) {
      problems.error(c.origin, path,
                     text(type.empty() ? (path.empty() ? "the configuration" : "this") : type,
                          " needs '", f.doc.name, "' (", f.doc.type.name, "): ", f.doc.meaning));
    }
  }
  if (problems.error_count() != before) return;
  Problems located(c, path, problems);
  for (const auto& validate : validators_) validate(target, located);
}

}  // namespace seg
