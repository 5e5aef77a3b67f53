#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>

#include "registry/log.hpp"
#include "runners/checkpoint/run_state.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/hooks/metric_rule.hpp"
#include "runners/hooks/run_context.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/sha256.hpp"

namespace fs = std::filesystem;

namespace seg {

struct CheckpointHookParams : HookParams {
  int64_t interval = -1;
  bool by_epoch = true;
  bool save_optimizer = true;
  bool save_param_scheduler = true;
  std::optional<std::string> out_dir;
  int64_t max_keep_ckpts = -1;
  bool save_last = true;
  std::optional<OneOrMany<std::string>> save_best;
  std::optional<OneOrMany<std::string>> rule;
  std::optional<OneOrMany<std::string>> greater_keys;
  std::optional<OneOrMany<std::string>> less_keys;
  std::optional<std::string> filename_tmpl;
  std::optional<OneOrMany<std::string>> published_keys;
  int64_t save_begin = 0;
};

namespace {

std::vector<std::string> words_of(const std::optional<OneOrMany<std::string>>& option) {
  return option ? option->values : std::vector<std::string>{};
}

/// The rule of the i-th metric: the given one, or what its name says.
std::optional<std::string> checkpoint_rule(const CheckpointHookParams& p, size_t i,
                                           const std::string& metric) {
  const auto rules = words_of(p.rule);
  if (!rules.empty()) return rules.size() == 1 ? rules[0] : rules.at(i);
  return infer_metric_rule(metric, p.greater_keys ? p.greater_keys->values : default_greater_keys(),
                           p.less_keys ? p.less_keys->values : default_less_keys());
}

void validate_checkpoint_hook(const CheckpointHookParams& p, Problems& problems) {
  const auto metrics = words_of(p.save_best);
  const auto rules = words_of(p.rule);
  if (std::set<std::string>(metrics.begin(), metrics.end()).size() != metrics.size()) {
    problems.error("save_best", "names a metric twice");
  }
  const bool automatic = std::find(metrics.begin(), metrics.end(), "auto") != metrics.end();
  if (automatic && metrics.size() > 1) {
    problems.error("save_best", "'auto' stands alone, without other metrics");
  }
  for (const auto& rule : rules) {
    if (rule != "greater" && rule != "less") {
      problems.error("rule", text("expected greater or less, got '", rule, "'"));
    }
  }
  if (rules.size() > 1 && rules.size() != metrics.size()) {
    problems.error("rule", text("give one rule, or one for each of the ", metrics.size(),
                                " metrics of save_best; got ", rules.size()));
    return;
  }
  for (size_t i = 0; i < metrics.size(); ++i) {
    if (metrics[i] != "auto" && !checkpoint_rule(p, i, metrics[i])) {
      problems.error("save_best", text("whether more or less of '", metrics[i],
                                       "' is better is not known. Give 'rule'.",
                                       did_you_mean(metrics[i], default_greater_keys())));
    }
  }
  if (p.filename_tmpl) {
    const size_t hole = p.filename_tmpl->find("{}");
    if (hole == std::string::npos || p.filename_tmpl->find("{}", hole + 1) != std::string::npos) {
      problems.error("filename_tmpl", "must hold {} once, for the number of the step");
    }
  }
  const auto published = words_of(p.published_keys);
  if (std::set<std::string>(published.begin(), published.end()).size() != published.size()) {
    problems.error("published_keys", "names a key twice");
  }
}

}  // namespace

/// Writes checkpoints: regularly, at the end, and the best by a metric.
class CheckpointHook final : public Hook {
 public:
  using Params = CheckpointHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Writes checkpoints.")
        .source("MMEngine 0.10, CheckpointHook")
        .include(HookParams::schema())
        .optional("interval", &Params::interval, "steps or epochs between checkpoints; -1: none")
        .optional("by_epoch", &Params::by_epoch, "count epochs instead of steps")
        .optional("save_optimizer", &Params::save_optimizer, "with the state of the optimizer")
        .optional("save_param_scheduler", &Params::save_param_scheduler,
                  "with the state of the schedules")
        .optional("out_dir", &Params::out_dir,
                  "folder for the checkpoints of several runs, each in one of its own")
        .optional("max_keep_ckpts", &Params::max_keep_ckpts,
                  "older regular checkpoints are deleted; -1: none")
        .optional("save_last", &Params::save_last, "also after the last step")
        .optional("save_best", &Params::save_best,
                  "metrics (as mIoU or IoU.road) whose best checkpoint is kept; auto: the first")
        .optional("rule", &Params::rule, "greater or less, for each metric")
        .optional("greater_keys", &Params::greater_keys, "names of metrics of which more is better")
        .optional("less_keys", &Params::less_keys, "names of metrics of which less is better")
        .optional("filename_tmpl", &Params::filename_tmpl,
                  "name with {} for the step; iter_{}.pth or epoch_{}.pth where not given")
        .optional("published_keys", &Params::published_keys,
                  "after training, the last and best are also written with these keys alone")
        .optional("save_begin", &Params::save_begin, "no regular checkpoint before this step",
                  at_least(0))
        .accepted("file_client_args", "checkpoints are local files")
        .accepted("backend_args", "checkpoints are local files")
        .validate(validate_checkpoint_hook);
  }
  explicit CheckpointHook(const Params& params)
      : Hook(params, Priority::kVeryLow),
        params_(params),
        best_metrics_(words_of(params.save_best)) {}

