#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>

#include "registry/log.hpp"
#include "registry/printed.hpp"
#include "runners/checkpoint/save.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/hooks/metric_rule.hpp"
#include "runners/log/records.hpp"
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
  std::vector<std::string> name_scalars;
  std::optional<OneOrMany<std::string>> published_keys;
  int64_t save_begin = 0;
};

namespace {

std::vector<std::string> words_of(const std::optional<OneOrMany<std::string>>& option) {
  return option ? option->values : std::vector<std::string>{};
}

/// The rule of the i-th metric: the given one, or that of its name.
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
    problems.error("save_best", "'auto' cannot be combined with other metrics");
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
      problems.error("save_best", text("it is not known whether a higher or lower '", metrics[i],
                                       "' is better: set 'rule'.",
                                       did_you_mean(metrics[i], default_greater_keys())));
    }
  }
  if (p.filename_tmpl) {
    const size_t hole = p.filename_tmpl->find("{}");
    if (hole == std::string::npos || p.filename_tmpl->find("{}", hole + 1) != std::string::npos) {
      problems.error("filename_tmpl", "must contain {} once, for the number of the step");
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
        .optional("save_optimizer", &Params::save_optimizer, "save the state of the optimizer")
        .optional("save_param_scheduler", &Params::save_param_scheduler,
                  "save the states of the schedules")
        .optional("out_dir", &Params::out_dir,
                  "folder for the checkpoints of several runs, with a subfolder for each")
        .optional("max_keep_ckpts", &Params::max_keep_ckpts, "regular checkpoints to keep; -1: all")
        .optional("save_last", &Params::save_last, "also save after the last step")
        .optional("save_best", &Params::save_best,
                  "metrics (mIoU, IoU.road, ...) whose best checkpoint is kept; auto: the first")
        .optional("rule", &Params::rule, "greater or less, whichever is better, for each metric")
        .optional("greater_keys", &Params::greater_keys, "metrics that are better when higher")
        .optional("less_keys", &Params::less_keys, "metrics that are better when lower")
        .optional("filename_tmpl", &Params::filename_tmpl,
                  "file name with {} for the step; null: iter_{}.pth or epoch_{}.pth")
        .optional("name_scalars", &Params::name_scalars,
                  "values that the file's name carries as well, such as loss and mIoU: "
                  "iter_100-loss_0.4312-mIoU_45.20.pth; losses are means of the last "
                  "log window, measures those of the last validation, once there is one")
        .optional("published_keys", &Params::published_keys,
                  "after training, also write the last and best checkpoint with only these keys")
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

  void attach(const HookTargets& targets) override {
    records_ = targets.records;
    facts_ = &targets.records->facts;
  }

  void check_metrics(const std::vector<std::string>& known) const override {
    for (const auto& metric : best_metrics_) {
      if (metric != "auto" && !is_known(metric, known)) {
        throw OptionError("save_best", unknown_metric(metric, known));
      }
    }
  }

  void before_train(const RunInfo& run, const Progress& progress) override {
    folder_ = run.work_dir;
    if (params_.out_dir) {
      folder_ = *params_.out_dir + "/" + fs::path(run.work_dir).filename().string();
      if (run.is_main()) make_folders(folder_);
    }
    log::info("Checkpoints will be saved to ", folder_, ".");
    if (params_.by_epoch && !progress.by_epoch) {
      log::warn("CheckpointHook counts epochs (by_epoch), while training counts iterations: only ",
                "the last step is saved. Write 'by_epoch: false'");
      params_.by_epoch = false;
      params_.interval = -1;
    }
  }

  void after_train_iter(const RunInfo& run, const Progress& progress, const StepResult&,
                        RunControl& control) override {
    if (params_.by_epoch && !progress.ends_epoch()) return;
    const int64_t step = step_of(progress);
    const bool regular = params_.interval > 0 && step >= params_.save_begin && is_multiple(step);
    const bool last = params_.save_last && progress.iter == progress.max_iters;
    if (!regular && !last) return;
    log::info("Saving checkpoint at ", step, params_.by_epoch ? " epochs" : " iterations");
    save_regular(run, progress, control, regular_parts());
  }

  /// Whatever the interval, with all that a resumed run needs; counts as a regular one.
  void on_stop(const RunInfo& run, const Progress& progress, RunControl& control) override {
    if (control.last_saved_iter() == progress.iter) return;
    log::info("Saving checkpoint at ", progress.iter, " iterations");
    save_regular(run, progress, control, {});
  }

  void after_val(const RunInfo& run, const Progress& progress, const EvalResult& result,
                 RunControl& control) override {
    if (best_metrics_.empty()) return;
    if (result.metrics.empty()) {
      log::warn("the validation gave no metric to choose the best checkpoint by");
      return;
    }
    if (best_metrics_[0] == "auto") best_metrics_[0] = result.metrics[0].first;
    bool better = false;
    for (size_t i = 0; i < best_metrics_.size(); ++i) {
      better |= save_if_best(progress, result.metrics, control, i);
    }
    // The regular checkpoint of this step has the former best score; a resumed run needs the new.
    if (better && last_place_ == checkpoint_place(progress)) {
      save_regular(run, progress, control, regular_parts());
    }
  }

  void after_train(const RunInfo& run, const Progress&) override {
    if (!params_.published_keys || !run.is_main()) return;
    std::vector<std::string> files;
    if (params_.save_last && !last_path_.empty()) files.push_back(last_path_);
    for (size_t i = 0; i < best_metrics_.size(); ++i) {
      if (const Value* best = facts_->find(info_key("best_ckpt", i))) {
        files.push_back(best->as_string());
      }
    }
    for (const auto& file : files) publish(file);
  }

 private:
  static bool is_known(const std::string& metric, const std::vector<std::string>& known) {
    return std::find(known.begin(), known.end(), metric) != known.end();
  }
  static std::string unknown_metric(const std::string& metric,
                                    const std::vector<std::string>& known) {
    return text("no metric is called '", metric, "'.", did_you_mean(metric, known),
                " Known: ", join(known, ", "));
  }
  int64_t step_of(const Progress& progress) const {
    return params_.by_epoch ? progress.epoch : progress.iter;
  }
  bool is_multiple(int64_t step) const {
    return (step - params_.save_begin) % params_.interval == 0;
  }
  SaveParts regular_parts() const {
    return {.optimizer = params_.save_optimizer,
            .schedulers = params_.save_param_scheduler,
            .progress = true};
  }
  /// Iteration or epoch of the last step; "2_iter_70" in the middle of the third epoch.
  std::string checkpoint_place(const Progress& progress) const {
    if (!params_.by_epoch) return text(progress.iter);
    return progress.ends_pass() ? text(progress.epoch)
                                : text(progress.epoch, "_iter_", progress.iter);
  }
  /// The same with the values that its name carries. A file that is written anew keeps its name.
  std::string checkpoint_id(const Progress& progress) const {
    const std::string place = checkpoint_place(progress);
    return place == last_place_ ? last_id_ : place + scalars_of_name();
  }
  /// "-loss_0.4312-mIoU_45.20"; values that are not known yet are left out.
  std::string scalars_of_name() const {
    std::string out;
    for (const auto& name : params_.name_scalars) {
      std::string shown;
      if (records_->train.has(name)) {
        shown = printed("%.4f", records_->train.mean(name, 0));
      } else if (records_->eval.has(name)) {
        shown = printed("%.2f", records_->eval.current(name));
      } else {
        continue;
      }
      std::string written = name;
      std::replace(written.begin(), written.end(), '/', '_');
      out += "-" + written + "_" + shown;
    }
    return out;
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

  void save_regular(const RunInfo& run, const Progress& progress, RunControl& control,
                    const SaveParts& parts) {
    const std::string current = checkpoint_id(progress);
    last_place_ = checkpoint_place(progress);
    std::vector<std::string> kept = kept_ids();
    std::erase(kept, current);
    kept.push_back(current);
    // Those about to be deleted are listed too: a run killed before deletes them later.
    if (params_.max_keep_ckpts > 0) set_kept_ids(kept);
    last_path_ = folder_ + "/" + file_name(current);
    last_id_ = current;
    facts_->set("last_ckpt", last_path_);
    std::vector<std::string> surplus;
    if (params_.max_keep_ckpts > 0) {
      const auto most = static_cast<size_t>(params_.max_keep_ckpts);
      const auto count = static_cast<std::ptrdiff_t>(kept.size() - std::min(most, kept.size()));
      for (const auto& id : std::vector(kept.begin(), kept.begin() + count)) {
        surplus.push_back(folder_ + "/" + file_name(id));
      }
      kept.erase(kept.begin(), kept.begin() + count);
    }
    // Files are deleted only when the new one is there: there are never fewer than asked for.
    control.save_checkpoint(last_path_, parts, [&run, path = last_path_, surplus] {
      write_last_checkpoint(run, path);
      std::error_code ignored;
      for (const std::string& file : surplus) fs::remove(file, ignored);
    });
    if (params_.max_keep_ckpts > 0) set_kept_ids(kept);
  }

  std::vector<std::string> kept_ids() const {
    std::vector<std::string> out;
    if (const Value* ids = facts_->find("keep_ckpt_ids")) {
      for (const Value& id : ids->as_list()) {
        out.push_back(id.is_string() ? id.as_string() : text(id.as_int()));
      }
    }
    return out;
  }
  void set_kept_ids(const std::vector<std::string>& kept) {
    Value ids = Value::list();
    for (const std::string& id : kept) {
      // Numbers, as MMEngine keeps them; it fills any other id into its template as well.
      const bool number = id.find_first_not_of("0123456789") == std::string::npos;
      ids.push_back(number ? Value(int64_t{std::stoll(id)}) : Value(id));
    }
    facts_->set("keep_ckpt_ids", ids);
  }

  /// \return whether the i-th metric is better than ever before.
  bool save_if_best(const Progress& progress, const Scalars& metrics, RunControl& control,
                    size_t i) {
    const std::string& metric = best_metrics_[i];
    std::vector<std::string> names;
    for (const auto& [name, value] : metrics) names.push_back(name);
    if (!is_known(metric, names)) {
      throw DataError("CheckpointHook: save_best: " + unknown_metric(metric, names));
    }
    const double score = *find_scalar(metrics, metric);
    const bool greater = checkpoint_rule(params_, i, metric).value_or("greater") == "greater";
    const Value* before = facts_->find(info_key("best_score", i));
    const double best = before    ? before->as_float()
                        : greater ? -std::numeric_limits<double>::infinity()
                                  : std::numeric_limits<double>::infinity();
    // An absent class has a score of NaN, which is never the best.
    if (!(greater ? score > best : score < best)) return false;

    const int64_t step = step_of(progress);
    std::string name = "best_" + metric + "_" + file_name(text(step) + scalars_of_name());
    std::replace(name.begin(), name.end(), '/', '_');
    const std::string path = folder_ + "/" + name;
    std::string previous;
    if (const Value* known = facts_->find(info_key("best_ckpt", i))) previous = known->as_string();
    facts_->set(info_key("best_score", i), score);
    facts_->set(info_key("best_ckpt", i), path);
    const std::string report =
        text("The best checkpoint with ", printed("%.4f", score), " ", metric, " at ", step, " ",
             params_.by_epoch ? "epoch" : "iter", " is saved to ", name, ".");
    control.save_checkpoint(path, {.optimizer = false, .schedulers = false, .progress = false},
                            [previous, name, report, folder = folder_] {
                              if (!previous.empty()) remove_previous_best(previous, name, folder);
                              log::info(report);
                            });
    return true;
  }

  static void remove_previous_best(const std::string& previous, const std::string& current_name,
                                   const std::string& folder) {
    // In a moved work dir it is beside the new one, not at its old path.
    for (const auto& old : {previous, folder + "/" + fs::path(previous).filename().string()}) {
      std::error_code ignored;
      if (fs::path(old).filename() != current_name && fs::remove(old, ignored)) {
        log::info("The previous best checkpoint ", old, " is removed");
      }
    }
  }

  void publish(const std::string& path) const;

  Params params_;
  Records* records_ = nullptr;
  Value* facts_ = nullptr;
  std::vector<std::string> best_metrics_;
  std::string folder_, last_path_;
  std::string last_place_, last_id_;  ///< of the last regular checkpoint
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
