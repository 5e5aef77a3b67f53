#include "runners/sweep/plan.hpp"
#include "runners/start/old_config.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "registry/file_text.hpp"
#include "registry/log.hpp"
#include "registry/merge.hpp"
#include "registry/yaml.hpp"
#include "runners/start/parts.hpp"
#include "runners/start/run_config.hpp"
#include "runners/sweep/asha.hpp"
#include "runners/sweep/names.hpp"

namespace seg {
namespace {

/// One run before its config is resolved.
struct Combination {
  size_t base = 0;  ///< of SweepSpec::base
  ConfigChanges changes;
  std::optional<int64_t> seed;
};

std::vector<ConfigChanges> grid_of(const std::vector<SweepDimension>& dimensions) {
  std::vector<ConfigChanges> out{{}};
  for (const SweepDimension& dimension : dimensions) {
    std::vector<ConfigChanges> longer;
    for (const ConfigChanges& changes : out) {
      for (const Config& value : dimension.values()) {
        longer.push_back(changes);
        longer.back().emplace_back(dimension.key, value);
      }
    }
    out = std::move(longer);
  }
  return out;
}

std::vector<ConfigChanges> all_changes(const SweepSpec& spec) {
  if (spec.method == "list") return spec.space.list;
  if (!spec.trials) return grid_of(spec.space.dimensions);
  std::vector<ConfigChanges> out(static_cast<size_t>(*spec.trials));
  for (size_t trial = 0; trial < out.size(); ++trial) {
    for (const SweepDimension& dimension : spec.space.dimensions) {
      out[trial].emplace_back(dimension.key,
                              dimension.draw(static_cast<uint64_t>(spec.seed), trial));
    }
  }
  return out;
}

std::vector<Combination> combinations_of(const SweepSpec& spec) {
  std::vector<Combination> out;
  for (size_t base = 0; base < spec.base.values.size(); ++base) {
    for (ConfigChanges& changes : all_changes(spec)) {
      if (spec.seeds.empty()) out.push_back({base, changes, std::nullopt});
      for (const int64_t seed : spec.seeds) out.push_back({base, changes, seed});
    }
  }
  return out;
}

/// Puts a value at a dotted key of a tree of changes; the parts on the way become mappings.
void put_change(Config& tree, const std::string& key, const Config& value) {
  Config* node = &tree;
  for (size_t begin = 0;;) {
    const size_t dot = key.find('.', begin);
    const std::string part = key.substr(begin, dot - begin);
    if (!node->find(part)) {
      Config map;
      map.kind = Config::Kind::kMap;
      map.origin = value.origin;
      node->map.push_back({part, value.origin, std::move(map)});
    }
    node = &node->find(part)->value;
    if (dot == std::string::npos) break;
    begin = dot + 1;
  }
  *node = value;
}

/// The errors of many runs, each once, with the runs that have it.
class RunProblems {
 public:
  void add(const std::string& run, const Diagnostics& found) {
    std::set<std::string> mine;  // one run may report an error twice
    for (const Diagnostic& d : found.list()) {
      const std::string key = text(d.warning, d.where.text(), d.path, d.message);
      if (!mine.insert(key).second) continue;
      const auto [place, fresh] = places_.emplace(key, entries_.size());
      if (fresh) entries_.push_back({d, {}});
      entries_[place->second].runs.push_back(run);
    }
  }
  /// \param count  of all runs. \throws ConfigError if there is an error.
  void report(size_t count) const {
    Diagnostics out;
    for (const Entry& entry : entries_) {
      const std::string message = entry.problem.message + " (" + runs_text(entry.runs, count) + ")";
      if (entry.problem.warning) {
        out.warn(entry.problem.where, entry.problem.path, message);
      } else {
        out.error(entry.problem.where, entry.problem.path, message);
      }
    }
    if (out.has_errors()) throw ConfigError(out);
    if (const std::string warnings = out.warnings_text(); !warnings.empty()) log::warn(warnings);
  }

