// load_config: files with their bases, substitution, and overrides.
#include "registry/yaml.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "registry/convert.hpp"
#include "registry/merge.hpp"
#include "registry/overrides.hpp"
#include "registry/shell_path.hpp"
#include "registry/yaml_reader.hpp"
#include "registry/yaml_scalar.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxConfigBytes = 16 << 20;
constexpr size_t kMaxBaseDepth = 50;

std::string_view without_spaces(std::string_view s) {
  const size_t begin = s.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return s.substr(begin, s.find_last_not_of(" \t") - begin + 1);
}

/// The path as people would write it, without "a/../"; as it is where a link makes that another
/// file.
std::string shown_path(const fs::path& path) {
  std::error_code ignored;
  const fs::path normal = path.lexically_normal();
  return fs::weakly_canonical(path, ignored) == fs::weakly_canonical(normal, ignored)
             ? normal.string()
             : path.string();
}

std::string dotted(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : seg::text(path, ".", key);
}

/// " Did you mean 'x'?" for a missing file.
std::string nearest_file(const fs::path& path) {
  std::error_code failure;
  std::vector<std::string> names;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, failure)) {
    return seg::text(" The folder ", shown_path(folder), " does not exist.");
  }
  for (fs::directory_iterator it(folder, failure), end; !failure && it != end;
       it.increment(failure)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return did_you_mean(path.filename().string(), names);
}

/// The text of a file, or what is wrong with it in `wrong`.
std::string config_file_text(const fs::path& path, std::string& wrong) {
  std::error_code failure;
  const auto status = fs::status(path, failure);
  if (!fs::exists(status)) {
    wrong = "there is no such file." + nearest_file(path);
    return {};
  }
  if (fs::is_directory(status)) {
    wrong = "this is a folder, not a configuration file";
    return {};
  }
  if (fs::is_regular_file(status) && fs::file_size(path, failure) > kMaxConfigBytes) {
    wrong = "larger than 16 MiB; this is not a configuration file";
    return {};
  }
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(in.peek() == std::ifstream::traits_type::eof() || text << in.rdbuf())) {
    wrong = "the file cannot be read";
    return {};
  }
  return text.str();
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

class ConfigLoader {
 public:
  /// \param keep_deletes  `_delete_` keys that had nothing to delete stay.
  explicit ConfigLoader(Diagnostics& problems, bool keep_deletes = false)
      : problems_(problems), keep_deletes_(keep_deletes) {}

  /// The tree of a file with its bases; nothing where it could not be read.
  /// \param from  where the file is asked for; nothing for the first file.
  std::optional<Config> load(const fs::path& path, const Config* from) {
    const std::string shown = shown_path(path);
    std::error_code ignored;
    const std::string identity = fs::weakly_canonical(path, ignored).string();
    if (const auto cycle = std::find(open_.begin(), open_.end(), identity); cycle != open_.end()) {
      std::vector<std::string> chain(open_shown_.begin() + (cycle - open_.begin()),
                                     open_shown_.end());
      chain.push_back(shown);
      problems_.error(from->origin, detail::kBaseKey, "circular _base_: " + join(chain, " -> "));
      return std::nullopt;
    }
    if (open_.size() >= kMaxBaseDepth) {
      problems_.error(from->origin, detail::kBaseKey,
                      seg::text("more than ", kMaxBaseDepth, " files in a chain of _base_"));
      return std::nullopt;
    }
    if (const auto done = done_.find(identity); done != done_.end()) return done->second;
    open_.push_back(identity);
    open_shown_.push_back(shown);
    std::optional<Config> tree = load_new(path, shown, from);
    open_.pop_back();
    open_shown_.pop_back();
    done_.emplace(identity, tree);
    return tree;
  }

