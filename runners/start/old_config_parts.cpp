#include "runners/start/old_config_parts.hpp"

#include <algorithm>

#include "registry/merge.hpp"
#include "registry/yaml_scalar.hpp"

namespace seg {

void OldNotes::add(const Origin& where, const std::string& old_path, const std::string& now,
                   const std::string& what) {
  // val and test mostly share a pipeline, which needs no second warning.
  const bool said = std::any_of(
      problems_.list().begin(), problems_.list().end(),
      [&](const Diagnostic& d) { return d.where.text() == where.text() && d.message == what; });
  if (!said) problems_.warn(where, old_path, what);
  std::string comment = what;
  if (now.empty()) comment = text(old_path, " (", where.text(), ") ", what);
  std::vector<std::string>& there = comments_[now];
  if (std::find(there.begin(), there.end(), comment) == there.end()) there.push_back(comment);
}

void OldNotes::left_out(const Origin& where, const std::string& old_path, const std::string& why) {
  add(where, old_path, "", "is left out: " + why);
}

void OldNotes::error(const Origin& where, const std::string& old_path, const std::string& what) {
  problems_.error(where, old_path, what);
}

OldOptions::OldOptions(const Config* map, std::string path) : path_(std::move(path)) {
  if (!map) return;
  origin_ = map->origin;
  for (const Config::Item& item : map->map) rest_.push_back(&item);
}

const Config* OldOptions::take(std::string_view key) {
  const auto found = std::find_if(rest_.begin(), rest_.end(),
                                  [&](const Config::Item* item) { return item->key == key; });
  if (found == rest_.end()) return nullptr;
  const Config* value = &(*found)->value;
  rest_.erase(found);
  return value->is_null() ? nullptr : value;
}

std::string OldOptions::take_text(std::string_view key) {
  const Config* value = take(key);
  return value ? value->scalar : "";
}

void OldOptions::ignore(std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) take(key);
}

void OldOptions::move_rest(Config& to) {
  for (const Config::Item* item : rest_) {
    to.set(item->key, item->value);
    to.find(item->key)->key_origin = item->key_origin;
  }
  rest_.clear();
}

void OldOptions::leave_out_rest(OldNotes& notes, const std::string& why) {
  for (const Config::Item* item : rest_) {
    if (!item->value.is_null()) notes.left_out(item->key_origin, path(item->key), why);
  }
  rest_.clear();
}

std::string OldOptions::path(std::string_view key) const {
  return key.empty() ? path_ : dotted(path_, key);
}

bool OldOptions::has(std::string_view key) const {
  return std::any_of(rest_.begin(), rest_.end(), [&](const Config::Item* item) {
    return item->key == key && !item->value.is_null();
  });
}

Config placed_map(const Origin& origin) {
  Config out;
  out.kind = Config::Kind::kMap;
  out.origin = origin;
  return out;
}

Config placed_list(const Origin& origin, std::vector<Config> elements) {
  Config out;
  out.kind = Config::Kind::kList;
  out.origin = origin;
  out.list = std::move(elements);
  return out;
}

Config typed_map(const char* type, const Origin& origin) {
  Config out = placed_map(origin);
  out.set("type", placed(type, origin));
  return out;
}

const Config* old_value(const Config& map, std::string_view key) {
  const Config::Item* item = map.find(key);
  return item && !item->value.is_null() ? &item->value : nullptr;
}

std::string old_type(const Config& part) { return detail::type_of_element(part); }

std::optional<double> old_number(const Config* value) {
  if (!value || (value->kind != Config::Kind::kInt && value->kind != Config::Kind::kFloat)) {
    return std::nullopt;
  }
  return detail::float_value(value->scalar);
}

bool old_true(const Config* value) {
  return value && value->kind == Config::Kind::kBool &&
         (value->scalar[0] == 't' || value->scalar[0] == 'T');
}

std::vector<const Config*> one_or_more(const Config* value) {
  std::vector<const Config*> out;
  if (!value) return out;
  if (!value->is_list()) return {value};
  for (const Config& element : value->list) out.push_back(&element);
  return out;
}

}  // namespace seg
