#include "runners/ensemble/run.hpp"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "registry/log.hpp"
#include "registry/yaml.hpp"
#include "runners/checkpoint/find.hpp"
#include "runners/ensemble/mean_config.hpp"
#include "runners/ensemble/pictures.hpp"
#include "runners/ensemble/spec.hpp"
#include "runners/ensemble/table.hpp"
#include "runners/ensemble/test_stage.hpp"
#include "runners/start/run_config.hpp"
#include "runners/start/signals.hpp"
#include "runners/sweep/folder.hpp"
#include "runners/sweep/plan.hpp"
#include "runners/sweep/results.hpp"
#include "runners/sweep/start.hpp"
#include "segcore/data/soft_predictions.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLoader = "LoadSoftPredictions";
constexpr const char* kMetaNet = "StackingNet";
/// The splits, and what holds their pipelines in configs: first the loader.
const std::vector<std::pair<const char*, std::vector<const char*>>> kSplits{
    {"train", {"train_dataloader"}},
    {"val", {"val_dataloader"}},
    {"test", {"test_dataloader", "tta_pipeline"}}};

/// Sets an option of each map of a type, wherever it stands in a config.
void set_everywhere(Config& tree, const std::string& type, const std::string& key,
                    const Config& value) {
  if (const Config::Item* own = tree.find("type"); own && own->value.scalar == type) {
    tree.set(key, value);
  }
  for (Config::Item& item : tree.map) set_everywhere(item.value, type, key, value);
  for (Config& element : tree.list) set_everywhere(element, type, key, value);
}

bool has_type(const Config& tree, const std::string& type) {
  if (const Config::Item* own = tree.find("type"); own && own->value.scalar == type) return true;
  const auto inside = [&](const Config& c) { return has_type(c, type); };
  return std::ranges::any_of(tree.map, [&](const auto& item) { return inside(item.value); }) ||
         std::ranges::any_of(tree.list, inside);
}

class EnsembleRecipe {
 public:
  EnsembleRecipe(EnsembleSpec spec, std::string folder)
      : spec_(std::move(spec)),
        path_(std::move(folder)),
        members_(path_ + "/members"),
        meta_(path_ + "/meta"),
        tests_(path_ + "/tests") {}

  /// Checks the config of every run of both stages. \return the runs that there would be.
  std::vector<PlannedRun> check() const {
    auto out = plan_sweep(spec_.members, members_);
    if (!spec_.weights.empty() && spec_.weights.size() != out.size()) {
      throw DataError(text("weights: has ", spec_.weights.size(), " values for ", out.size(),
                           out.size() == 1 ? " member" : " members"));
    }
    if (!spec_.meta) return out;
    std::vector<std::string> names;
    int64_t maps = 0;
    for (const PlannedRun& one : out) {
      names.push_back(one.run.name);
      const Config tree = parse_config(one.config, one.run.name);
      Diagnostics reported_before;
      maps += read_run_config(tree, one.run.base, reported_before).model.facts().heads.back().count;
    }
    for (PlannedRun& one : plan_sweep(*spec_.meta, meta_, stacking_edit(names, maps))) {
      out.push_back(std::move(one));
    }
    return out;
  }

  int run() {
    make_folders(path_);
    const auto lock = FolderLock::attempt(path_);
    if (!lock) throw DataError(text("the ensemble in ", path_, " is run by another process"));
    check();
    watch_stop_signals();
    if (const int code = train(spec_.members, members_, {}); code != 0) return code;
    const auto members = read_reports(members_, spec_.members);
    if (!all_ended(members)) return 0;
    predict(members);
    std::vector<RunReport> metas;
    if (spec_.meta) {
      std::vector<std::string> names;
      int64_t maps = 0;
      for (const RunReport& member : members) {
        names.push_back(member.run.name);
        maps += SoftPredictions(predictions_of(member.run.name, "test")).num_maps();
      }
      const int code = train(*spec_.meta, meta_, stacking_edit(names, maps));
      if (code != 0) return code;
      metas = read_reports(meta_, *spec_.meta);
      if (!all_ended(metas)) return 0;
    }
    for (const RunReport& meta : metas) test(meta_, meta);
    test_means(members);
    compare(members, metas);
    return 0;
  }

 private:
  std::string predictions_of(const std::string& member, const std::string& split) const {
    const std::string path = path_ + "/predictions/" + member + "/" + split + ".safetensors";
    return fs::absolute(path).lexically_normal().string();
  }

  /// Points the pipelines of a meta model at the predictions of the members.
  /// \param maps  of probabilities that all members have together.
  BaseEdit stacking_edit(const std::vector<std::string>& members, int64_t maps) const {
    return [this, members, maps](Config& tree) {
      if (!has_type(tree, kLoader)) {
        Diagnostics problems;
        problems.error(
            tree.origin, "",
            text("a meta model learns from predictions: its pipelines must begin with ", kLoader));
        throw ConfigError(problems);
      }
      for (const auto& [split, keys] : kSplits) {
        Config models = parse_config("[]", "");
        for (const std::string& member : members) {
          models.list.push_back(Config::of(predictions_of(member, split)));
        }
        for (const char* key : keys) {
          if (Config::Item* part = tree.find(key)) {
            set_everywhere(part->value, kLoader, "models", models);
          }
        }
      }
      set_everywhere(tree, kMetaNet, "in_channels", Config::of(maps));
    };
  }