 private:
  struct Entry {
    Diagnostic problem;
    std::vector<std::string> runs;
  };
  static std::string runs_text(const std::vector<std::string>& runs, size_t count) {
    if (count > 1 && runs.size() == count) return text("all ", count, " runs");
    constexpr size_t kShown = 3;
    const std::vector<std::string> shown(
        runs.begin(), runs.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, runs.size())));
    return text(runs.size() == 1 ? "run " : "runs ", join(shown, ", "),
                runs.size() > kShown ? text(" and ", runs.size() - kShown, " more") : "");
  }

  std::vector<Entry> entries_;
  std::map<std::string, size_t> places_;
};

/// Keeps what the parts of every run would log out of the console: each run logs it itself.
class QuietChecks {
 public:
  QuietChecks() { log::set_level("ERROR"); }
  ~QuietChecks() { log::set_level("INFO"); }
  QuietChecks(const QuietChecks&) = delete;
  QuietChecks& operator=(const QuietChecks&) = delete;
};

class Planner {
 public:
  Planner(const SweepSpec& spec, const SweepFolder& folder, const BaseEdit& edit)
      : spec_(spec), folder_(folder), edit_(edit) {
    for (const SweepRun& run : folder.runs()) {
      known_.emplace(file_text(folder.config_of(run)).value_or(""), run);
    }
    labels_ = short_paths(spec.base.values);
    trees_.resize(spec.base.values.size());
  }

  std::vector<PlannedRun> plan() {
    load_bases();
    const auto combinations = combinations_of(spec_);
    const auto varying = varying_keys(combinations);
    digits_ = std::max<size_t>(2, std::to_string(combinations.size()).size());
    for (const Combination& combination : combinations) add(combination, varying);
    problems_.report(combinations.size());
    check_folder();
    return std::move(runs_);
  }

 private:
  /// An error of a base is one of the sweep, not one of each run.
  void load_bases() {
    BuildErrors errors;
    for (size_t i = 0; i < trees_.size(); ++i) {
      errors.attempt([&] {
        Diagnostics warnings;
        trees_[i] = load_any_config(spec_.base.values[i], {}, warnings);
        if (edit_) edit_(trees_[i]);
        problems_.add(spec_.base.values[i], warnings);
      });
    }
    errors.throw_if_any();
  }

  /// Short names of the keys that have more than one value.
  static std::map<std::string, std::string> varying_keys(
      const std::vector<Combination>& combinations) {
    std::vector<std::string> keys;  // in order of appearance
    std::map<std::string, std::set<std::string>> values;
    std::map<std::string, size_t> counts;
    for (const Combination& combination : combinations) {
      for (const auto& [key, value] : combination.changes) {
        if (counts[key]++ == 0) keys.push_back(key);
        values[key].insert(dump_flow(value));
      }
    }
    std::erase_if(keys, [&](const std::string& key) {
      return values[key].size() == 1 && counts[key] == combinations.size();
    });
    const auto names = short_keys(keys);
    std::map<std::string, std::string> out;
    for (size_t i = 0; i < keys.size(); ++i) out.emplace(keys[i], names[i]);
    return out;
  }

  void add(const Combination& combination, const std::map<std::string, std::string>& varying) {
    PlannedRun planned;
    SweepRun& run = planned.run;
    run.number = next_number();
    run.base = spec_.base.values[combination.base];
    std::vector<std::string> parts;
    if (spec_.base.values.size() > 1) parts.push_back(labels_[combination.base]);
    run.base_label = parts.empty() ? "" : parts[0];
    run.changes = combination.changes;
    for (const auto& [key, value] : combination.changes) {
      const auto found = varying.find(key);
      if (found != varying.end()) parts.push_back(found->second + "=" + value_label(value));
    }
    run.seed = combination.seed;
    if (run.seed) parts.push_back(text("seed=", *run.seed));
    run.name = run_name(run.number, digits_, parts);

    Diagnostics problems;
    const Config tree = resolved(combination, problems);
    planned.config = dump_yaml(tree);
    if (!seen_.insert(planned.config).second) return;  // equal runs are one
    if (const auto known = known_.find(planned.config); known != known_.end()) {
      planned.run = known->second;
      planned.in_folder = true;
    } else {
      check(tree, planned.run, problems);
    }
    problems_.add(run.name, problems);
    runs_.push_back(std::move(planned));
  }

