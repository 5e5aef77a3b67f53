#include "runners/start/parts.hpp"

#include <algorithm>

#include "registry/log.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Batches of an epoch where the size of the data set is not known: so many that no schedule is
/// taken for one that begins after the end.
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
      parts_.model->init_weights();
      if (!wanted_.device.is_cpu()) parts_.model->to(wanted_.device);
    });
    check_class_counts();
    if (wanted_.train || all) build_training();
    attempt("default_hooks", [&] { parts_.hooks = build_hooks(config_); });
    attempt("visualizer", [&] { build_visualizer(config_, {}); });
    errors_.throw_if_any();
    return std::move(parts_);
  }

 private:
  /// The keys of a phase at the top level.
  struct PhaseKeys {
    const char *loader, *evaluator, *loop;
  };

  /// Runs a builder. What it finds wrong is told with the line of the key that names the part,
  /// where it has none of its own.
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
    attempt(key + ".dataset", [&] {
      out = wanted_.check ? lazy_dataset(loader.dataset).build() : loader.dataset.build();
    });
    return out;
  }

  EvaluationParts evaluation(const PhaseKeys& keys, const DataLoaderParams& loader,
                             const std::optional<OneOrMany<Spec<Metric>>>& evaluator,
                             const std::optional<Spec<EvalLoop>>& loop) {
    EvaluationParts out;
    out.dataset = dataset(loader, keys.loader);
    if (out.dataset && !wanted_.check) {
      batches_of(loader, keys.loader, out.dataset, /*training=*/false);
    }
    if (out.dataset && evaluator) {
      for (const auto& spec : evaluator->values) {
        attempt(keys.evaluator, [&] { out.metrics.push_back(spec.build(out.dataset->meta())); });
      }
    }
    if (loop) attempt(keys.loop, [&] { out.fp16 = loop->build()->fp16(); });
    return out;
  }

  /// Batches of this process in an epoch; many where no batch can be made. The loader of the run is
  /// another, since that knows the seed of all processes.
  int64_t batches_of(const DataLoaderParams& loader, const std::string& key,
                     const std::shared_ptr<const Dataset>& data, bool training) {
    int64_t out = kManyBatches;
    // Those with `lazy_init: true` look for their files now.
    if (!attempt(key + ".dataset", [&] { data->size(); })) return out;
    attempt(key, [&] {
      const DataLoader trial(loader, data,
                             {.seed = 0,
                              .rank = wanted_.place.rank,
                              .world_size = wanted_.place.size,
                              .training = training});
      out = static_cast<int64_t>(trial.batches_per_epoch());
    });
    return out;
  }

  /// Labels above the last output of the model would stop training in the middle.
  void check_class_counts() {
    if (!parts_.model) return;
    const int64_t outputs = parts_.model->num_classes();
    std::vector<std::vector<std::string>> told;
    const auto check = [&](const std::shared_ptr<const Dataset>& data, const char* loader) {
      if (!data) return;
      const auto& names = data->meta().classes;
      const auto classes = static_cast<int64_t>(names.size());
      if (classes == 0 || classes == outputs ||
          std::find(told.begin(), told.end(), names) != told.end()) {
        return;
      }
      told.push_back(names);
      const auto [where, path] = place_of_class_count();
      if (classes > outputs) {
        errors_.found().error(where, path,
                              text(outputs, " classes, but ", loader, "'s data set has ", classes,
                                   " (", join(names, ", "), ")"));
      } else {
        log::warn(where.text(), ": ", path, ": ", outputs, " classes, but ", loader,
                  "'s data set has only ", classes);
      }
    };
    check(parts_.train_dataset, "train_dataloader");
    if (parts_.val) check(parts_.val->dataset, "val_dataloader");
    if (parts_.test) check(parts_.test->dataset, "test_dataloader");
  }

  /// Where the configuration says how many classes the model has: in the last of its heads.
  std::pair<Origin, std::string> place_of_class_count() const {
    for (std::string path : {"model.decode_head", "model"}) {
      const Config* part = config_.tree.at_path(path);
      if (part && part->is_list() && !part->list.empty()) {
        path += text('.', part->list.size() - 1);
        part = &part->list.back();
      }
      for (const char* name : {"num_classes", "classes"}) {
        if (!part) break;
        if (const auto* item = part->find(name)) return {item->value.origin, path + "." + name};
      }
    }
    const Config* model = config_.tree.at_path("model");
    return {model ? model->origin : config_.tree.origin, "model"};
  }

  void build_training() {
    if (config_.train_cfg) attempt("train_cfg", [&] { parts_.loop = config_.train_cfg->build(); });
    if (parts_.loop) {
      ScheduleLength& length = parts_.length;
      length.epoch_length = kManyBatches;
      if (parts_.train_dataset && !wanted_.check) {
        length.epoch_length = batches_of(*config_.train_dataloader, "train_dataloader",
                                         parts_.train_dataset, /*training=*/true);
      }
      length.max_iters = parts_.loop->max_iters(length.epoch_length);
      length.max_epochs = parts_.loop->max_epochs();
    }
    if (!parts_.model || !config_.optim_wrapper) return;
    const bool built = attempt("optim_wrapper", [&] {
      parts_.optimizer = config_.optim_wrapper->build(*parts_.model);
      scale_learning_rate();
    });
    if (!built || !parts_.loop || !config_.param_scheduler) return;
    for (const auto& spec : config_.param_scheduler->values) {
      attempt("param_scheduler",
              [&] { parts_.schedulers.push_back(spec.build(*parts_.optimizer, parts_.length)); });
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
};

}  // namespace

RunParts build_parts(const RunConfig& config, const PartsWanted& wanted) {
  return PartsBuilder(config, wanted).build();
}

std::unique_ptr<Visualizer> build_visualizer(const RunConfig& config, const VisPlace& place) {
  if (config.visualizer) return config.visualizer->build(place);
  return Spec<Visualizer>::of(
             "{type: SegLocalVisualizer, name: visualizer, vis_backends: [{type: "
             "LocalVisBackend}]}")
      .build(place);
}

}  // namespace seg
