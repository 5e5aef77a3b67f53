#include "registry/config.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "registry/merge.hpp"

namespace seg {

std::string Origin::text() const {
  if (!file) return "<unknown>";
  if (line == 0) return *file;
  return seg::text(*file, ':', line, ':', column);
}

const Config::Item* Config::find(std::string_view key) const {
  for (const Item& item : map) {
    if (item.key == key) return &item;
  }
  return nullptr;
}

Config::Item* Config::find(std::string_view key) {
  return const_cast<Item*>(std::as_const(*this).find(key));
}

namespace {

/// Null where no element has the type, or several have.
const Config* only_element_of_type(const Config& list, std::string_view type) {
  const Config* found = nullptr;
  for (const Config& element : list.list) {
    if (detail::type_of_element(element) != type) continue;
    if (found) return nullptr;
    found = &element;
  }
  return found;
}

}  // namespace

const Config* Config::at_path(std::string_view dotted) const {
  const Config* node = this;
  while (!dotted.empty()) {
    // A key may have dots in it ("backbone.block1" of custom_keys).
    if (const Item* whole = node->find(dotted)) return &whole->value;
    const size_t dot = dotted.find('.');
    const std::string_view part = dotted.substr(0, dot);
    dotted = dot == std::string_view::npos ? std::string_view() : dotted.substr(dot + 1);
    if (node->is_list()) {
      size_t index = 0;
      const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), index);
      if (failure != std::errc{} || end != part.data() + part.size()) {
        node = only_element_of_type(*node, part);
        if (!node) return nullptr;
        continue;
      }
      if (index >= node->list.size()) return nullptr;
      node = &node->list[index];
    } else {
      const Item* item = node->find(part);
      if (!item) return nullptr;
      node = &item->value;
    }
  }
  return node;
}

Config& Config::set(std::string_view key, Config value) {
  if (is_null()) kind = Kind::kMap;
  SEG_CHECK(is_map(), "set() on a value that is not a mapping");
  if (Item* item = find(key)) {
    item->value = std::move(value);
    return item->value;
  }
  Origin where = value.origin;
  map.push_back({std::string(key), std::move(where), std::move(value)});
  return map.back().value;
}

namespace {
Config scalar_config(Config::Kind kind, std::string shown) {
  Config c;
  c.kind = kind;
  c.scalar = std::move(shown);
  return c;
}
}  // namespace

Config Config::null() { return {}; }
Config Config::of(bool value) { return scalar_config(Kind::kBool, value ? "true" : "false"); }
Config Config::of(int64_t value) { return scalar_config(Kind::kInt, seg::text(value)); }
Config Config::of(double value) {
  if (std::isnan(value)) return scalar_config(Kind::kFloat, ".nan");
  if (std::isinf(value)) return scalar_config(Kind::kFloat, value > 0 ? ".inf" : "-.inf");
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  std::string shown(buffer, end);
  if (shown.find_first_of(".e") == std::string::npos) shown += ".0";  // stays a float when read
  return scalar_config(Kind::kFloat, std::move(shown));
}
Config Config::of(std::string value) { return scalar_config(Kind::kString, std::move(value)); }
Config Config::of(const char* value) { return of(std::string(value)); }

std::string dotted(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : seg::text(path, ".", key);
}

void Diagnostics::error(Origin where, std::string path, std::string message) {
  list_.push_back({std::move(where), std::move(path), std::move(message), false});
  ++errors_;
}

void Diagnostics::warn(Origin where, std::string path, std::string message) {
  list_.push_back({std::move(where), std::move(path), std::move(message), true});
}

void Diagnostics::add(const Diagnostics& other) {
  list_.insert(list_.end(), other.list_.begin(), other.list_.end());
  errors_ += other.errors_;
}

void OptionError::add_besides(const Diagnostics& found) {
  auto all = besides_ ? std::make_shared<Diagnostics>(*besides_) : std::make_shared<Diagnostics>();
  all->add(found);
  besides_ = std::move(all);
}

namespace {
std::string line_of(const Diagnostic& d, const char* severity) {
  return seg::text(d.where.text(), ": ", severity, d.path, d.path.empty() ? "" : ": ", d.message);
}
}  // namespace

std::string Diagnostics::text() const {
  std::string out;
  for (const Diagnostic& d : list_) {
    if (!d.warning) out += line_of(d, "error: ") + "\n";
  }
  return out + seg::text(errors_, errors_ == 1 ? " error" : " errors", " in the configuration");
}

std::string Diagnostics::warnings_text() const {
  std::vector<std::string> lines;
  for (const Diagnostic& d : list_) {
    if (d.warning) lines.push_back(line_of(d, "warning: "));
  }
  return join(lines, "\n");
}

std::vector<std::string> Diagnostics::warning_lines() const {
  std::vector<std::string> out;
  for (const Diagnostic& d : list_) {
    if (d.warning) out.push_back(line_of(d, ""));
  }
  return out;
}

}  // namespace seg
