#include "runners/train/training_run.hpp"

#include <chrono>
#include <ctime>
#include <filesystem>
#include <random>
#include <thread>

#include "registry/log.hpp"
#include "runners/checkpoint/run_state.hpp"
#include "runners/evaluate/corrupt_samples.hpp"
#include "runners/evaluate/evaluation_run.hpp"
#include "runners/hooks/run_context.hpp"
#include "runners/log/log_processor.hpp"
#include "runners/start/device.hpp"
#include "runners/start/environment.hpp"
#include "runners/start/parts.hpp"
#include "runners/start/processes.hpp"
#include "runners/start/signals.hpp"
#include "segcore/data/dataset_check.hpp"
#include "segcore/data/dataset_spec.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/models/nn/communicates.hpp"
#include "segcore/models/weights/load_pretrained.hpp"
#include "segcore/torch.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

Config option_value(const Config& value, const char* option) {
  Config out = value;
  out.origin.file = std::make_shared<const std::string>(option);
  return out;
}

/// The first rank's number in all of them.
int64_t agree(Communicator& communicator, int64_t value) {
  at::Tensor shared = at::tensor({value}, at::kLong);
  communicator.broadcast_(shared, 0);
  return shared.item<int64_t>();
}

std::string stamp_of(int64_t seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  char buffer[32];
  std::strftime(buffer, sizeof(buffer), "%Y%m%d_%H%M%S", std::localtime(&time));
  return buffer;
}

