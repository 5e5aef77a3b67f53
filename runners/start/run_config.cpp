#include "runners/start/run_config.hpp"

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>

#include "registry/log.hpp"
#include "runners/start/old_config.hpp"
#include "runners/start/processes.hpp"

namespace seg {

Schema<RandomnessParams> RandomnessParams::schema() {
  using P = RandomnessParams;
  return Schema<P>("Seed and determinism of a run.")
      .optional("seed", &P::seed, "drawn and logged where not given", at_least(0))
      .optional("deterministic", &P::deterministic,
                "only algorithms that give the same bits each time")
      .optional("diff_rank_seed", &P::diff_rank_seed,
                "dropout and initialisation differ from process to process");
}

Schema<DistParams> DistParams::schema() {
  using P = DistParams;
  return Schema<P>("Communication between processes.")
      .optional("backend", &P::backend, "on GPUs; processes on CPUs use gloo",
                one_of({"nccl", "gloo"}))
      .optional("port", &P::port, "of the first process, where the launcher sets none",
                in_range(1, 65535))
      .optional("timeout", &P::timeout,
                "seconds that a process waits for the others in one exchange (default 1800)",
                at_least(1))
      .optional("heartbeat_timeout", &P::heartbeat_timeout,
                "seconds without a sign of life after which a process counts as lost", at_least(5))
      .accepted("init_backend", "processes are always joined by torch's store");
}

Schema<MultiProcessingParams> MultiProcessingParams::schema() {
  using P = MultiProcessingParams;
  return Schema<P>("Accepted for configs of MMEngine: data are loaded by threads.")
      .optional("mp_start_method", &P::mp_start_method, "has no effect: no processes are started")
      .optional("opencv_num_threads", &P::opencv_num_threads,
                "has no effect: OpenCV's own threads are off");
}

Schema<ModelWrapperParams> ModelWrapperParams::schema() {
  using P = ModelWrapperParams;
  return Schema<P>("How several processes train one model.")
      .source("PyTorch, DistributedDataParallel")
      .optional("type", &P::type, "accepted for configs of MMEngine",
                one_of({"MMDistributedDataParallel"}))
      .optional("find_unused_parameters", &P::find_unused_parameters,
                "some parameters get no gradient in some steps (default: the top-level key)")
      .optional("static_graph", &P::static_graph,
                "the same parameters get gradients in every step: those without are found once")
      .optional("gradient_dtype", &P::gradient_dtype,
                "type in which gradients are exchanged; 16 bits halve the traffic",
                one_of({"float32", "float16", "bfloat16"}))
      .accepted("broadcast_buffers", "buffers are averaged by SyncBuffersHook, or by SyncBN")
      .accepted("detect_anomalous_params", "parameters without gradient are always named");
}

Schema<EnvParams> EnvParams::schema() {
  using P = EnvParams;
  return Schema<P>("Settings of the machine.")
      .optional("cudnn_benchmark", &P::cudnn_benchmark,
                "cuDNN tries its algorithms for each input size and takes the fastest")
      .optional("mp_cfg", &P::mp_cfg, "accepted for configs of MMEngine")
      .optional("dist_cfg", &P::dist_cfg, "communication between processes")
      .accepted("resource_limit", "limits of the system are left as they are")
      .optional("device", &P::device, "auto, cpu, cuda or cuda:N; auto takes a GPU where one is")
      .optional("allow_tf32", &P::allow_tf32,
                "matrix products on GPUs with 10 bits of mantissa (PyTorch's allow_tf32)")
      .optional(
          "memory_format", &P::memory_format,
          "how maps lie in memory: a plane for each channel (contiguous), or all channels of a "
          "pixel together (channels_last); auto: contiguous",
          one_of({"auto", "contiguous", "channels_last"}))
      .optional("num_threads", &P::num_threads,
                "threads of one operator on a CPU; the number of cores where not given",
                at_least(1))
      .validate([](const P& p, Problems& problems) {
        if (!std::regex_match(p.device, std::regex("auto|cpu|cuda(:[0-9]+)?"))) {
          problems.error("device",
                         text("expected auto, cpu, cuda or cuda:N, got '", p.device, "'"));
        }
      });
}

Schema<AutoScaleLrParams> AutoScaleLrParams::schema() {
  using P = AutoScaleLrParams;
  return Schema<P>("Scales the learning rate with the batch size of all processes.")
      .optional("enable", &P::enable, "scale it")
      .optional("base_batch_size", &P::base_batch_size,
                "the batch size that the learning rate is given for", at_least(1));
}

Schema<TtaModelParams> TtaModelParams::schema() {
  return Schema<TtaModelParams>("Averages the predictions for several augmentations.")
      .accepted("type", "there is one, SegTTAModel")
      .accepted("module", "the model of this config")
      .accepted("data_preprocessor", "that of the model");
}

namespace {

/// Reports a schedule that does not fit training of `length` of its steps.
/// \param last  no other schedule ends later.
void check_schedule(const Spec<ParamScheduler>& schedule, int64_t length, bool last,
                    Diagnostics& problems) {
  const ParamSchedulerFacts facts = schedule.facts();
  const auto warn = [&](const char* option, const std::string& what) {
    const auto [where, path] = schedule.place_of(option);
    problems.warn(where, path, what);
  };
  if (facts.begin >= length) {
    warn("begin", text("begins at step ", facts.begin, ", training ends at ", length));
    return;
  }
  std::vector<std::string> missed;
  for (const int64_t step : facts.milestones) {
    if (step >= length) missed.push_back(text(step));
  }
  if (!missed.empty()) {
    warn("milestones",
         text("training ends at step ", length, " and does not reach ", join(missed, ", ")));
  } else if (facts.end && *facts.end > length && *facts.end < kScheduleForever) {
    warn("end", text("ends at step ", *facts.end, ", training already at ", length));
  } else if (facts.end && *facts.end < length && facts.ends_at_zero && last) {
    warn("end", text("leaves a learning rate of 0 from step ", *facts.end,
                     " on, while training "
                     "goes on to ",
                     length));
  }
}

/// Schedules are written for a length of training; a change of that length alone leaves them
/// behind.
void check_schedules(const RunConfig& config, Diagnostics& problems) {
  if (!config.train_cfg || !config.param_scheduler) return;
  const TrainLengthFacts training = config.train_cfg->facts();
  const auto& schedules = config.param_scheduler->values;
  const auto last_end = [&](bool by_epoch) {
    int64_t out = 0;
    for (const Spec<ParamScheduler>& schedule : schedules) {
      const ParamSchedulerFacts facts = schedule.facts();
      out = std::max(out, facts.by_epoch == by_epoch ? facts.end.value_or(kScheduleForever)
                                                     : kScheduleForever);
    }
    return out;
  };
  for (const Spec<ParamScheduler>& schedule : schedules) {
    const ParamSchedulerFacts facts = schedule.facts();
    const auto length = facts.by_epoch ? training.max_epochs : training.max_iters;
    if (length) {
      check_schedule(schedule, *length, facts.end == last_end(facts.by_epoch), problems);
    } else if (facts.by_epoch && !facts.needs_metrics) {
      const auto [where, path] = schedule.place_of("");
      problems.warn(where, path,
                    "counts epochs (by_epoch), while training counts iterations. Write 'by_epoch: "
                    "false'");
    }
  }
}

/// " Did you mean it by 'train_dataloder' (a.yaml:3:1)?": the key that nothing uses and that is
/// nearest to a missing one; "" for none.
std::string near_key(const Config& tree, const std::string& missing) {
  for (const Config::Item& item : tree.map) {
    const auto& known = run_config_keys();
    if (std::find(known.begin(), known.end(), item.key) != known.end()) continue;
    if (did_you_mean(item.key, {missing}).empty()) continue;
    return text(". Did you mean it by '", item.key, "' (", item.key_origin.text(), ")?");
  }
  return {};
}

/// What belongs together must be given together.
void check_parts(const RunConfig& config, Diagnostics& problems) {
  const Config& tree = config.tree;
  const auto given = [&](const std::string& key) {
    const auto* item = tree.find(key);
    return item && !item->value.is_null();
  };
  const auto needs = [&](const std::string& key, const std::string& other) {
    if (given(key) && !given(other)) {
      problems.error(tree.find(key)->value.origin, key,
                     text("needs '", other, "' beside it", near_key(tree, other)));
    }
  };
  if (config.work_dir && config.work_dir->empty()) {
    problems.error(tree.find("work_dir")->value.origin, "work_dir", "is empty");
  }
  needs("train_cfg", "train_dataloader");
  needs("train_cfg", "optim_wrapper");
  for (const std::string phase : {"val", "test"}) {
    needs(phase + "_dataloader", phase + "_evaluator");
    needs(phase + "_evaluator", phase + "_dataloader");
  }
}

void set_default(Config& map, const std::string& key, const std::string& value) {
  if (!map.find(key)) {
    const Origin origin = map.origin;
    map.set(key, Config::of(value)).origin = origin;
  }
}

/// Removes from `default_hooks` entries with neither the name of a role nor a type.
void check_hook_roles(Config& hooks, Diagnostics& problems) {
  std::vector<std::string> roles;
  for (const auto& [role, type] : default_hook_roles()) roles.push_back(role);
  std::erase_if(hooks.map, [&](const Config::Item& item) {
    const bool known = std::find(roles.begin(), roles.end(), item.key) != roles.end();
    if (known || !item.value.is_map() || item.value.find("type")) return false;
    problems.error(item.key_origin, "default_hooks",
                   text("there is no role '", item.key, "'.", did_you_mean(item.key, roles),
                        " Known: ", join(roles, ", "), ". A hook of another name needs 'type'"));
    return true;
  });
}

/// Writes out the types that MMEngine implies, so that the checked and saved tree has them.
void fill_in(Config& tree, Diagnostics& problems) {
  const auto map_at = [&](const std::string& key) -> Config* {
    auto* item = tree.find(key);
    return item && item->value.is_map() ? &item->value : nullptr;
  };
  if (Config* wrapper = map_at("optim_wrapper")) set_default(*wrapper, "type", "OptimWrapper");
  if (Config* loop = map_at("train_cfg")) {
    set_default(*loop, "type",
                loop->find("max_epochs") ? "EpochBasedTrainLoop" : "IterBasedTrainLoop");
  }
  if (Config* loop = map_at("val_cfg")) set_default(*loop, "type", "ValLoop");
  if (Config* loop = map_at("test_cfg")) set_default(*loop, "type", "TestLoop");
  if (Config* visualizer = map_at("visualizer")) {
    set_default(*visualizer, "type", "SegLocalVisualizer");
  }
  if (Config* hooks = map_at("default_hooks")) {
    for (const auto& [role, type] : default_hook_roles()) {
      auto* item = hooks->find(role);
      if (item && item->value.is_map()) set_default(item->value, "type", type);
    }
    check_hook_roles(*hooks, problems);
  }
  const auto* preprocessor = tree.find("data_preprocessor");
  Config* model = map_at("model");
  if (model && preprocessor && preprocessor->value.is_map() && !model->find("data_preprocessor")) {
    model->set("data_preprocessor", preprocessor->value);
  }
}

}  // namespace

Schema<RunConfig> RunConfig::schema() {
  using P = RunConfig;
  return Schema<P>("A run: model, data, schedule and records.")
      .required("model", &P::model, "the model")
      .optional("train_dataloader", &P::train_dataloader, "training data")
      .optional("val_dataloader", &P::val_dataloader, "validation data")
      .optional("test_dataloader", &P::test_dataloader, "test data")
      .optional("optim_wrapper", &P::optim_wrapper, "how weights are updated")
      .optional("param_scheduler", &P::param_scheduler, "how learning rates change")
      .optional("train_cfg", &P::train_cfg, "length of training")
      .optional("val_cfg", &P::val_cfg, "how to validate")
      .optional("test_cfg", &P::test_cfg, "how to test")
      .optional("val_evaluator", &P::val_evaluator, "metrics of validations")
      .optional("test_evaluator", &P::test_evaluator, "metrics of tests")
      .optional("default_hooks", &P::default_hooks,
                "the usual hooks by role; null switches one off")
      .optional("custom_hooks", &P::custom_hooks, "additional hooks")
      .accepted("data_preprocessor", "used by the model where it has none of its own")
      .optional("env_cfg", &P::env_cfg, "settings of the machine")
      .optional("visualizer", &P::visualizer, "where values and pictures are recorded")
      .optional("log_processor", &P::log_processor, "format of the log")
      .optional("log_level", &P::log_level, "the least level that is logged",
                one_of({"DEBUG", "INFO", "WARNING", "ERROR"}))
      .optional("freeze", &P::freeze,
                "regular expressions: parameters with one of them in their names are not trained, "
                "and batch norms frozen whole keep their running statistics")
      .optional("load_from", &P::load_from, "checkpoint with the initial weights")
      .optional("resume", &P::resume,
                "resume from load_from, else from the newest checkpoint of the work dir")
      .optional("reset_schedule", &P::reset_schedule,
                "on resume, schedules and hyper-parameters of the optimizer follow this config "
                "and not the checkpoint")
      .optional("work_dir", &P::work_dir,
                "folder of the outputs; ./work_dirs/<config> if not given")
      .optional("randomness", &P::randomness, "seed and determinism")
      .optional("tta_model", &P::tta_model, "how augmented predictions are joined")
      .optional("tta_pipeline", &P::tta_pipeline, "the pipeline of test-time augmentation")
      .optional("launcher", &P::launcher, "launcher of the processes",
                one_of({"none", "pytorch", "slurm", "mpi"}))
      .optional("auto_scale_lr", &P::auto_scale_lr, "scaling of the learning rate")
      .optional("global_batch", &P::global_batch,
                "samples of a step over all processes, which share them equally, in place of "
                "train_dataloader.batch_size",
                at_least(1))
      .optional("experiment_name", &P::experiment_name, "name of the run in its records")
      .optional("find_unused_parameters", &P::find_unused_parameters,
                "with several processes: some parameters get no gradient in some steps")
      .optional("model_wrapper_cfg", &P::model_wrapper_cfg, "how several processes train one model")
      .accepted("default_scope", "all types are in one scope")
      .accepted("custom_imports",
                "classes of data sets are read from these Python modules, no code of "
                "theirs is run")
      .accepted("runner_type", "there is one runner")
      .accepted("sync_bn", "normalisations are what the config says")
      .validate([](const P& p, Problems& problems) {
        for (const std::string& expression : p.freeze) {
          try {
            std::regex ignored(expression);
          } catch (const std::regex_error& e) {
            problems.error("freeze",
                           text("'", expression, "' is no regular expression: ", e.what()));
          }
        }
      });
}

std::string RunConfig::stem() const { return std::filesystem::path(path).stem().string(); }

std::string RunConfig::output_folder() const { return work_dir.value_or("./work_dirs/" + stem()); }

const std::vector<std::string>& run_config_keys() {
  static const std::vector<std::string> keys = [] {
    std::vector<std::string> out;
    for (const OptionDoc& doc : run_config_docs()) out.push_back(doc.name);
    return out;
  }();
  return keys;
}

std::vector<OptionDoc> run_config_docs() { return RunConfig::schema().docs(); }

RunConfig read_run_config(Config tree, const std::string& path, Diagnostics& problems) {
  Diagnostics found;
  fill_in(tree, found);
  Config known = tree;
  const auto& keys = run_config_keys();
  std::erase_if(known.map, [&](const Config::Item& item) {
    return std::find(keys.begin(), keys.end(), item.key) == keys.end();
  });
  RunConfig config = RunConfig::schema().parse(known, "", "", found);
  if (!tree.find("model")) {
    if (const std::string near = near_key(tree, "model"); !near.empty()) {
      found.error(tree.origin, "", "there is no 'model'" + near);
    }
  }
  config.path = path;
  config.tree = std::move(tree);
  check_parts(config, found);
  check_schedules(config, found);
  problems.add(found);
  if (problems.has_errors()) throw ConfigError(problems);
  return config;
}

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides,
                          const std::function<void(Config&)>& edit) {
  Diagnostics problems;
  Config tree = load_any_config(path, overrides, problems);
  if (edit) edit(tree);
  RunConfig config = read_run_config(std::move(tree), path, problems);
  if (is_first_process(config.launcher)) {
    for (const std::string& warning : problems.warning_lines()) log::warn(warning);
  }
  return config;
}

}  // namespace seg