  /// Numbers go on behind those of the folder.
  size_t next_number() const {
    size_t highest = 0;
    for (const auto& [config, run] : known_) highest = std::max(highest, run.number);
    const auto fresh =
        std::count_if(runs_.begin(), runs_.end(), [](const PlannedRun& p) { return !p.in_folder; });
    return highest + static_cast<size_t>(fresh) + 1;
  }

  Config resolved(const Combination& combination, Diagnostics& problems) const {
    Config changes;
    changes.kind = Config::Kind::kMap;
    for (const auto& [key, value] : combination.changes) put_change(changes, key, value);
    if (combination.seed) {
      Config seed = Config::of(*combination.seed);
      if (const Config::Item* item = spec_.tree.find("seeds")) seed.origin = item->value.origin;
      put_change(changes, "randomness.seed", seed);
    }
    const Config& base = trees_[combination.base];
    for (const Config::Item& item : changes.map) {
      const auto& known = run_config_keys();
      if (std::find(known.begin(), known.end(), item.key) != known.end()) continue;
      const Config::Item* variable = base.find(item.key);
      problems.error(item.key_origin, "space." + item.key,
                     variable && variable->used
                         ? "this changes nothing: files had the variable filled in before. Sweep "
                           "the options that it fills"
                         : text("nothing uses this key.", did_you_mean(item.key, known)));
    }
    Config tree = base;
    detail::merge_into(tree, std::move(changes), /*index_lists=*/true, problems);
    detail::strip_delete(tree);
    return tree;
  }

  /// Also takes the length of its training from the config.
  void check(const Config& tree, SweepRun& run, Diagnostics& problems) {
    try {
      const RunConfig config = read_run_config(tree, run.base, problems);
      check_training(config, problems);
      if (config.train_cfg) {
        const TrainLengthFacts length = config.train_cfg->facts();
        run.max_iters = length.max_iters;
        run.max_epochs = length.max_epochs;
      }
      // Runs that differ by their seed have the same parts.
      Config seedless = tree;
      std::erase_if(seedless.map, [](const auto& item) { return item.key == "randomness"; });
      if (problems.has_errors() || !built_.insert(dump_yaml(seedless)).second) return;
      const QuietChecks quiet;
      build_all(config);
    } catch (const ConfigError& e) {
      problems = e.diagnostics;
    }
  }

  void check_training(const RunConfig& config, Diagnostics& problems) const {
    if (!config.train_cfg) {
      problems.error(config.tree.origin, "", "training needs 'train_cfg' in the configuration");
    } else if (spec_.uses_asha()) {
      check_rungs(spec_, config, problems);
    }
  }

  void check_folder() const {
    std::set<std::string> planned;
    for (const PlannedRun& one : runs_) planned.insert(one.run.name);
    for (const SweepRun& run : folder_.runs()) {
      if (planned.count(run.name) > 0) continue;
      throw DataError(text(folder_.path(),
                           " holds another sweep: this one has no run with the config of ",
                           run.name, ". Give this one another --work-dir, or delete that folder"));
    }
  }

  const SweepSpec& spec_;
  const SweepFolder& folder_;
  const BaseEdit& edit_;
  std::map<std::string, SweepRun> known_;  ///< of the folder, by config
  std::vector<std::string> labels_;
  std::vector<Config> trees_;  ///< of the bases
  size_t digits_ = 2;
  std::set<std::string> seen_, built_;
  RunProblems problems_;
  std::vector<PlannedRun> runs_;
};

}  // namespace

std::vector<PlannedRun> plan_sweep(const SweepSpec& spec, const SweepFolder& folder,
                                   const BaseEdit& edit) {
  return Planner(spec, folder, edit).plan();
}

}  // namespace seg