 private:
  std::optional<Config> load_new(const fs::path& path, const std::string& shown,
                                 const Config* from) {
    Origin here;
    here.file = std::make_shared<const std::string>(shown);
    std::string wrong;
    if (path.extension() == ".py") {
      wrong =
          "Python configurations are not supported; convert it to YAML with mmengine: "
          "Config.fromfile('x.py').dump('x.yaml')";
    }
    const std::string text = wrong.empty() ? config_file_text(path, wrong) : std::string();
    if (!wrong.empty()) {
      if (from) {
        problems_.error(from->origin, detail::kBaseKey, seg::text(shown, ": ", wrong));
      } else {
        problems_.error(here, "", wrong);
      }
      return std::nullopt;
    }
    const size_t before = problems_.error_count();
    Config child = detail::read_yaml(text, shown, /*templates=*/true, problems_);
    if (child.is_null() && problems_.error_count() != before) return std::nullopt;
    if (child.is_null()) {  // an empty file, or comments alone
      child.kind = Config::Kind::kMap;
      child.origin = here;
    }
    if (!child.is_map()) {
      problems_.error(child.origin, "", "the file must hold a mapping (key: value)");
      return std::nullopt;
    }
    fill_in_place(child, "", path);
    std::optional<Config> bases = load_bases(child, path);
    const bool has_bases = child.find(detail::kBaseKey) != nullptr;
    std::erase_if(child.map, [](const auto& item) { return item.key == detail::kBaseKey; });
    if (has_bases) {
      fill_from_base(child, "", bases ? &*bases : nullptr);
    } else {
      Config nothing;
      nothing.kind = Config::Kind::kMap;
      fill_from_base(child, "", &nothing, /*has_bases=*/false);
      if (child.find("default_scope") && child.find("model")) {
        // A whole config that MMEngine dumped keeps the variables that its file was written with.
        for (Config::Item& item : child.map) item.used = true;
      }
    }
    if (const Config::Item* item = child.find(detail::kDeleteKey)) {
      problems_.error(item->key_origin, detail::kDeleteKey,
                      "there is nothing to delete at the top level; leave out '_base_'");
    }
    Config tree = bases ? std::move(*bases) : Config();
    tree.kind = Config::Kind::kMap;
    tree.origin = child.origin;
    detail::merge_into(tree, std::move(child), /*index_lists=*/false, problems_);
    if (!keep_deletes_) detail::strip_delete(tree);
    if (detail::depth_of(tree) > detail::kMaxConfigDepth) {
      problems_.error(here, "", "lists and mappings are nested too deeply");
      return std::nullopt;
    }
    return tree;
  }

  /// The bases of a file side by side; nothing where one could not be read.
  std::optional<Config> load_bases(const Config& child, const fs::path& path) {
    Config all;
    all.kind = Config::Kind::kMap;
    const Config::Item* item = child.find(detail::kBaseKey);
    if (!item) return all;
    std::vector<const Config*> names;
    if (item->value.is_list()) {
      for (const Config& name : item->value.list) names.push_back(&name);
    } else {
      names.push_back(&item->value);
    }
    bool good = true;
    std::vector<fs::path> seen;
    for (const Config* name : names) {
      if (name->kind != Config::Kind::kString) {
        detail::wrong_type(*name, detail::kBaseKey, "the path of a file, or a list of paths",
                           problems_);
        good = false;
        continue;
      }
      if (name->scalar.find("::") != std::string::npos) {
        problems_.error(name->origin, detail::kBaseKey,
                        seg::text("configs of installed packages ('", name->scalar,
                                  "') are not supported; give the path of a file"));
        good = false;
        continue;
      }
      const fs::path base_path = path.parent_path() / name->scalar;
      std::error_code ignored;
      const fs::path identity = fs::weakly_canonical(base_path, ignored);
      if (std::find(seen.begin(), seen.end(), identity) != seen.end()) {
        problems_.error(name->origin, detail::kBaseKey,
                        seg::text(shown_path(base_path), " is listed twice"));
        continue;
      }
      seen.push_back(identity);
      std::optional<Config> base = load(base_path, name);
      if (!base) {
        good = false;
        continue;
      }
      for (Config::Item& fresh : base->map) {
        if (const Config::Item* other = all.find(fresh.key)) {
          problems_.error(name->origin, fresh.key,
                          seg::text("two bases define this key: ", other->key_origin.text(),
                                    " and ", fresh.key_origin.text()));
        } else {
          all.map.push_back(std::move(fresh));
        }
      }
    }
    if (!good) return std::nullopt;
    return all;
  }

