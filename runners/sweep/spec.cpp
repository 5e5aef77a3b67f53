#include "runners/sweep/spec.hpp"

#include <algorithm>
#include <filesystem>

#include "registry/log.hpp"
#include "registry/merge.hpp"
#include "registry/yaml.hpp"
#include "runners/hooks/metric_rule.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

/// What belongs to the methods one by one.
void check_method(const SweepSpec& p, Problems& problems) {
  const bool drawn = p.method == "random" || p.method == "asha";
  if (p.space.is_list != (p.method == "list") && problems.given("space")) {
    problems.error("space",
                   p.space.is_list
                       ? text("is a list of runs, which is 'method: list', not '", p.method, "'")
                       : std::string("'method: list' takes a list of mappings, one a run"));
  }
  if (p.method == "random" && !p.trials) {
    problems.error("method", "'random' needs 'trials' beside it");
  }
  if (!drawn && problems.given("trials")) {
    problems.error("trials", text("has no effect under 'method: ", p.method, "'"));
  }
  if (p.method == "asha" && !problems.given("asha")) {
    problems.error("method", "'asha' needs 'asha: {grace: ITERATIONS}' beside it");
  }
  if (p.method != "asha" && problems.given("asha")) {
    problems.error("asha", text("has no effect under 'method: ", p.method, "'"));
  }
}

void check_engine(const SweepSpec& p, Problems& problems) {
  if (p.engine != "slurm" && problems.given("sbatch")) {
    problems.error("sbatch", "has no effect under 'engine: local'");
  }
  if (p.engine == "slurm" && p.budget.hours) {
    problems.error("budget",
                   "'hours' is for 'engine: local'; under Slurm give 'sbatch: {time: "
                   "...}'");
  }
  static const std::vector<std::string> ours{"array",  "dependency", "job-name", "open-mode",
                                             "output", "parsable",   "requeue",  "wrap"};
  for (const auto& [option, value] : p.sbatch) {
    if (std::find(ours.begin(), ours.end(), option) != ours.end()) {
      problems.error("sbatch", text("'", option, "' is set by the sweep itself"));
    }
  }
}

void check_spec(const SweepSpec& p, Problems& problems) {
  if (p.base.values.empty()) problems.error("base", "names no config");
  check_method(p, problems);
  check_engine(p, problems);
  const auto& keys = p.space.dimensions;
  const bool seed_swept = std::any_of(keys.begin(), keys.end(),
                                      [](const auto& d) { return d.key == "randomness.seed"; });
  if (seed_swept && !p.seeds.empty()) {
    problems.error("seeds", "'space' has randomness.seed already; leave one of them out");
  }
  const auto rule = infer_metric_rule(p.metric, default_greater_keys(), default_less_keys());
  if (!p.rule && !rule) {
    problems.error("metric", text("the name '", p.metric,
                                  "' does not say whether more is better. Write 'rule: greater' or "
                                  "'rule: less'"));
  }
}

/// What is wrong with single keys of the space, at their lines.
void check_dimensions(const SweepSpec& p, const std::string& option, Diagnostics& problems) {
  using Kind = SweepDimension::Kind;
  for (const SweepDimension& dimension : p.space.dimensions) {
    const std::string path = (option.empty() ? "" : option + ".") + "space." + dimension.key;
    if (dimension.key == "work_dir" || dimension.key == "resume") {
      problems.error(dimension.origin, path, "is set by the sweep: each run has its own folder");
    }
    const bool range = dimension.kind == Kind::kUniform || dimension.kind == Kind::kLogUniform;
    if (range && p.method != "random" && !p.trials) {
      problems.error(dimension.origin, path,
                     p.uses_asha() ? "values are drawn from a range: write 'trials' beside 'method'"
                                   : "a grid needs single values, and this is a range. Write a "
                                     "list, or 'method: random' with 'trials'");
    }
  }
}

/// A relative path as that of the file that names it, made absolute.
void make_absolute(Config& value) {
  if (value.kind != Config::Kind::kString) return;
  fs::path folder = fs::current_path();
  const std::string file = value.origin.file ? *value.origin.file : "";
  if (!file.starts_with("--")) folder /= fs::path(file).parent_path();
  value.scalar = (folder / value.scalar).lexically_normal().string();
}

}  // namespace