  static int train(const SweepSpec& spec, const SweepFolder& folder, const BaseEdit& edit) {
    const auto reports = read_reports(folder, spec);
    const bool complete =
        !reports.empty() && std::ranges::all_of(reports, [](const RunReport& report) {
          return report.status == RunStatus::kEnded;
        });
    // Without a summary of what was done long ago; a file that has more runs now starts them.
    if (complete && reports.size() == plan_sweep(spec, folder, edit).size()) return 0;
    return start_sweep(spec, folder, edit);
  }

  /// Tells what is left to wait for.
  static bool all_ended(const std::vector<RunReport>& reports) {
    const auto ended = std::ranges::count_if(
        reports, [](const RunReport& report) { return report.status == RunStatus::kEnded; });
    if (static_cast<size_t>(ended) == reports.size()) return true;
    log::info(counts_text(reports), "; the same command goes on when all have ended");
    return false;
  }

  EnsembleTest test_of(const SweepFolder& folder, const RunReport& report,
                       const std::string& split) const {
    EnsembleTest out{.name = report.run.name,
                     .config = folder.config_of(report.run),
                     .checkpoint = best_checkpoint(folder.work_dir_of(report.run)),
                     .split = split,
                     .probabilities = {},
                     .newer_than = {},
                     .more = spec_.test_args};
    out.newer_than = {out.checkpoint};
    return out;
  }
  void test(const SweepFolder& folder, const RunReport& report) const {
    tests_.run(test_of(folder, report, "test"));
  }

  /// Stores the probabilities of all members, and tests them.
  void predict(const std::vector<RunReport>& members) const {
    for (const RunReport& member : members) {
      const Config config = load_config(members_.config_of(member.run));
      for (const auto& [split, keys] : kSplits) {
        if (!config.find(keys[0])) continue;
        EnsembleTest one = test_of(members_, member, split);
        if (spec_.meta) {
          one.probabilities = predictions_of(member.run.name, split);
        } else if (one.split != "test") {
          continue;
        }
        tests_.run(one);
      }
    }
  }

  struct Mean {
    std::string name;
    std::vector<double> weights;
  };
  std::vector<Mean> means_of(const std::vector<RunReport>& members) const {
    Mean weighted{"weighted_mean", spec_.weights};
    if (weighted.weights.empty() && spec_.members.greater_is_better()) {
      for (const RunReport& member : members) {
        weighted.weights.push_back(member.result.metric.value_or(0));
      }
    }
    std::vector<Mean> out{{"mean", std::vector<double>(members.size(), 1)}};
    if (weighted.weights.empty()) return out;
    if (std::ranges::all_of(weighted.weights, [](double w) { return w > 0; })) {
      out.push_back(std::move(weighted));
    }
    return out;
  }

  void test_means(const std::vector<RunReport>& members) const {
    make_folders(path_ + "/configs");
    for (const Mean& mean : means_of(members)) {
      EnsembleTest one{.name = mean.name,
                       .config = path_ + "/configs/" + mean.name + ".yaml",
                       .checkpoint = "members",
                       .probabilities = {},
                       .newer_than = {},
                       .more = spec_.test_args};
      std::vector<MeanMember> parts;
      for (size_t i = 0; i < members.size(); ++i) {
        const EnsembleTest member = test_of(members_, members[i], "test");
        parts.push_back({member.config, member.checkpoint, mean.weights[i]});
        one.newer_than.push_back(member.checkpoint);
      }
      write_file_atomically(one.config, mean_config(parts));
      tests_.run(one);
    }
  }

  void compare(const std::vector<RunReport>& members, const std::vector<RunReport>& metas) const {
    std::vector<EnsembleRow> rows;
    const auto add = [&](const char* kind, const std::string& name) {
      rows.push_back({kind, name, tests_.metrics(name)});
    };
    for (const RunReport& member : members) add("member", member.run.name);
    for (const Mean& mean : means_of(members)) add("mean", mean.name);
    for (const RunReport& meta : metas) add("meta", meta.run.name);
    std::fputs(write_ensemble_table(path_, rows).c_str(), stdout);
    if (spec_.pictures == 0) return;
    std::vector<ModelPredictions> predictions;
    for (const EnsembleRow& row : rows) {
      predictions.emplace_back(row.name, tests_.predictions_of(row.name));
    }
    const RunConfig config = load_run_config(members_.config_of(members.at(0).run));
    const auto dataset = config.test_dataloader->dataset.build();
    const size_t drawn = draw_ensemble_pictures(path_ + "/pictures", *dataset, predictions,
                                                static_cast<size_t>(spec_.pictures));
    log::info(drawn, drawn == 1 ? " picture is in " : " pictures are in ", path_, "/pictures");
  }

  EnsembleSpec spec_;
  std::string path_;
  SweepFolder members_, meta_;
  TestStage tests_;
};

EnsembleRecipe recipe_of(const std::string& path, const EnsembleOptions& options) {
  return {load_ensemble(path, options.overrides),
          options.work_dir.value_or("work_dirs/" + fs::path(path).stem().string())};
}

}  // namespace

std::string ensemble_listing(const std::string& path, const EnsembleOptions& options) {
  const auto planned = recipe_of(path, options).check();
  std::string out;
  for (const PlannedRun& one : planned) out += one.run.name + "  " + one.run.base + "\n";
  return out + text(planned.size(), planned.size() == 1 ? " run\n" : " runs\n");
}

int run_ensemble(const std::string& path, const EnsembleOptions& options) {
  return recipe_of(path, options).run();
}

}  // namespace seg
