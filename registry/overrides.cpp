#include "registry/overrides.hpp"

#include <algorithm>
#include <cctype>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "registry/yaml.hpp"
#include "registry/yaml_reader.hpp"
#include "registry/yaml_scalar.hpp"

namespace seg {
namespace {

std::string_view trimmed(std::string_view s, std::string_view what) {
  const size_t begin = s.find_first_not_of(what);
  if (begin == std::string_view::npos) return {};
  return s.substr(begin, s.find_last_not_of(what) - begin + 1);
}

/// Whether every bracket is closed, by one of its kind, in order.
bool brackets_match(std::string_view s) {
  std::string open;
  for (char c : s) {
    if (c == '(' || c == '[') {
      open += c;
    } else if (c == ')' || c == ']') {
      if (open.empty() || open.back() != (c == ')' ? '(' : '[')) return false;
      open.pop_back();
    }
  }
  return open.empty();
}

size_t bracket_depth(std::string_view s) {
  size_t depth = 0, deepest = 0;
  for (char c : s) {
    if (c == '(' || c == '[') deepest = std::max(deepest, ++depth);
    if ((c == ')' || c == ']') && depth > 0) --depth;
  }
  return deepest;
}

/// The position of the first comma outside brackets from `begin`, or the end.
size_t next_comma(std::string_view s, size_t begin) {
  int depth = 0;
  for (size_t i = begin; i < s.size(); ++i) {
    if (s[i] == '(' || s[i] == '[') ++depth;
    if (s[i] == ')' || s[i] == ']') --depth;
    if (s[i] == ',' && depth == 0) return i;
  }
  return s.size();
}

/// Whether the text is one pair of quotes with none of its kind inside: '"a,b"'.
bool one_quote_around(std::string_view s) {
  return s.size() >= 2 && (s.front() == '"' || s.front() == '\'') && s.back() == s.front() &&
         s.substr(1, s.size() - 2).find(s.front()) == std::string_view::npos;
}

/// Whether the bracket that the text begins with is closed by its last character.
bool one_bracket_around(std::string_view s) {
  if (s.size() < 2 ||
      !((s.front() == '(' && s.back() == ')') || (s.front() == '[' && s.back() == ']'))) {
    return false;
  }
  int depth = 0;
  for (size_t i = 0; i + 1 < s.size(); ++i) {
    if (s[i] == '(' || s[i] == '[') ++depth;
    if (s[i] == ')' || s[i] == ']') --depth;
    if (depth == 0) return false;
  }
  return true;
}

std::string lower_case(std::string_view s) {
  std::string out(s);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return out;
}

/// A word as Python's int(), float() and then MMEngine's own rules take it.
Config override_scalar(std::string_view word, const Origin& origin) {
  Config value;
  value.origin = origin;
  const std::string lower = lower_case(word);
  std::string_view unsigned_word = lower;
  if (!lower.empty() && (lower[0] == '+' || lower[0] == '-')) unsigned_word.remove_prefix(1);
  const Config::Kind plain = detail::plain_kind(word);
  const bool other_base = word.starts_with("0x") || word.starts_with("0o");
  if ((plain == Config::Kind::kInt && !other_base) ||
      (plain == Config::Kind::kFloat && word.find_first_of("nN") == std::string_view::npos)) {
    value.kind = plain;
    value.scalar = word;
  } else if (unsigned_word == "inf" || unsigned_word == "infinity") {
    value.kind = Config::Kind::kFloat;
    value.scalar = lower[0] == '-' ? "-.inf" : ".inf";
  } else if (unsigned_word == "nan") {
    value.kind = Config::Kind::kFloat;
    value.scalar = ".nan";
  } else if (lower == "true" || lower == "false") {
    value.kind = Config::Kind::kBool;
    value.scalar = lower;
  } else if (word != "None") {
    value.kind = Config::Kind::kString;
    value.scalar = word;
  }
  return value;
}

/// Whether the text begins with a word and a colon, as in "a: 1" and "'a':1".
bool begins_with_key(std::string_view s) {
  s = trimmed(s, " ");
  const bool quoted = s.starts_with('"') || s.starts_with('\'');
  size_t end = quoted ? 1 : 0;
  const size_t begin = end;
  while (end < s.size() && (std::isalnum(static_cast<unsigned char>(s[end])) || s[end] == '_')) {
    ++end;
  }
  if (end == begin) return false;
  if (quoted && (end == s.size() || s[end++] != s.front())) return false;
  end = s.find_first_not_of(' ', end);
  return end != std::string_view::npos && s[end] == ':';
}

/// Whether the text has a mapping as YAML writes it, "{a: 1}", alone or in a list. Such words as
/// "{{_base_.a}}" and "iter_{iter:06d}.pth" are none.
bool has_flow_mapping(std::string_view s) {
  char before = '[';  // the last one that is no blank; a value begins like an element
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '{' && (before == '[' || before == '(' || before == ',') &&
        begins_with_key(s.substr(i + 1))) {
      return true;
    }
    if (s[i] != ' ') before = s[i];
  }
  return false;
}

