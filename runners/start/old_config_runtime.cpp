// Hooks, records, environment and start of configurations of MMSegmentation 0.x.
#include "registry/text.hpp"
#include "runners/start/old_config_parts.hpp"

namespace seg {
namespace {

class RuntimeTranslation {
 public:
  RuntimeTranslation(const Config& old, Config& tree, OldNotes& notes)
      : old_(old), tree_(tree), notes_(notes), by_epoch_(old_length(old).by_epoch) {}

  void translate() {
    // The hooks that runners of 0.x have without being told.
    hooks_ = placed_map(old_.origin);
    hooks_.set("timer", typed_map("IterTimerHook", old_.origin));
    add_logger();
    hooks_.set("param_scheduler", typed_map("ParamSchedulerHook", old_.origin));
    add_checkpoints();
    hooks_.set("sampler_seed", typed_map("DistSamplerSeedHook", old_.origin));
    hooks_.set("visualization", typed_map("SegVisualizationHook", old_.origin));
    tree_.set("default_hooks", std::move(hooks_));
    add_custom_hooks();
    add_environment();
    add_start();
    add_randomness();
    leave_out_others();
  }

 private:
  const Config* value(const char* key) const { return old_value(old_, key); }

  void add_logger() {
    const Config* log = value("log_config");
    if (!log || !log->is_map()) return;
    OldOptions options(log, "log_config");
    Config logger = typed_map("LoggerHook", log->origin);
    if (const Config* interval = options.take("interval")) logger.set("interval", *interval);
    if (!by_epoch_) logger.set("log_metric_by_epoch", placed(false, log->origin));
    hooks_.set("logger", std::move(logger));
    Config processor = placed_map(log->origin);
    processor.set("by_epoch", placed(by_epoch_, log->origin));
    tree_.set("log_processor", std::move(processor));
    if (const Config* writers = options.take("hooks")) add_back_ends(*writers);
    options.leave_out_rest(notes_);
  }

  void add_back_ends(const Config& writers) {
    Config back_ends = placed_list(writers.origin, {typed_map("LocalVisBackend", writers.origin)});
    for (size_t i = 0; i < writers.list.size(); ++i) {
      const Config& writer = writers.list[i];
      const std::string type = old_type(writer);
      if (type == "TensorboardLoggerHook") {
        back_ends.list.push_back(typed_map("TensorboardVisBackend", writer.origin));
      } else if (type != "TextLoggerHook") {
        notes_.left_out(writer.origin, text("log_config.hooks.", i),
                        text("there is no ", type,
                             " here. LocalVisBackend writes values as JSON lines, "
                             "CSVVisBackend as a table"));
      }
    }
    Config visualizer = typed_map("SegLocalVisualizer", writers.origin);
    visualizer.set("vis_backends", std::move(back_ends));
    visualizer.set("name", placed("visualizer", writers.origin));
    tree_.set("visualizer", std::move(visualizer));
  }

  void add_checkpoints() {
    const Config* evaluation = value("evaluation");
    OldOptions best(evaluation, "evaluation");
    const Config::Item* given = old_.find("checkpoint_config");
    if (given && given->value.is_null()) {
      Config none = Config::null();
      none.origin = given->value.origin;
      hooks_.set("checkpoint", std::move(none));
      return;
    }
    const Config* checkpoint = value("checkpoint_config");
    if (!checkpoint && !best.has("save_best")) return;
    OldOptions options(checkpoint, "checkpoint_config");
    const Origin origin = checkpoint ? checkpoint->origin : evaluation->origin;
    Config out = typed_map("CheckpointHook", origin);
    const Config* by_epoch = options.take("by_epoch");
    out.set("by_epoch", by_epoch ? *by_epoch : placed(by_epoch_, origin));
    for (const char* key : {"save_best", "rule", "greater_keys", "less_keys"}) {
      if (const Config* option = best.take(key)) out.set(key, *option);
    }
    options.ignore({"type", "create_symlink", "meta", "sync_buffer", "file_client_args"});
    options.move_rest(out);
    hooks_.set("checkpoint", std::move(out));
    // What evaluation says besides of when, what and the best.
    best.ignore({"interval", "start", "metric", "by_epoch", "pre_eval", "efficient_test",
                 "gpu_collect", "tmpdir", "broadcast_bn_buffer", "type", "nan_to_num", "beta",
                 "out_dir", "file_client_args", "dynamic_intervals", "classwise", "logger"});
    best.leave_out_rest(notes_);
  }