  void before_train(RunContext& context) override {
    folder_ = context.work_dir;
    if (params_.out_dir) {
      folder_ = *params_.out_dir + "/" + fs::path(context.work_dir).filename().string();
      if (context.is_main()) make_folders(folder_);
    }
    log::info("Checkpoints will be saved to ", folder_, ".");
    if (params_.by_epoch && !context.by_epoch) {
      log::warn("CheckpointHook counts epochs (by_epoch), while training counts iterations: only ",
                "the last step is saved. Write 'by_epoch: false'");
      params_.by_epoch = false;
      params_.interval = -1;
    }
    if (context.metric_names.empty()) return;
    for (const auto& metric : best_metrics_) {
      const auto& known = context.metric_names;
      if (metric == "auto" || std::find(known.begin(), known.end(), metric) != known.end())
        continue;
      throw DataError(text("CheckpointHook: save_best: no metric is called '", metric, "'.",
                           did_you_mean(metric, known), " Known: ", join(known, ", ")));
    }
  }

  void after_iter(RunContext& context) override {
    if (context.phase != Phase::kTrain) return;
    const int64_t step = params_.by_epoch ? context.epoch : context.iter;
    const bool last = context.iter == context.max_iters;
    if (params_.by_epoch && !context.end_of_epoch) return;
    const bool regular = params_.interval > 0 && step >= params_.save_begin && is_multiple(step);
    if (!regular && !(params_.save_last && last)) return;
    log::info("Saving checkpoint at ", step, params_.by_epoch ? " epochs" : " iterations");
    save_regular(context, regular_parts());
  }

  /// Whatever the interval, and with all that going on needs; one of those that are kept.
  void on_stop(RunContext& context) override {
    if (context.last_saved_iter == context.iter) return;
    log::info("Saving checkpoint at ", context.iter, " iterations");
    save_regular(context, {});
  }

  void after_val(RunContext& context) override {
    if (context.phase != Phase::kVal || context.interrupted || best_metrics_.empty()) return;
    if (context.metrics.empty()) {
      log::warn("the validation gave no metrics: the best checkpoint cannot be told");
      return;
    }
    if (best_metrics_[0] == "auto") best_metrics_[0] = context.metrics[0].first;
    bool better = false;
    for (size_t i = 0; i < best_metrics_.size(); ++i) better |= save_if_best(context, i);
    // The regular checkpoint of this step knows the earlier best only; a resumed run must know
    // this.
    if (better && last_id_ == checkpoint_id(context)) save_regular(context, regular_parts());
  }

  void after_train(RunContext& context) override {
    if (!params_.published_keys || !context.is_main()) return;
    std::vector<std::string> files;
    if (params_.save_last && !last_path_.empty()) files.push_back(last_path_);
    for (size_t i = 0; i < best_metrics_.size(); ++i) {
      if (const Value* best = context.runtime_info.find(info_key("best_ckpt", i))) {
        files.push_back(best->as_string());
      }
    }
    for (const auto& file : files) publish(file);
  }

 private:
  bool is_multiple(int64_t step) const {
    return (step - params_.save_begin) % params_.interval == 0;
  }
  SaveParts regular_parts() const {
    return {.optimizer = params_.save_optimizer,
            .schedulers = params_.save_param_scheduler,
            .progress = true};
  }
  /// Of the step just made: its number, or that of the epoch; "2_iter_70" in the middle of an
  /// epoch, after two whole ones.
  std::string checkpoint_id(const RunContext& context) const {
    if (!params_.by_epoch) return text(context.iter);
    const bool whole = context.iter % context.epoch_length == 0;
    return whole ? text(context.epoch) : text(context.epoch, "_iter_", context.iter);
  }
  std::string file_name(const std::string& id) const {
    const std::string pattern =
        params_.filename_tmpl.value_or(params_.by_epoch ? "epoch_{}.pth" : "iter_{}.pth");
    const size_t hole = pattern.find("{}");
    return pattern.substr(0, hole) + id + pattern.substr(hole + 2);
  }
  /// "best_score", or "best_score_mIoU" where several metrics are watched.
  std::string info_key(const std::string& key, size_t i) const {
    return best_metrics_.size() == 1 ? key : key + "_" + best_metrics_[i];
  }