Schema<SweepBudget> SweepBudget::schema() {
  using P = SweepBudget;
  return Schema<P>("When no more runs are started.")
      .optional("iterations", &P::iterations, "of all runs together", at_least(1))
      .optional("runs", &P::runs, "runs started", at_least(1))
      .optional("hours", &P::hours, "since the sweep was started first", above(0));
}

Schema<AshaParams> AshaParams::schema() {
  using P = AshaParams;
  return Schema<P>("Asynchronous successive halving.")
      .source("Li et al. 2020, arXiv:1810.05934")
      .required("grace", &P::grace, "iterations after which runs are compared first", at_least(1))
      .optional("eta", &P::eta,
                "one run of so many goes on; those that do are compared again after so many times "
                "the iterations",
                at_least(2));
}

Schema<SweepSpec> SweepSpec::schema() {
  using P = SweepSpec;
  return Schema<P>("A sweep: one run for each combination of values.")
      .required("base", &P::base, "the config that the runs change, or a list of configs")
      .optional("space", &P::space,
                "values by dotted keys of the config; under 'method: list' a list of runs")
      .optional(
          "method", &P::method,
          "grid: every combination; random: 'trials' drawn ones; list: the listed ones; asha: "
          "drawn ones, or every one without 'trials', of which the worse are stopped early",
          one_of({"grid", "random", "asha", "list"}))
      .optional("trials", &P::trials, "drawn combinations", at_least(1))
      .optional("seed", &P::seed, "of the draws", at_least(0))
      .optional("seeds", &P::seeds, "each combination is trained with each of these seeds",
                at_least(0))
      .optional("metric", &P::metric, "the recorded value that runs are compared by")
      .optional("rule", &P::rule, "which value is better; where not given, the metric's name says",
                one_of({"greater", "less"}))
      .optional("budget", &P::budget, "when no more runs are started")
      .optional("asha", &P::asha, "options of 'method: asha'")
      .optional("engine", &P::engine, "local: this machine; slurm: an array job",
                one_of({"local", "slurm"}))
      .optional("parallel", &P::parallel,
                "runs at a time; where not given, as many as there are GPUs for, under Slurm as "
                "many as it lets run",
                at_least(1))
      .optional("gpus_per_run", &P::gpus_per_run,
                "GPUs that a run sees, of those there are; several train it by --nproc gpu",
                at_least(0))
      .optional(
          "program", &P::program,
          "what trains, with the arguments of tools/train, such as a script that starts it in "
          "a container; tools/train if not given")
      .optional("train_args", &P::train_args, "further arguments of tools/train")
      .optional("sbatch", &P::sbatch, "options of sbatch: {partition: gpu, time: '8:00:00'}")
      .validate(check_spec);
}

bool SweepSpec::greater_is_better() const {
  if (rule) return *rule == "greater";
  return infer_metric_rule(metric, default_greater_keys(), default_less_keys()) != "less";
}

std::vector<OptionDoc> sweep_docs() { return SweepSpec::schema().docs(); }

SweepSpec read_sweep(Config tree, const std::string& option, Diagnostics& problems) {
  for (const char* key : {"base", "program"}) {
    Config::Item* item = tree.find(key);
    if (!item) continue;
    make_absolute(item->value);
    for (Config& element : item->value.list) make_absolute(element);
  }
  SweepSpec spec = SweepSpec::schema().parse(tree, option, "", problems);
  check_dimensions(spec, option, problems);
  spec.tree = std::move(tree);
  return spec;
}

SweepSpec load_sweep(const std::string& path, const std::vector<std::string>& overrides) {
  Diagnostics problems;
  Config tree = detail::load_changes(path, overrides, problems);
  std::erase_if(tree.map, [](const Config::Item& item) { return item.referred; });
  for (Config::Item& item : tree.map) {
    if (item.key != "space") detail::strip_delete(item.value);
  }
  if (tree.find("model") && !tree.find("base")) {
    problems.error(tree.origin, "",
                   "this is the configuration of one run; a sweep names it: 'base: " +
                       fs::path(path).filename().string() + "'");
    throw ConfigError(problems);
  }
  SweepSpec spec = read_sweep(std::move(tree), "", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  if (const std::string warnings = problems.warnings_text(); !warnings.empty()) {
    log::warn(warnings);
  }
  return spec;
}

}  // namespace seg