Config override_value(std::string_view given, const Origin& origin) {
  const std::string_view word = trimmed(given, " ");
  std::string_view s = trimmed(trimmed(word, "'\""), " ");
  Config out;
  if (word.starts_with('{') && word.ends_with('}') &&
      trimmed(word.substr(1, word.size() - 2), " ").empty()) {
    out.kind = Config::Kind::kMap;
    out.origin = origin;
    return out;
  }
  if (one_bracket_around(s)) {
    out.is_tuple = s.front() == '(';
    s = s.substr(1, s.size() - 2);
  } else if (next_comma(s, 0) == s.size()) {
    return override_scalar(s, origin);
  } else if (one_quote_around(word)) {
    // Without the quotes, commas separate the parts of a list.
    out = Config::of(std::string(s));
    out.origin = origin;
    return out;
  }
  out.kind = Config::Kind::kList;
  out.origin = origin;
  if (trimmed(s, " ").empty()) return out;
  for (size_t begin = 0; begin < s.size();) {
    const size_t end = next_comma(s, begin);
    out.list.push_back(override_value(s.substr(begin, end - begin), origin));
    begin = end + 1;
  }
  return out;
}

/// Puts a value at a dotted key. Gives the error back, "" for none.
std::string put_override(Config& tree, std::string_view key, Config value, const Origin& origin) {
  // Before any mapping is made for it: an empty one would be taken as given.
  if (key.empty() || key.front() == '.' || key.back() == '.' ||
      key.find("..") != std::string_view::npos) {
    return "a part of the key between the dots is empty";
  }
  if (static_cast<size_t>(std::ranges::count(key, '.')) >= detail::kMaxConfigDepth) {
    return "the key has too many parts";
  }
  Config* node = &tree;
  std::string so_far;
  while (true) {
    const size_t dot = key.find('.');
    const std::string part(key.substr(0, dot));
    Config::Item* item = node->find(part);
    if (dot == std::string_view::npos) {
      if (item) {
        item->key_origin = origin;
        item->value = std::move(value);
      } else {
        node->map.push_back({part, origin, std::move(value)});
      }
      return {};
    }
    so_far += (so_far.empty() ? "" : ".") + part;
    if (!item) {
      Config map;
      map.kind = Config::Kind::kMap;
      map.origin = origin;
      node->map.push_back({part, origin, std::move(map)});
      item = &node->map.back();
    } else if (!item->value.is_map()) {
      return seg::text(so_far, " was set to ", dump_flow(item->value), " by ",
                       item->value.origin.text(), " and cannot have '", key.substr(dot + 1), "'");
    }
    node = &item->value;
    key = key.substr(dot + 1);
  }
}

}  // namespace

Config detail::read_overrides(const std::vector<std::string>& overrides, Diagnostics& problems) {
  Config tree;
  tree.kind = Config::Kind::kMap;
  for (size_t i = 0; i < overrides.size(); ++i) {
    const std::string& given = overrides[i];
    Origin origin;
    origin.file = std::make_shared<const std::string>(seg::text("--cfg-options #", i + 1));
    const size_t equals = given.find('=');
    if (equals == std::string::npos) {
      problems.error(origin, "", seg::text("expected KEY=VALUE, got '", given, "'"));
      continue;
    }
    const std::string key = given.substr(0, equals);
    const std::string_view value = std::string_view(given).substr(equals + 1);
    if (!brackets_match(value)) {
      problems.error(origin, key, seg::text("the brackets in ", value, " do not match"));
      continue;
    }
    if (bracket_depth(value) >= kMaxConfigDepth) {
      problems.error(origin, key, "lists are nested too deeply");
      continue;
    }
    if (has_flow_mapping(value)) {
      problems.error(
          origin, key,
          seg::text("a mapping is given key by key, as '", key,
                    ".KEY=VALUE'; only an empty one, {}, is a value of its own: got ", value));
      continue;
    }
    Config read = override_value(value, origin);
    if (read.kind == Config::Kind::kString && (read.scalar == "null" || read.scalar == "~")) {
      problems.warn(origin, key,
                    seg::text("'", read.scalar, "' is taken as a string; write None for no value"));
    }
    if (std::string wrong = put_override(tree, key, std::move(read), origin); !wrong.empty()) {
      problems.error(origin, key, wrong);
    }
  }
  return tree;
}

}  // namespace seg
