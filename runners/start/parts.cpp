#include "runners/start/parts.hpp"

#include "registry/log.hpp"
#include "runners/start/class_lists.hpp"
#include "runners/start/device.hpp"
#include "segcore/data/dataset_spec.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/evaluation/metric_names.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Batches of an epoch where the size of the data set is unknown: enough that no schedule seems to
/// begin after the end.
constexpr int64_t kManyBatches = 1'000'000;

class PartsBuilder {
 public:
  PartsBuilder(const RunConfig& config, const PartsWanted& wanted)
      : config_(config), wanted_(wanted) {}

  RunParts build() {
    const bool all = wanted_.check;
    if ((wanted_.train || all) && config_.train_dataloader) {
      parts_.train_dataset = dataset(*config_.train_dataloader, "train_dataloader");
    }
    if ((wanted_.train || all) && config_.val_dataloader) {
      parts_.val = evaluation({"val_dataloader", "val_evaluator", "val_cfg"},
                              *config_.val_dataloader, config_.val_evaluator, config_.val_cfg);
    }
    if ((wanted_.test || all) && config_.test_dataloader) {
      parts_.test = evaluation({"test_dataloader", "test_evaluator", "test_cfg"},
                               *config_.test_dataloader, config_.test_evaluator, config_.test_cfg);
    }
    if (all && config_.tta_pipeline) {
      attempt("tta_pipeline", [&] { const Pipeline pipeline(*config_.tta_pipeline); });
    }
    attempt("model", [&] {
      parts_.model = config_.model.build();
      parts_.model->initialize();
      if (!wanted_.device.is_cpu()) parts_.model->to(wanted_.device);
      parts_.model->set_memory_format(choose_memory_format(config_.env_cfg.memory_format));
    });
    if (parts_.model && !config_.freeze.empty()) {
      attempt("freeze", [&] { parts_.model->freeze(config_.freeze); });
    }
    // The names of a data set that is wrong would be compared in vain.
    if (datasets_fit_) check_classes(config_, wanted_.train, errors_.found());
    if (wanted_.train || all) build_training();
    attempt("default_hooks", [&] {
      parts_.hooks = build_hooks(config_.default_hooks,
                                 config_.custom_hooks.value_or(std::vector<Spec<Hook>>{}));
    });
    if (wanted_.train || all) {
      check_metrics();
      check_schedule_metrics();
    }
    attempt("visualizer", [&] { build_visualizer(config_, {}); });
    errors_.throw_if_any();
    if (const std::string warnings = errors_.found().warnings_text();
        !warnings.empty() && wanted_.place.rank == 0) {
      log::warn(warnings);
    }
    return std::move(parts_);
  }

 private:
  /// The keys of a phase at the top level.
  struct PhaseKeys {
    const char *loader, *evaluator, *loop;
  };

  /// Runs a builder and collects its errors; those without a line get that of the key.
  template <class Build>
  bool attempt(const std::string& key, const Build& build) {
    const Config* part = config_.tree.at_path(key);
    const Config& where = part ? *part : config_.tree;
    try {
      return errors_.attempt(build);
    } catch (const OptionError& e) {
      errors_.found().add(detail::located(e, where, key).diagnostics);
    } catch (const DataError& e) {
      errors_.found().error(where.origin, key, e.what());
    }
    return false;
  }

  std::shared_ptr<const Dataset> dataset(const DataLoaderParams& loader, const std::string& key) {
    std::shared_ptr<const Dataset> out;
    const bool built = attempt(key + ".dataset", [&] {
      out = wanted_.check ? lazy_dataset(loader.dataset).build() : loader.dataset.build();
    });
    datasets_fit_ = datasets_fit_ && built;
    return out;
  }

  EvaluationParts evaluation(const PhaseKeys& keys, const DataLoaderParams& loader,
                             const std::optional<OneOrMany<Spec<Metric>>>& evaluator,
                             const std::optional<Spec<EvalLoop>>& loop) {
    EvaluationParts out;
    out.dataset = dataset(loader, keys.loader);
    out.loader = data_loader(loader, keys.loader, out.dataset, /*training=*/false);
    if (out.dataset && evaluator) {
      for (const auto& spec : evaluator->values) {
        attempt(keys.evaluator, [&] {
          out.metrics.push_back(spec.build(out.dataset->meta()));
          require_classes(spec, *out.metrics.back(), loader.dataset, *out.dataset);
        });
      }
    }
    if (loop) attempt(keys.loop, [&] { out.fp16 = loop->build()->fp16(); });
    return out;
  }

  /// A metric without classes would count nothing and report success.
  void require_classes(const Spec<Metric>& spec, const Metric& metric, const Spec<Dataset>& from,
                       const Dataset& dataset) {
    const auto output = metric.output();
    if (!dataset.meta().classes.empty() || (output && output->only)) return;
    const auto [where, path] = innermost_dataset(from).place_of("metainfo");
    errors_.found().error(
        where, path,
        text("names no classes, which ", spec.type(), " needs. Write metainfo: {classes: [...]}"));
  }