/// Makes <work_dir>/<time> for this launch. Two launches within one second get different ones.
std::string make_log_folder(const std::string& work_dir, Communicator& communicator) {
  int64_t seconds = 0;
  if (communicator.rank() == 0) {
    make_folders(work_dir);
    do {
      if (seconds != 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
      seconds = static_cast<int64_t>(std::time(nullptr));
    } while (!fs::create_directory(work_dir + "/" + stamp_of(seconds)));
    make_folders(work_dir + "/" + stamp_of(seconds) + "/vis_data");
  }
  return stamp_of(agree(communicator, seconds));
}

/// This process, as far as it needs no other and writes nothing: its device, its random numbers.
struct ProcessStart {
  ProcessStart(const RunConfig& config, std::optional<uint64_t> resumed_seed)
      : device(choose_device(config.env_cfg.device, local_rank(config.launcher))),
        place(launch_place(config.launcher)) {
    log::set_rank(place.rank);
    log::set_level(config.log_level);
    apply_environment(config.env_cfg, config.randomness.deterministic);
    if (resumed_seed) {
      seed = *resumed_seed;
    } else if (config.randomness.seed) {
      seed = static_cast<uint64_t>(*config.randomness.seed);
    } else {
      // As MMEngine draws it: below 2^31, so that it can be written into a config.
      seed = std::random_device{}() >> 1;
    }
    torch::manual_seed(seed);
  }

  c10::Device device;
  LaunchPlace place;
  uint64_t seed = 0;  ///< where none is given, each process has drawn its own
};

/// What training and testing have in common: the joined processes, their folders, their log.
class RunSession {
 public:
  /// \param said_before  what was logged while the parts were built.
  RunSession(const RunConfig& config, const ProcessStart& start, RunParts& parts,
             log::Held& said_before)
      : hooks_(std::move(parts.hooks)), model_(std::move(parts.model)) {
    context.config = &config;
    context.device = start.device;
    communicator_ = join_processes(config.launcher, config.env_cfg, context.device);
    context.communicator = communicator_.get();
    context.work_dir = config.work_dir.value_or("./work_dirs/" + config.stem());
    context.timestamp = make_log_folder(context.work_dir, *communicator_);
    context.log_dir = context.work_dir + "/" + context.timestamp;
    context.experiment_name =
        config.experiment_name.value_or(config.stem()) + "_" + context.timestamp;
    if (context.is_main()) log::open_file(context.log_dir + "/" + context.timestamp + ".log");
    agree_on_seed(start.seed);
    log::info(environment_text(context));
    log::info("Config:\n", dump_yaml(config.tree));
    said_before.release();
    visualizer_ = build_visualizer(
        config, {.folder = context.log_dir + "/vis_data", .timestamp = context.timestamp});
    context.visualizer = visualizer_.get();
    context.hooks = &hooks_;
    connect_modules(*model_, communicator_.get());
    context.model = model_.get();
    std::string lines;
    for (const HookEntry& entry : hooks_) {
      std::string name = priority_text(entry.hook->priority());
      name.resize(std::max<size_t>(name.size(), 12), ' ');
      lines += text("\n(", name, ") ", entry.type);
    }
    log::info("Hooks will be executed in the following order:", lines);
  }

  RunContext context;

 private:
  /// The first process's seed becomes that of all, and they go on as it does: as if each had built
  /// its model with that seed. Under `diff_rank_seed` the others begin anew, each in its own way.
  void agree_on_seed(uint64_t drawn) {
    context.seed = static_cast<uint64_t>(agree(*communicator_, static_cast<int64_t>(drawn)));
    if (communicator_->size() == 1) return;
    if (context.config->randomness.diff_rank_seed) {
      const auto rank = static_cast<uint64_t>(communicator_->rank());
      if (rank > 0) torch::manual_seed(context.seed + rank);
      return;
    }
    at::Tensor state = generator_state(context);
    communicator_->broadcast_(state, 0);
    set_generator_state(context, state);
  }

  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<Visualizer> visualizer_;
  std::vector<HookEntry> hooks_;
  std::shared_ptr<Segmentor> model_;
};

class TrainingRun {
 public:
  TrainingRun(const RunConfig& config, const ProcessStart& start, RunParts parts,
              log::Held& said_before, std::optional<FoundCheckpoint> resumed)
      : config_(config),
        session_(config, start, parts, said_before),
        context_(session_.context),
        loop_(std::move(parts.loop)),
        loader_(*config.train_dataloader, std::move(parts.train_dataset),
                {.seed = context_.seed,
                 .rank = context_.communicator->rank(),
                 .world_size = context_.communicator->size(),
                 .training = true}),
        optimizer_(std::move(parts.optimizer)),
        schedulers_(std::move(parts.schedulers)) {
    if (resumed && config.randomness.seed &&
        static_cast<uint64_t>(*config.randomness.seed) != context_.seed) {
      log::warn("randomness.seed is ", *config.randomness.seed, ", the checkpoint goes on with ",
                context_.seed);
    }
    context_.train_loader = &loader_;
    context_.epoch_length = static_cast<int64_t>(loader_.batches_per_epoch());
    context_.by_epoch = loop_->by_epoch();
    context_.max_iters = loop_->max_iters(context_.epoch_length);
    context_.max_epochs = loop_->max_epochs();
    context_.train_log = ScalarHistory(history_length(context_));
    check_data(loader_.dataset(), "train");
    if (parts.val) build_validation(std::move(*parts.val));
    reducer_ = make_reducer(*context_.communicator, *context_.model, config.find_unused_parameters);
    // The reducer's buckets are the gradients.
    optimizer_->keep_gradients(reducer_ != nullptr);
    context_.optimizer = optimizer_.get();
    context_.schedulers = &schedulers_;
    begin_from(std::move(resumed));
    write_config();
  }

  void run() {
    watch_stop_signals();
    context_.model->train();
    call_hooks(context_, &Hook::before_train);
    loader_.start(static_cast<uint64_t>(context_.iter), static_cast<uint64_t>(context_.max_iters));
    if (context_.validation_due) {
      validate();
      stop_if_asked();
    }
    while (context_.iter < context_.max_iters && !context_.stop_training) {
      step();
      if (context_.iter % context_.epoch_length == 0) tell_corrupt();
      stop_if_asked();
      if (context_.validation_due) validate();
      stop_if_asked();
    }
    loader_.stop();
    tell_corrupt();
    call_hooks(context_, &Hook::after_train);
    context_.visualizer->flush();
  }

 private:
  void build_validation(EvaluationParts parts) {
    validation_ = std::make_unique<EvaluationRun>(*config_.val_dataloader, std::move(parts),
                                                  /*tta=*/false, context_);
    context_.metric_names = validation_->metric_names(*context_.communicator);
    check_data(validation_->dataset(), "val");
  }

  /// Missing files and wrong labels are told now, and not after hours.
  void check_data(const Dataset& dataset, const char* name) const {
    if (!context_.is_main()) return;
    DatasetCheckParams params;
    params.also_ignored.push_back(255);
    const Config* ignored = config_.tree.at_path("model.decode_head.ignore_index");
    Diagnostics unused;
    if (ignored) {
      if (const auto label = Convert<int64_t>::from(*ignored, "", unused)) {
        params.also_ignored.push_back(*label);
      }
    }
    log::info(check_dataset(dataset, name, params));
  }

  void begin_from(std::optional<FoundCheckpoint> resumed) {
    if (resumed) {
      const ResumePoint point =
          load_run_state(context_, std::move(resumed->contents), resumed->path);
      context_.iter = point.iter;
      context_.epoch = point.epoch;
      context_.validation_due = point.validation_due && validation_ != nullptr;
      log::info("resumed from ", resumed->path, ", epoch: ", context_.epoch,
                ", iter: ", context_.iter);
      if (context_.iter >= context_.max_iters) {
        log::warn("the checkpoint has done all ", context_.max_iters, " iterations already");
      }
      return;
    }
    optimizer_->set_progress(0, context_.max_iters);
    begin_with_weights();
  }

  /// Reads the files of `init_cfg`, then `load_from`, which wins. It is looked at first, since it
  /// often makes the others needless.
  void begin_with_weights() {
    if (!config_.load_from) {
      load_pretrained_modules(*context_.model);
      return;
    }
    const std::string& file = *config_.load_from;
    const Value weights = weights_for(*context_.model, {.checkpoint = file});
    const LoadReport report = load_weights(*context_.model, weights, file);
    if (load_pretrained_modules(*context_.model, report.matched)) {
      load_state_dict(*context_.model, weights, {}, file);
    }
  }

  void write_config() const {
    if (!context_.is_main()) return;
    const std::string yaml = dump_yaml(config_.tree, /*origins=*/true);
    write_file_atomically(context_.work_dir + "/" + config_.stem() + ".yaml", yaml);
    context_.visualizer->add_config(dump_yaml(config_.tree));
  }

  void step() {
    context_.phase = Phase::kTrain;
    context_.batch_index = context_.iter % context_.epoch_length;
    context_.batch_count = context_.epoch_length;
    context_.end_of_epoch = false;
    const auto batch = loader_.next();
    SEG_CHECK(batch.has_value(), "the loader of training ended at iteration ", context_.iter);
    context_.batch = &*batch;
    call_hooks(context_, &Hook::before_iter);

    Segmentor& model = *context_.model;
    const ModelInput input = model.data_preprocessor()(*batch, /*training=*/true, context_.device);
    LossMap losses;
    if (reducer_) reducer_->before_forward();
    try {
      const auto precision = optimizer_->precision();
      losses = model.loss(input.images, Targets(input));
    } catch (const c10::Error&) {
      check_bands(model, input);
      throw;
    }
    const at::Tensor total = total_loss(losses);
    const auto update = [&] { optimizer_->update_params(total); };
    if (reducer_ && optimizer_->will_update()) {
      reducer_->average(total, update);
    } else {
      update();
    }
    context_.grad_norm = optimizer_->grad_norm();
    context_.losses.clear();
    context_.losses.emplace_back("loss", total.detach());
    for (const auto& [name, value] : losses) context_.losses.emplace_back(name, value.detach());

    ++context_.iter;
    if (context_.by_epoch && context_.iter % context_.epoch_length == 0) {
      ++context_.epoch;
      context_.end_of_epoch = true;
    }
    context_.validation_due =
        validation_ && loop_->validates_after(context_.iter, context_.epoch_length);
    call_hooks(context_, &Hook::after_iter);
    context_.batch = nullptr;
  }

  void validate() {
    context_.rng_before_val = generator_state(context_);
    const bool finished = validation_->run(context_, Phase::kVal);
    if (!finished) return;
    context_.validation_due = false;
    context_.rng_before_val.reset();
  }

  /// How many samples of training were found corrupt, where that are more than before.
  void tell_corrupt() {
    const int64_t count = count_corrupt(loader_.dataset(), *context_.communicator);
    if (count == told_corrupt_) return;
    told_corrupt_ = count;
    if (!context_.is_main()) return;
    log::warn("train: ", count, " of ", loader_.dataset().size(),
              count == 1 ? " samples is corrupt and was" : " samples are corrupt and were",
              " replaced by others");
  }

  /// Writes a checkpoint and ends the run, where a signal asked for it. All ranks decide alike.
  void stop_if_asked() {
    int signal = stop_signal();
    if (context_.communicator->size() > 1) {
      at::Tensor asked = at::tensor({signal}, at::kLong);
      context_.communicator->all_reduce_sum_(asked);
      if (signal == 0) signal = static_cast<int>(asked.item<int64_t>());
    }
    if (signal == 0) return;
    loader_.stop();
    tell_corrupt();
    call_hooks(context_, &Hook::on_stop);
    if (context_.last_saved_iter != context_.iter) {
      // The run has no CheckpointHook.
      const std::string path = text(context_.work_dir, "/iter_", context_.iter, ".pth");
      context_.runtime_info.set("last_ckpt", path);
      save_run_state(context_, path);
      write_last_checkpoint(context_, path);
    }
    context_.visualizer->flush();
    throw RunEnded(20,
                   text("stopped by ", stop_signal_name(signal), " after iteration ", context_.iter,
                        "; the checkpoint is ", context_.runtime_info.at("last_ckpt").as_string(),
                        "; --resume goes on from there"));
  }

  const RunConfig& config_;
  RunSession session_;
  RunContext& context_;
  std::unique_ptr<TrainLoop> loop_;
  DataLoader loader_;
  std::unique_ptr<EvaluationRun> validation_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<OptimWrapper> optimizer_;
  std::vector<std::unique_ptr<ParamScheduler>> schedulers_;
  int64_t told_corrupt_ = 0;
};

/// The checkpoint of `load_from`. What is wrong with it is told with the line that names it.
FoundCheckpoint read_load_from(const RunConfig& config) {
  try {
    std::string path = resolve_checkpoint(*config.load_from);
    Value contents = read_checkpoint(path);
    return {std::move(path), std::move(contents)};
  } catch (const CheckpointError& e) {
    const Config::Item* item = config.tree.find("load_from");
    if (!item) throw;
    Diagnostics problems;
    problems.error(item->value.origin, config.resume ? "" : "load_from", e.what());
    throw ConfigError(problems);
  }
}

/// What a run that is to be resumed goes on from.
std::optional<FoundCheckpoint> resume_source(const RunConfig& config) {
  if (!config.resume) return std::nullopt;
  if (config.load_from) return read_load_from(config);
  const std::string work_dir = config.work_dir.value_or("./work_dirs/" + config.stem());
  auto found = find_run_state(work_dir);
  if (!found) log::warn(work_dir, " holds no checkpoint to go on from: the run begins anew");
  return found;
}

}  // namespace

