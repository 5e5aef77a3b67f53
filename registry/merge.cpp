#include "registry/merge.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "registry/convert.hpp"
#include "registry/yaml.hpp"

namespace seg {
namespace {

/// Removes `_delete_` from a mapping. \return whether it was true.
bool take_delete(Config& map, const std::string& path, Diagnostics& problems) {
  const auto item = std::find_if(map.map.begin(), map.map.end(),
                                 [](const Config::Item& i) { return i.key == detail::kDeleteKey; });
  if (item == map.map.end()) return false;
  const Config value = std::move(item->value);
  map.map.erase(item);
  if (value.kind == Config::Kind::kBool) return value.scalar[0] == 't' || value.scalar[0] == 'T';
  detail::wrong_type(value, path + "." + detail::kDeleteKey, "true or false", problems);
  return false;
}

void remember_replaced(const Config& old, Config& fresh) {
  std::vector<Config::Replaced> history = old.history;
  history.push_back({old.origin, dump_flow(old)});
  history.insert(history.end(), fresh.history.begin(), fresh.history.end());
  fresh.history = std::move(history);
}

std::string kind_in_words(const Config& c) {
  if (c.is_list()) return "a list";
  if (c.is_null()) return "null";
  return seg::text("the value ", dump_flow(c));
}

void merge_value(Config& old, Config fresh, const std::string& path, bool index_lists,
                 Diagnostics& problems);

bool is_number(const std::string& key) {
  return !key.empty() && key.find_first_not_of("0123456789") == std::string::npos;
}

/// The types of the elements, each once, in order.
std::vector<std::string> types_of_elements(const Config& list) {
  std::vector<std::string> out;
  for (const Config& element : list.list) {
    const std::string type = detail::type_of_element(element);
    if (!type.empty() && std::ranges::find(out, type) == out.end()) out.push_back(type);
  }
  return out;
}

/// {0: ..., RandomCrop: ...}: elements of a list, by index or by type.
bool names_elements(const Config& map, const Config& list) {
  const auto types = types_of_elements(list);
  return std::ranges::any_of(map.map, [&](const Config::Item& item) {
    return is_number(item.key) || std::ranges::find(types, item.key) != types.end();
  });
}

/// ". Did you mean 'RandomCrop'?", or "".
std::string dot_and_nearest(const std::string& key, const std::vector<std::string>& types) {
  const std::string nearest = did_you_mean(key, types);
  return nearest.empty() ? "" : "." + nearest;
}

/// For a mapping whose keys name none of the typed elements of a list; else "".
std::string no_such_element(const Config& map, const Config& list) {
  const auto types = types_of_elements(list);
  // With a type it is a new element that lacks its brackets.
  if (map.map.empty() || map.find("type") || types.empty()) return "";
  const std::string& key = map.map.front().key;
  const std::string nearest = did_you_mean(key, types);
  return seg::text("None of its elements is a '", key, "'.", nearest,
                   " A mapping changes elements by their index or type (", join(types, ", "),
                   "). ");
}

/// The element of a list that a key names by index or by type. \return null after reporting that
/// there is none, or that there are several.
Config* element_of(Config& list, const Config::Item& item, const std::string& path,
                   Diagnostics& problems) {
  const std::string here = dotted(path, item.key);
  if (is_number(item.key)) {
    size_t index = 0;
    const char* end = item.key.data() + item.key.size();
    const auto [last, failure] = std::from_chars(item.key.data(), end, index);
    if (failure == std::errc{} && last == end && index < list.list.size()) {
      return &list.list[index];
    }
    problems.error(
        item.key_origin, here,
        seg::text("index ", item.key, " is beyond the end of the list ", path, ", which has ",
                  list.list.size(), list.list.size() == 1 ? " element" : " elements"));
    return nullptr;
  }
  Config* found = nullptr;
  std::vector<std::string> places;
  for (size_t i = 0; i < list.list.size(); ++i) {
    if (detail::type_of_element(list.list[i]) != item.key) continue;
    found = &list.list[i];
    places.push_back(std::to_string(i));
  }
  if (places.size() == 1) return found;
  if (places.size() > 1) {
    problems.error(item.key_origin, here,
                   seg::text(path, " has several elements of the type ", item.key,
                             "; use the index of one: ", join(places, ", ")));
    return nullptr;
  }
  const auto types = types_of_elements(list);
  problems.error(
      item.key_origin, here,
      seg::text(path, " is a list; use the index of an element, from 0",
                list.list.empty() ? "" : seg::text(" to ", list.list.size() - 1),
                types.empty() ? "" : seg::text(", or its type (", join(types, ", "), ")"),
                ", instead of '", item.key, "'", dot_and_nearest(item.key, types)));
  return nullptr;
}

void merge_into_list(Config& old, Config fresh, const std::string& path, Diagnostics& problems) {
  for (Config::Item& item : fresh.map) {
    if (Config* element = element_of(old, item, path, problems)) {
      merge_value(*element, std::move(item.value), dotted(path, item.key),
                  /*index_lists=*/true, problems);
    }
  }
}

void merge_maps(Config& base, Config child, const std::string& path, bool index_lists,
                Diagnostics& problems) {
  for (Config::Item& item : child.map) {
    Config::Item* old = base.find(item.key);
    if (!old) {
      base.map.push_back(std::move(item));
      continue;
    }
    if (!(item.value.is_map() && old->value.is_map())) old->key_origin = item.key_origin;
    if (old->used && dump_flow(old->value) != dump_flow(item.value)) old->too_late = !item.used;
    old->used = old->used || item.used;
    old->referred = old->referred || item.referred;
    merge_value(old->value, std::move(item.value), dotted(path, item.key), index_lists, problems);
  }
}

void merge_value(Config& old, Config fresh, const std::string& path, bool index_lists,
                 Diagnostics& problems) {
  if (fresh.is_map() && !take_delete(fresh, path, problems)) {
    const bool indexes = index_lists && !fresh.map.empty();
    if (old.is_list() && (indexes || names_elements(fresh, old))) {
      merge_into_list(old, std::move(fresh), path, problems);
      return;
    }
    if (!old.is_map()) {
      problems.error(
          fresh.origin, path,
          seg::text("cannot merge a mapping into ", kind_in_words(old), " (", old.origin.text(),
                    "). ", no_such_element(fresh, old), "Add '_delete_: true' to replace it"));
      return;
    }
    if (index_lists && fresh.map.empty() && !old.map.empty()) {
      problems.warn(fresh.origin, path,
                    "an empty mapping over one with keys changes nothing; '_delete_: true' in it "
                    "empties that");
    }
    // Where a component is complained about as a whole, its type is what people look for.
    if (fresh.find("type")) old.origin = fresh.origin;
    merge_maps(old, std::move(fresh), path, index_lists, problems);
    return;
  }
  remember_replaced(old, fresh);
  old = std::move(fresh);
}

}  // namespace

std::string detail::type_of_element(const Config& element) {
  const Config::Item* type = element.find("type");
  if (!type || !type->value.is_scalar()) return "";
  const std::string& name = type->value.scalar;
  return name.substr(name.rfind('.') + 1);  // npos + 1 is 0
}

void detail::merge_into(Config& base, Config child, bool index_lists, Diagnostics& problems) {
  merge_maps(base, std::move(child), "", index_lists, problems);
}

void detail::strip_delete(Config& tree) {
  std::erase_if(tree.map, [](const Config::Item& item) { return item.key == kDeleteKey; });
  for (Config::Item& item : tree.map) strip_delete(item.value);
  for (Config& element : tree.list) strip_delete(element);
}

}  // namespace seg
