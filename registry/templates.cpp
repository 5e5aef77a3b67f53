#include "registry/templates.hpp"

#include <cstdlib>
#include <optional>

#include "registry/yaml_reader.hpp"
#include "registry/yaml_scalar.hpp"

namespace seg::detail {
namespace {

namespace fs = std::filesystem;

std::string_view without_spaces(std::string_view s) {
  const size_t begin = s.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return s.substr(begin, s.find_last_not_of(" \t") - begin + 1);
}

/// One `{{...}}` of a text.
struct TemplateMark {
  size_t begin = 0, end = 0;  ///< of the whole, brackets included
  std::string_view inner;     ///< without brackets, spaces and quotes
};

std::optional<TemplateMark> next_template(std::string_view text, size_t from) {
  const size_t begin = text.find("{{", from);
  if (begin == std::string_view::npos) return std::nullopt;
  const size_t end = text.find("}}", begin);
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view inner = without_spaces(text.substr(begin + 2, end - begin - 2));
  if (inner.size() >= 2 && inner.front() == inner.back() &&
      (inner.front() == '\'' || inner.front() == '"')) {
    inner = without_spaces(inner.substr(1, inner.size() - 2));
  }
  return TemplateMark{begin, end + 2, inner};
}

bool refers_to_base(const TemplateMark& mark) { return mark.inner.starts_with("_base_."); }

}  // namespace

void Templates::fill_in_place(Config& node, const std::string& path, const fs::path& file) {
  for (size_t i = 0; i < node.list.size(); ++i) {
    fill_in_place(node.list[i], dotted(path, seg::text(i)), file);
  }
  for (Config::Item& item : node.map) {
    if (item.key.find("{{") != std::string::npos) {
      bool whole = false;
      item.key = filled_text(item.key, item.key_origin, path, file, whole);
    }
    fill_in_place(item.value, dotted(path, item.key), file);
  }
  if (node.kind != Config::Kind::kString || node.scalar.find("{{") == std::string::npos) return;
  bool whole_from_environment = false;
  node.scalar = filled_text(node.scalar, node.origin, path, file, whole_from_environment);
  if (whole_from_environment) {
    node.kind = plain_kind(node.scalar);
    if (node.is_null()) node.scalar.clear();
  }
}

std::string Templates::filled_text(const std::string& text, const Origin& origin,
                                   const std::string& path, const fs::path& file,
                                   bool& whole_from_environment) {
  std::string out;
  size_t done = 0;
  while (const auto mark = next_template(text, done)) {
    out += text.substr(done, mark->begin - done);
    done = mark->end;
    if (refers_to_base(*mark)) {
      out += text.substr(mark->begin, mark->end - mark->begin);
    } else if (mark->inner.starts_with("$")) {
      out += environment_value(mark->inner, origin, path);
      whole_from_environment = mark->begin == 0 && mark->end == text.size();
    } else {
      out += file_value(mark->inner, origin, path, file);
    }
  }
  return out + text.substr(done);
}

std::string Templates::file_value(std::string_view name, const Origin& origin,
                                  const std::string& path, const fs::path& file) {
  const fs::path whole = fs::absolute(file).lexically_normal();
  if (name == "fileDirname") return whole.parent_path().string();
  if (name == "fileBasename") return whole.filename().string();
  if (name == "fileBasenameNoExtension") return whole.stem().string();
  if (name == "fileExtname") return whole.extension().string();
  const std::vector<std::string> known{"_base_.KEY",   "fileDirname",
                                       "fileBasename", "fileBasenameNoExtension",
                                       "fileExtname",  "$NAME:default"};
  problems_.error(origin, path,
                  seg::text("unknown variable {{", name, "}}.", did_you_mean(name, known),
                            " Known: ", join(known, ", ")));
  return {};
}

std::string Templates::environment_value(std::string_view expression, const Origin& origin,
                                         const std::string& path) {
  const size_t colon = expression.find(':');
  const std::string name(without_spaces(expression.substr(1, colon - 1)));
  const std::string_view fallback =
      colon == std::string_view::npos ? "" : without_spaces(expression.substr(colon + 1));
  const char* set = std::getenv(name.c_str());
  if (set && *set) return set;
  if (fallback.empty()) {
    problems_.error(origin, path,
                    seg::text("the environment variable ", name, " is not set, and {{$", name,
                              ":default}} gives no default"));
  }
  return std::string(fallback);
}

void Templates::fill_from_base(Config& node, const std::string& path, Config* bases,
                               bool has_bases) {
  for (size_t i = 0; i < node.list.size(); ++i) {
    fill_from_base(node.list[i], dotted(path, seg::text(i)), bases, has_bases);
  }
  for (Config::Item& item : node.map) {
    fill_from_base(item.value, dotted(path, item.key), bases, has_bases);
  }
  if (node.kind != Config::Kind::kString) return;
  std::string out;
  size_t done = 0;
  while (const auto mark = next_template(node.scalar, done)) {
    if (!refers_to_base(*mark)) {  // came from the environment
      out += node.scalar.substr(done, mark->end - done);
      done = mark->end;
      continue;
    }
    const Config* value = base_value(mark->inner.substr(7), node.origin, path, bases, has_bases);
    if (!value) return;
    if (mark->begin == 0 && mark->end == node.scalar.size()) {
      Config copy = *value;
      values_ += count_values(copy);
      if (values_ > kMaxConfigValues) {
        problems_.error(node.origin, path,
                        seg::text("more than ", kMaxConfigValues,
                                  " values; references within references multiply"));
        return;
      }
      // As it was written: a dump escapes the braces, so that they are not filled in again.
      const char* quote = node.scalar.find('"') == std::string::npos ? "\"" : "'";
      copy.history.push_back({node.origin, quote + node.scalar + quote});
      node = std::move(copy);
      return;
    }
    if (value->is_list() || value->is_map()) {
      problems_.error(
          node.origin, path,
          seg::text("{{", mark->inner, "}} is a ", value->is_list() ? "list" : "mapping",
                    " and cannot be part of a longer string"));
      return;
    }
    out += node.scalar.substr(done, mark->begin - done);
    out += value->is_null() ? "null" : value->scalar;
    done = mark->end;
  }
  if (done > 0) node.scalar = out + node.scalar.substr(done);
}

const Config* Templates::base_value(std::string_view key, const Origin& origin,
                                    const std::string& path, Config* bases, bool has_bases) {
  if (!bases) return nullptr;
  const Config* value = bases->at_path(key);
  if (!value) {
    // The deepest part that exists has the names that could have been meant.
    std::string_view known_part = key;
    const Config* parent = nullptr;
    while (!parent) {
      const size_t dot = known_part.rfind('.');
      if (dot == std::string_view::npos) {
        parent = bases;
        known_part = {};
      } else {
        known_part = known_part.substr(0, dot);
        parent = bases->at_path(known_part);
      }
    }
    std::string_view wrong = key.substr(known_part.empty() ? 0 : known_part.size() + 1);
    wrong = wrong.substr(0, wrong.find('.'));
    std::vector<std::string> names;
    for (const Config::Item& item : parent->map) names.push_back(item.key);
    problems_.error(origin, path,
                    has_bases
                        ? seg::text("the bases have no '", key, "'.", did_you_mean(wrong, names))
                        : seg::text("{{_base_.", key, "}} in a file without '_base_'"));
    return nullptr;
  }
  if (Config::Item* item = bases->find(key.substr(0, key.find('.')))) {
    item->used = item->referred = true;
  }
  return value;
}

}  // namespace seg::detail