void apply_options(Config& tree, const TrainOptions& options) {
  if (options.work_dir) {
    tree.set("work_dir", option_value(Config::of(*options.work_dir), "--work-dir"));
  }
  if (options.launcher) {
    tree.set("launcher", option_value(Config::of(*options.launcher), "--launcher"));
  }
  if (options.resume) {
    tree.set("resume", option_value(Config::of(true), "--resume"));
    // As in MMEngine, `--resume` alone takes the newest checkpoint, whatever load_from says.
    tree.set("load_from",
             option_value(options.resume_from ? Config::of(*options.resume_from) : Config::null(),
                          "--resume"));
  }
  if (options.amp) {
    auto* wrapper = tree.find("optim_wrapper");
    if (wrapper && wrapper->value.is_map()) {
      wrapper->value.set("type", option_value(Config::of("AmpOptimWrapper"), "--amp"));
      if (!wrapper->value.find("loss_scale")) {
        wrapper->value.set("loss_scale", option_value(Config::of("dynamic"), "--amp"));
      }
    }
  }
}

void apply_options(Config& tree, const TestOptions& options) {
  if (options.work_dir) {
    tree.set("work_dir", option_value(Config::of(*options.work_dir), "--work-dir"));
  }
  if (options.launcher) {
    tree.set("launcher", option_value(Config::of(*options.launcher), "--launcher"));
  }
  if (options.show_dir) {
    auto* hooks = tree.find("default_hooks");
    if (!hooks || !hooks->value.is_map()) {
      tree.set("default_hooks", parse_config("{}", "--show-dir"));
      hooks = tree.find("default_hooks");
    }
    if (!hooks->value.find("visualization")) {
      hooks->value.set("visualization",
                       parse_config("{type: SegVisualizationHook, interval: 1}", "--show-dir"));
    }
    Config& hook = hooks->value.find("visualization")->value;
    hook.set("draw", option_value(Config::of(true), "--show-dir"));
    hook.set("interval", option_value(Config::of(int64_t{1}), "--show-dir"));
    hook.set("out_dir", option_value(Config::of(*options.show_dir), "--show-dir"));
  }
  if (options.tta) {
    const auto* pipeline = tree.find("tta_pipeline");
    Config* dataset = nullptr;
    if (auto* loader = tree.find("test_dataloader"); loader && loader->value.is_map()) {
      auto* item = loader->value.find("dataset");
      if (item && item->value.is_map()) dataset = &item->value;
    }
    if (!pipeline || pipeline->value.is_null() || !dataset) {
      Diagnostics problems;
      problems.error(tree.origin, "",
                     text("--tta needs '", dataset ? "tta_pipeline" : "test_dataloader.dataset",
                          "' in the configuration"));
      throw ConfigError(problems);
    }
    set_dataset_pipeline(*dataset, pipeline->value);
  }
}

