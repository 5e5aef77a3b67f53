/// Prints a configuration as it is after bases, substitution and overrides.
#include <algorithm>
#include <iostream>

#include "registry/python_json.hpp"
#include "registry/yaml.hpp"
#include "runners/start/old_config.hpp"
#include "runners/start/parts.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/io/sha256.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

struct PrintConfigArguments {
  std::string config, explain;
  std::vector<std::string> overrides;
  bool check = false, origins = false, python_tuples = false, digest = false;
};

/// Paths of all values below `config`, for the nearest name.
void collect_paths(const seg::Config& config, const std::string& path,
                   std::vector<std::string>& paths) {
  if (!path.empty()) paths.push_back(path);
  const std::string prefix = path.empty() ? "" : path + ".";
  for (const auto& item : config.map) collect_paths(item.value, prefix + item.key, paths);
  for (size_t i = 0; i < config.list.size(); ++i) {
    collect_paths(config.list[i], seg::text(prefix, i), paths);
  }
}

void add_source(const seg::Origin& origin, std::vector<std::string>& sources) {
  if (!origin.file) return;
  if (std::find(sources.begin(), sources.end(), *origin.file) == sources.end()) {
    sources.push_back(*origin.file);
  }
}

/// Adds the files and overrides that the parts of a value come from, oldest first.
void collect_sources(const seg::Config& config, std::vector<std::string>& sources) {
  const auto add_part = [&](const seg::Config& part) {
    for (const auto& old : part.history) add_source(old.origin, sources);
    add_source(part.origin, sources);
    collect_sources(part, sources);
  };
  for (const auto& element : config.list) add_part(element);
  for (const auto& item : config.map) {
    add_part(item.value);
    add_source(item.key_origin, sources);
  }
}

/// The values that a key had, from the first to the last, and where each was written.
std::string explained(const seg::Config& tree, const std::string& key) {
  const seg::Config* value = tree.at_path(key);
  if (!value) {
    std::vector<std::string> paths;
    collect_paths(tree, "", paths);
    throw seg::UsageError(
        seg::text("the configuration has no '", key, "'.", seg::did_you_mean(key, paths)));
  }
  std::string out = key + "\n";
  for (const auto& old : value->history) {
    out += seg::text("  ", old.origin.text(), ": ", old.shown, "\n");
  }
  std::vector<std::string> sources;
  add_source(value->origin, sources);
  sources.resize(1);
  collect_sources(*value, sources);
  sources[0] = value->origin.text();
  out += seg::text("  ", seg::join(sources, ", "), ": ", seg::dump_flow(*value), "\n");
  // A mapping is put together key by key, so the origins of its parts are printed too.
  if (value->is_map() || value->is_list()) {
    std::vector<std::string> paths;
    collect_paths(*value, key, paths);
    for (const std::string& path : paths) {
      const seg::Config* part = tree.at_path(path);
      if (!part || path == key || !part->map.empty() || !part->list.empty()) continue;
      std::vector<std::string> chain;
      for (const auto& old : part->history) {
        chain.push_back(seg::text(old.shown, " (", old.origin.text(), ")"));
      }
      chain.push_back(seg::text(seg::dump_flow(*part), " (", part->origin.text(), ")"));
      out += seg::text("  ", path, ": ", seg::join(chain, " -> "), "\n");
    }
  }
  return out;
}

/// The first 16 hex digits of the SHA-256 of what json.dumps writes of the tree with sorted keys.
std::string config_digest(const seg::Config& tree) {
  constexpr size_t kDigits = 16;
  return seg::sha256_of_text(seg::python_json(tree)).substr(0, kDigits);
}

int print_config(const PrintConfigArguments& arguments) {
  if (arguments.check) {
    const seg::RunConfig config = seg::load_run_config(arguments.config, arguments.overrides);
    seg::build_all(config);
    std::cout << arguments.config << ": all parts can be built" << std::endl;
    return 0;
  }
  if (arguments.digest) {
    // Of the files as they are, without what this program replaces in them.
    const seg::Config tree = seg::load_config(arguments.config, arguments.overrides);
    std::cout << config_digest(tree) << std::endl;
    return 0;
  }
  seg::Diagnostics problems;
  seg::YamlComments comments;
  const seg::Config tree =
      seg::load_any_config(arguments.config, arguments.overrides, problems, &comments);
  if (problems.has_errors()) throw seg::ConfigError(problems);
  if (const std::string warnings = problems.warnings_text(); !warnings.empty()) {
    std::cerr << warnings << std::endl;
  }
  std::cout << (arguments.explain.empty()
                    ? seg::dump_yaml(tree, arguments.origins, arguments.python_tuples, comments)
                    : explained(tree, arguments.explain))
            << std::flush;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Prints a configuration after merging its bases, substitution and overrides. Only --check "
      "checks all of it.",
      [](CLI::App& app) {
        seg::add_help(
            app,
            {.example = "tools/print_config configs/quickstart.yaml --explain train_cfg.max_iters",
             .exit_codes = {}});
        auto arguments = std::make_shared<PrintConfigArguments>();
        app.add_option("config", arguments->config, "configuration file")->required();
        app.add_option("--explain", arguments->explain,
                       "print the files and lines that set this value, oldest first; elements of "
                       "lists by index or type: param_scheduler.PolyLR.end")
            ->type_name("KEY");
        app.add_flag("--check", arguments->check,
                     "check everything and build every part; no data are read");
        app.add_flag("--digest", arguments->digest,
                     "print 16 digits that are the same for the same tree; Python has them by "
                     "hashlib.sha256(json.dumps(tree, sort_keys=True, separators=(',', ':')))");
        app.add_flag("--origins", arguments->origins, "print where each value was written");
        app.add_flag("--python-tuples", arguments->python_tuples,
                     "keep !!python/tuple tags, which MMEngine needs");
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments] { return print_config(*arguments); };
      });
}
