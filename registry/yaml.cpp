// load_config: files with their bases, overrides, and what is wrong with variables.
#include "registry/yaml.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "registry/config_loader.hpp"
#include "registry/merge.hpp"
#include "registry/overrides.hpp"
#include "registry/shell_path.hpp"
#include "registry/yaml_reader.hpp"

namespace seg {
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

Config load_tree(const std::string& path, const std::vector<std::string>& overrides,
                 bool keep_deletes, Diagnostics& problems, const BeforeOverrides& before = {}) {
  Diagnostics found;
  std::optional<Config> tree = detail::ConfigLoader(found, keep_deletes).load(path, nullptr);
  Config changes = detail::read_overrides(overrides, found);
  if (tree) {
    if (before && !found.has_errors()) before(*tree, changes, found);
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

Config load_config(const std::string& path, const std::vector<std::string>& overrides,
                   Diagnostics& problems, const BeforeOverrides& before) {
  return load_tree(path, overrides, /*keep_deletes=*/false, problems, before);
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
  const std::string too_late =
      "this changes nothing: files had the variable filled in before. Override the options that it "
      "fills; print_config --explain shows them";
  Diagnostics reported;  // when the overrides were applied
  const Config changed = detail::read_overrides(overrides, reported);
  for (const Config::Item& item : config.map) {
    if (known(item.key) || changed.find(item.key)) continue;
    if (item.too_late) {
      problems.warn(item.key_origin, item.key, too_late);
    } else if (!item.used) {
      problems.warn(item.key_origin, item.key,
                    seg::text("nothing uses this key.", did_you_mean(item.key, known_keys)));
    }
  }
  for (const Config::Item& item : changed.map) {
    if (known(item.key)) continue;
    const Config::Item* variable = config.find(item.key);
    problems.error(item.key_origin, item.key,
                   variable && variable->used
                       ? too_late
                       : seg::text("nothing uses this key.", did_you_mean(item.key, known_keys)));
  }
}

}  // namespace seg