void run_training(const RunConfig& config) {
  if (!config.train_cfg) {
    Diagnostics problems;
    problems.error(config.tree.origin, "", "training needs 'train_cfg' in the configuration");
    throw ConfigError(problems);
  }
  // Before anything is built or written: a wrong name is the most common mistake.
  auto resumed = resume_source(config);
  // Before anything is built or written, although the run reads it again: files are mapped.
  if (!resumed && config.load_from) read_load_from(config);
  const ProcessStart start(config, resumed ? seed_of_run_state(resumed->contents) : std::nullopt);
  log::Held said_before;
  RunParts parts =
      build_parts(config, {.train = true, .place = start.place, .device = start.device});
  said_before.stop();
  TrainingRun(config, start, std::move(parts), said_before, std::move(resumed)).run();
}

Scalars run_test(const RunConfig& config, const std::string& checkpoint,
                 const TestOptions& options) {
  if (!config.test_dataloader) {
    Diagnostics problems;
    problems.error(config.tree.origin, "", "testing needs 'test_dataloader' in the configuration");
    throw ConfigError(problems);
  }
  // Before anything is written: a wrong name is the most common mistake.
  const Value contents = read_checkpoint(resolve_checkpoint(checkpoint));
  const ProcessStart start(config, std::nullopt);
  log::Held said_before;
  RunParts parts =
      build_parts(config, {.test = true, .place = start.place, .device = start.device});
  said_before.stop();
  RunSession session(config, start, parts, said_before);
  RunContext& context = session.context;
  context.phase = Phase::kTest;
  EvaluationRun test(*config.test_dataloader, std::move(*parts.test), options.tta, context);
  if (options.out) test.write_predictions(*options.out);
  const LoadReport report = load_whole_model(*context.model, contents, checkpoint);
  if (!report.exact()) log::warn(checkpoint, ":\n", report.text());
  if (const Value* meta = contents.find("meta")) {
    if (const Value* iter = meta->find("iter"); iter && iter->is_int())
      context.iter = iter->as_int();
    if (const Value* epoch = meta->find("epoch"); epoch && epoch->is_int()) {
      context.epoch = epoch->as_int();
    }
  }
  log::info("Load checkpoint from ", checkpoint);
  watch_stop_signals();
  if (!test.run(context, Phase::kTest)) {
    throw RunEnded(20, text("stopped by ", stop_signal_name(stop_signal()), " in the test"));
  }
  context.visualizer->flush();
  return context.metrics;
}

void build_all(const RunConfig& config) { build_parts(config, {.check = true}); }

}  // namespace seg