  void add_custom_hooks() {
    const Config* old = value("custom_hooks");
    if (!old) return;
    Config hooks = placed_list(old->origin);
    for (size_t i = 0; i < old->list.size(); ++i) {
      const Config& hook = old->list[i];
      if (old_type(hook) != "EMAHook") {
        hooks.list.push_back(hook);
        continue;
      }
      OldOptions options(&hook, text("custom_hooks.", i));
      Config out = placed_map(hook.origin);
      options.ignore({"resume_from"});
      if (options.take("warm_up")) {
        notes_.add(hook.origin, options.path(), text("custom_hooks.", hooks.list.size(), ".type"),
                   "0.x averages over fewer steps in the first 'warm_up' ones; here 'momentum' "
                   "counts from the first step");
      }
      options.move_rest(out);
      hooks.list.push_back(std::move(out));
    }
    tree_.set("custom_hooks", std::move(hooks));
  }

  void add_environment() {
    Config env = placed_map(old_.origin);
    if (const Config* benchmark = value("cudnn_benchmark")) env.set("cudnn_benchmark", *benchmark);
    Config processes = placed_map(old_.origin);
    for (const char* key : {"mp_start_method", "opencv_num_threads"}) {
      if (const Config* option = value(key)) processes.set(key, *option);
    }
    if (!processes.map.empty()) env.set("mp_cfg", std::move(processes));
    if (const Config* dist = value("dist_params")) env.set("dist_cfg", *dist);
    if (const Config* device = value("device")) env.set("device", *device);
    if (!env.map.empty()) tree_.set("env_cfg", std::move(env));
  }

  void add_start() {
    const Config* from = value("resume_from");
    const Config* weights = value("load_from");
    const Config* resume = value("auto_resume");
    if (from) {
      tree_.set("load_from", *from);
      tree_.set("resume", placed(true, from->origin));
    } else if (old_true(resume)) {
      // The newest checkpoint of the work dir, as in 0.x; `load_from` would be resumed instead.
      tree_.set("resume", *resume);
      if (weights) {
        notes_.add(weights->origin, "load_from", "load_from",
                   "0.x starts from these weights only where the work dir has no checkpoint to "
                   "resume; here 'resume' continues this file");
        tree_.set("load_from", *weights);
      }
    } else {
      if (weights) tree_.set("load_from", *weights);
      tree_.set("resume", placed(false, old_.origin));
    }
  }

  void add_randomness() {
    Config randomness = placed_map(old_.origin);
    for (const char* key : {"seed", "deterministic"}) {
      if (const Config* option = value(key)) randomness.set(key, *option);
    }
    if (const Config* differ = value("diff_seed")) randomness.set("diff_rank_seed", *differ);
    if (!randomness.map.empty()) tree_.set("randomness", std::move(randomness));
  }

  void leave_out_others() {
    if (const Config* workflow = value("workflow"); workflow && workflow->list.size() > 1) {
      notes_.left_out(workflow->origin, "workflow",
                      "validations are those of train_cfg.val_interval, and no losses of "
                      "validation data are computed");
    }
    for (const char* key : {"momentum_config", "ipu_options"}) {
      if (const Config* option = value(key)) {
        notes_.left_out(option->origin, key, kNothingLikeIt);
      }
    }
  }

  const Config& old_;
  Config& tree_;
  OldNotes& notes_;
  bool by_epoch_;
  Config hooks_;
};

}  // namespace

void translate_old_runtime(const Config& old, Config& tree, OldNotes& notes) {
  RuntimeTranslation(old, tree, notes).translate();
}

}  // namespace seg