  void save_regular(RunContext& context, const SaveParts& parts) {
    const std::string current = checkpoint_id(context);
    std::vector<std::string> kept;
    if (const Value* ids = context.runtime_info.find("keep_ckpt_ids")) {
      for (const Value& id : ids->as_list()) {
        kept.push_back(id.is_string() ? id.as_string() : text(id.as_int()));
      }
    }
    std::erase(kept, current);
    kept.push_back(current);
    // With those that are about to be deleted: a run that is killed before that does it later.
    if (params_.max_keep_ckpts > 0) set_kept(context, kept);
    last_path_ = folder_ + "/" + file_name(current);
    last_id_ = current;
    context.runtime_info.set("last_ckpt", last_path_);
    save_run_state(context, last_path_, parts);
    write_last_checkpoint(context, last_path_);
    if (params_.max_keep_ckpts <= 0) return;
    // Only now: at no moment is there less than the number asked for.
    while (kept.size() > static_cast<size_t>(params_.max_keep_ckpts)) {
      std::error_code ignored;
      if (context.is_main()) fs::remove(folder_ + "/" + file_name(kept.front()), ignored);
      kept.erase(kept.begin());
    }
    set_kept(context, kept);
  }

  static void set_kept(RunContext& context, const std::vector<std::string>& kept) {
    Value ids = Value::list();
    for (const std::string& id : kept) {
      // Numbers as MMEngine has them; it fills any other id into its template as well.
      const bool number = id.find_first_not_of("0123456789") == std::string::npos;
      ids.push_back(number ? Value(int64_t{std::stoll(id)}) : Value(id));
    }
    context.runtime_info.set("keep_ckpt_ids", ids);
  }

  bool save_if_best(RunContext& context, size_t i) {
    const std::string& metric = best_metrics_[i];
    const double* score = find_scalar(context.metrics, metric);
    if (!score) {
      std::vector<std::string> names;
      for (const auto& [name, value] : context.metrics) names.push_back(name);
      throw DataError(text("CheckpointHook: save_best: no metric is called '", metric, "'.",
                           did_you_mean(metric, names), " Known: ", join(names, ", ")));
    }
    const bool greater = checkpoint_rule(params_, i, metric).value_or("greater") == "greater";
    const Value* before = context.runtime_info.find(info_key("best_score", i));
    const double best = before    ? before->as_float()
                        : greater ? -std::numeric_limits<double>::infinity()
                                  : std::numeric_limits<double>::infinity();
    // An absent class has a score of NaN, which is never the best.
    if (!(greater ? *score > best : *score < best)) return false;

    const int64_t step = params_.by_epoch ? context.epoch : context.iter;
    std::string name = "best_" + metric + "_" + file_name(text(step));
    std::replace(name.begin(), name.end(), '/', '_');
    const std::string path = folder_ + "/" + name;
    std::string previous;
    if (const Value* known = context.runtime_info.find(info_key("best_ckpt", i))) {
      previous = known->as_string();
    }
    context.runtime_info.set(info_key("best_score", i), *score);
    context.runtime_info.set(info_key("best_ckpt", i), path);
    save_run_state(context, path, {.optimizer = false, .schedulers = false, .progress = false});
    if (context.is_main() && !previous.empty()) {
      // A work dir that was moved has the earlier one beside, not where it was written.
      for (const auto& old : {previous, folder_ + "/" + fs::path(previous).filename().string()}) {
        std::error_code ignored;
        if (fs::path(old).filename() != name && fs::remove(old, ignored)) {
          log::info("The previous best checkpoint ", old, " is removed");
        }
      }
    }
    char shown[64];
    std::snprintf(shown, sizeof(shown), "%.4f", *score);
    log::info("The best checkpoint with ", shown, " ", metric, " at ", step, " ",
              params_.by_epoch ? "epoch" : "iter", " is saved to ", name, ".");
    return true;
  }

  void publish(const std::string& path) const;

  Params params_;
  std::vector<std::string> best_metrics_;
  std::string folder_, last_path_, last_id_;
};
SEG_REGISTER(Hook, CheckpointHook);

void CheckpointHook::publish(const std::string& path) const {
  const Value whole = read_checkpoint(path);
  Value chosen = Value::dict();
  std::vector<std::string> left_out;
  for (const auto& [key, value] : whole.as_dict()) {
    const auto& wanted = params_.published_keys->values;
    if (key.is_string() &&
        std::find(wanted.begin(), wanted.end(), key.as_string()) != wanted.end()) {
      chosen.set(key, value);
    } else if (key.is_string()) {
      left_out.push_back(key.as_string());
    }
  }
  const std::string stem = path.substr(0, path.rfind('.'));
  const std::string unnamed = stem + "-unnamed.pth";
  write_checkpoint(unnamed, chosen);
  const std::string published = text(stem, '-', sha256_of_file(unnamed).substr(0, 8), ".pth");
  fs::rename(unnamed, published);
  log::info("The checkpoint ", path, " is published to ", published,
            left_out.empty() ? "" : " without ", join(left_out, ", "));
}

}  // namespace seg