  /// A metric that a hook waits for in vain would be missed only after the first validation.
  void check_metrics() {
    if (!parts_.val) return;
    const auto names = metric_names(parts_.val->metrics);
    if (names.empty()) return;
    for (const HookEntry& entry : parts_.hooks.entries()) {
      try {
        entry.hook->check_metrics(names);
      } catch (const OptionError& e) {
        const Spec<Hook>& spec = spec_of_hook(entry.type);
        errors_.found().add(detail::located(e, spec.config(), spec.path()).diagnostics);
      }
    }
  }

  /// The same for schedules that wait for one.
  void check_schedule_metrics() {
    if (!config_.param_scheduler) return;
    // One that could not be built is reported already, and those after it would be confused.
    if (parts_.schedulers.size() != config_.param_scheduler->values.size()) return;
    for (size_t i = 0; i < parts_.schedulers.size(); ++i) {
      const ParamScheduler& schedule = *parts_.schedulers[i];
      if (!schedule.needs_metrics()) continue;
      const Spec<ParamScheduler>& spec = config_.param_scheduler->values[i];
      if (!parts_.val) {
        const auto [where, path] = spec.place_of("");
        errors_.found().warn(where, path,
                             text(spec.type(), " acts after validations, and there are none"));
        continue;
      }
      const auto names = metric_names(parts_.val->metrics);
      if (names.empty()) continue;
      try {
        schedule.check_metrics(names);
      } catch (const OptionError& e) {
        errors_.found().add(detail::located(e, spec.config(), spec.path()).diagnostics);
      }
    }
  }

  /// The first of this type that the configuration names.
  const Spec<Hook>& spec_of_hook(const std::string& type) const {
    for (const auto& [role, spec] : config_.default_hooks) {
      if (spec && spec->type() == type) return *spec;
    }
    if (config_.custom_hooks) {
      for (const auto& spec : *config_.custom_hooks) {
        if (spec.type() == type) return spec;
      }
    }
    throw Error(text("the configuration names no ", type));
  }

  /// Null in a check, which reads no data, and where no batch can be made.
  std::unique_ptr<DataLoader> data_loader(const DataLoaderParams& loader, const std::string& key,
                                          const std::shared_ptr<const Dataset>& data,
                                          bool training) {
    std::unique_ptr<DataLoader> out;
    if (!data || wanted_.check) return out;
    // Those with `lazy_init: true` list their files now.
    if (!attempt(key + ".dataset", [&] { data->size(); })) return out;
    attempt(key, [&] {
      out = std::make_unique<DataLoader>(loader, data,
                                         LoaderPlace{.seed = 0,
                                                     .rank = wanted_.place.rank,
                                                     .world_size = wanted_.place.size,
                                                     .training = training});
    });
    return out;
  }

  void build_training() {
    if (config_.train_cfg) {
      attempt("train_cfg", [&] { parts_.length = config_.train_cfg->build(); });
    }
    if (config_.train_dataloader) {
      parts_.train_loader = data_loader(*config_.train_dataloader, "train_dataloader",
                                        parts_.train_dataset, /*training=*/true);
    }
    if (parts_.length) {
      ScheduleLength& length = parts_.schedule_length;
      length.epoch_length = parts_.train_loader
                                ? static_cast<int64_t>(parts_.train_loader->batches_per_epoch())
                                : kManyBatches;
      length.max_iters = parts_.length->max_iters(length.epoch_length);
      length.max_epochs = parts_.length->max_epochs();
    }
    if (!parts_.model || !config_.optim_wrapper) return;
    const bool built = attempt("optim_wrapper", [&] {
      parts_.optimizer = config_.optim_wrapper->build(*parts_.model);
      scale_learning_rate();
    });
    if (!built || !parts_.length || !config_.param_scheduler) return;
    for (const auto& spec : config_.param_scheduler->values) {
      attempt("param_scheduler", [&] {
        parts_.schedulers.push_back(spec.build(*parts_.optimizer, parts_.schedule_length));
      });
    }
  }

  void scale_learning_rate() {
    if (!config_.auto_scale_lr || !config_.auto_scale_lr->enable) return;
    if (!config_.train_dataloader) return;
    const auto base = config_.auto_scale_lr->base_batch_size;
    const int64_t real = config_.train_dataloader->batch_size * wanted_.place.size;
    const double ratio = static_cast<double>(real) / static_cast<double>(base);
    log::info("The learning rate is given for batches of ", base, ", this run has ", real,
              ": it is multiplied by ", ratio);
    for (ParamGroup* group : parts_.optimizer->scheduled_groups()) {
      group->hyper->lr *= ratio;
    }
  }

  const RunConfig& config_;
  const PartsWanted& wanted_;
  RunParts parts_;
  BuildErrors errors_;
  bool datasets_fit_ = true;
};

}  // namespace

RunParts build_parts(const RunConfig& config, const PartsWanted& wanted) {
  return PartsBuilder(config, wanted).build();
}

void build_all(const RunConfig& config) { build_parts(config, {.check = true}); }

std::unique_ptr<Visualizer> build_visualizer(const RunConfig& config, const VisPlace& place) {
  if (config.visualizer) return config.visualizer->build(place);
  return Spec<Visualizer>::of(
             "{type: SegLocalVisualizer, name: visualizer, vis_backends: [{type: "
             "LocalVisBackend}]}")
      .build(place);
}

}  // namespace seg