  /// Replaces the names of the file and of the environment.
  void fill_in_place(Config& node, const std::string& path, const fs::path& file) {
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
      node.kind = detail::plain_kind(node.scalar);
      if (node.is_null()) node.scalar.clear();
    }
  }

  std::string filled_text(const std::string& text, const Origin& origin, const std::string& path,
                          const fs::path& file, bool& whole_from_environment) {
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

  std::string file_value(std::string_view name, const Origin& origin, const std::string& path,
                         const fs::path& file) {
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

  /// "$NAME:default".
  std::string environment_value(std::string_view expression, const Origin& origin,
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

  /// Replaces `{{_base_.key}}`. Without `bases` they could not be read, which was reported.
  void fill_from_base(Config& node, const std::string& path, Config* bases, bool has_bases = true) {
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
        values_ += detail::count_values(copy);
        if (values_ > detail::kMaxConfigValues) {
          problems_.error(node.origin, path,
                          seg::text("more than ", detail::kMaxConfigValues,
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

  const Config* base_value(std::string_view key, const Origin& origin, const std::string& path,
                           Config* bases, bool has_bases) {
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

  Diagnostics& problems_;
  bool keep_deletes_;
  std::vector<std::string> open_, open_shown_;  ///< the chain of files that are being read
  std::map<std::string, std::optional<Config>> done_;
  size_t values_ = 0;
};

}  // namespace

namespace {

/// Values that a shell would have expanded, had it read them.
void expand_shell_paths(Config& node, const std::string& path, Diagnostics& problems) {
  for (Config::Item& item : node.map) {
    expand_shell_paths(item.value, dotted(path, item.key), problems);
  }
  for (size_t i = 0; i < node.list.size(); ++i) {
    expand_shell_paths(node.list[i], dotted(path, std::to_string(i)), problems);
  }
  if (node.kind != Config::Kind::kString) return;
  if (auto expanded = expand_shell_path(node.scalar)) {
    node.scalar = std::move(*expanded);
  } else {
    problems.error(node.origin, path,
                   seg::text("'", node.scalar, "' needs the variable ", shell_variable(node.scalar),
                             ", which is not set"));
  }
}

}  // namespace

namespace {
Config load_tree(const std::string& path, const std::vector<std::string>& overrides,
                 bool keep_deletes, Diagnostics& problems) {
  Diagnostics found;
  std::optional<Config> tree = ConfigLoader(found, keep_deletes).load(path, nullptr);
  Config changes = detail::read_overrides(overrides, found);
  if (tree) {
    detail::merge_into(*tree, std::move(changes), /*index_lists=*/true, found);
    if (!keep_deletes) detail::strip_delete(*tree);
    expand_shell_paths(*tree, "", found);
  }
  if (found.has_errors()) throw ConfigError(std::move(found));
  problems.add(found);
  return std::move(*tree);
}
}  // namespace

Config load_config(const std::string& path, const std::vector<std::string>& overrides,
                   Diagnostics& problems) {
  return load_tree(path, overrides, /*keep_deletes=*/false, problems);
}

Config detail::load_changes(const std::string& path, const std::vector<std::string>& overrides,
                            Diagnostics& problems) {
  return load_tree(path, overrides, /*keep_deletes=*/true, problems);
}

Config load_config(const std::string& path, const std::vector<std::string>& overrides) {
  Diagnostics ignored;
  return load_config(path, overrides, ignored);
}

Config parse_config(const std::string& text, const std::string& name) {
  Diagnostics problems;
  Config tree = detail::read_yaml(text, name, /*templates=*/false, problems);
  if (problems.has_errors()) throw ConfigError(std::move(problems));
  return tree;
}

void check_variables(const Config& config, const std::vector<std::string>& overrides,
                     const std::vector<std::string>& known_keys, Diagnostics& problems) {
  const auto known = [&](const std::string& key) {
    return std::find(known_keys.begin(), known_keys.end(), key) != known_keys.end();
  };
  Diagnostics reported;  // when the overrides were applied
  const Config changed = detail::read_overrides(overrides, reported);
  for (const Config::Item& item : config.map) {
    if (item.used || known(item.key) || changed.find(item.key)) continue;
    problems.warn(item.key_origin, item.key,
                  seg::text("nothing uses this key.", did_you_mean(item.key, known_keys)));
  }
  for (const Config::Item& item : changed.map) {
    if (known(item.key)) continue;
    const Config::Item* variable = config.find(item.key);
    problems.error(item.key_origin, item.key,
                   variable && variable->used
                       ? "this changes nothing: files had the variable filled in before. Override "
                         "the options that it fills; print_config --explain shows them"
                       : seg::text("nothing uses this key.", did_you_mean(item.key, known_keys)));
  }
}

}  // namespace seg
