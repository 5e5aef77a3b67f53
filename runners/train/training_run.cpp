#include "runners/train/training_run.hpp"

#include "registry/log.hpp"
#include "runners/checkpoint/find.hpp"
#include "runners/checkpoint/generators.hpp"
#include "runners/checkpoint/load.hpp"
#include "runners/checkpoint/train_state.hpp"
#include "runners/checkpoint/writer.hpp"
#include "runners/dist/data_errors.hpp"
#include "runners/dist/reducer.hpp"
#include "runners/evaluate/corrupt_samples.hpp"
#include "runners/evaluate/evaluation_run.hpp"
#include "runners/evaluate/object_scale.hpp"
#include "runners/log/flight_record.hpp"
#include "runners/log/records.hpp"
#include "runners/start/class_lists.hpp"
#include "runners/start/joined_run.hpp"
#include "runners/start/session.hpp"
#include "runners/start/signals.hpp"
#include "runners/train/beginning.hpp"
#include "runners/train/class_weights.hpp"
#include "runners/train/global_batch.hpp"
#include "runners/train/step.hpp"
#include "runners/train/try_one_sample.hpp"
#include "runners/train/work_dir_lock.hpp"
#include "segcore/data/dataset_check.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/models/nn/follows_progress.hpp"
#include "segcore/models/nn/uses_communicator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

class TrainingRun final : private RunControl {
 public:
  /// \param run  must outlive this one.
  TrainingRun(const RunInfo& run, RunParts parts, Beginning beginning, size_t checked)
      : run_(run),
        checked_(checked),
        config_(*run_.config),
        beginning_(std::move(beginning)),
        model_(std::move(parts.model)),
        length_(std::move(parts.length)),
        loader_(std::move(parts.train_loader)),
        optimizer_(std::move(parts.optimizer)),
        schedulers_(std::move(parts.schedulers)),
        hooks_(std::move(parts.hooks)) {
    loader_->set_seed(run_.seed);
    progress_ = {.max_iters = parts.schedule_length.max_iters,
                 .max_epochs = parts.schedule_length.max_epochs,
                 .epoch_length = parts.schedule_length.epoch_length,
                 .by_epoch = length_->by_epoch()};
    records_.train = ScalarHistory(history_length(config_.log_processor));
    if (parts.val) {
      validation_ =
          std::make_unique<EvaluationRun>(std::move(*parts.val), EvaluationRun::Options{}, run_);
    }
    visualizer_ = build_visualizer(
        config_, {.folder = run_.log_dir + "/vis_data", .timestamp = run_.timestamp});
    hooks_.call(&Hook::attach, HookTargets{.model = model_.get(),
                                           .records = &records_,
                                           .visualizer = visualizer_.get(),
                                           .log_processor = &config_.log_processor,
                                           .optimizer = optimizer_.get(),
                                           .schedulers = &schedulers_});
    state_ = {.run = &run_,
              .progress = &progress_,
              .records = &records_,
              .model = model_.get(),
              .optimizer = optimizer_.get(),
              .schedulers = &schedulers_,
              .loader = loader_.get(),
              .writer = &writer_,
              .parts = hooks_.checkpoint_parts()};
  }

  void run() {
    if (run_.is_main()) lock_.emplace(run_.work_dir);
    check_data();
    set_class_weights(*model_, loader_->dataset(), run_);
    join_models();
    begin();
    try_batches();
    write_config();
    watch_stop_signals();
    train();
    finish();
  }

 private:
  /// Missing files and wrong labels are reported now and not after hours.
  void check_data() const {
    if (!run_.is_main()) return;
    DatasetCheckParams params{.annotations = checked_};
    if (checked_ == DatasetCheckParams::kAll) params.pairs = DatasetCheckParams::kAll;
    params.also_ignored = {255, model_->ignore_index()};
    log::info(check_dataset(loader_->dataset(), "train", params));
    if (validation_) log::info(check_dataset(validation_->dataset(), "val", params));
  }

  /// Connects the models of all processes and gives them the weights of the first.
  void join_models() {
    set_communicator(*model_, run_.communicator);
    reducer_ = make_reducer(*run_.communicator, *model_, reducer_options());
    recorded_ = make_recorded_passes(*model_, *optimizer_, run_.device, run_.communicator->size());
    // The reducer's buckets are the gradients, and a record's kernels write where they were.
    optimizer_->keep_gradients(reducer_ || recorded_);
  }

  ReducerOptions reducer_options() const {
    ReducerOptions out{.find_unused = config_.find_unused_parameters};
    if (const auto& wrapper = config_.model_wrapper_cfg) {
      out.find_unused = wrapper->find_unused_parameters.value_or(out.find_unused);
      out.static_graph = wrapper->static_graph;
      out.gradient_dtype = wrapper->gradient_dtype;
    }
    return out;
  }

  void begin() {
    if (beginning_.resumed) {
      resume();
    } else {
      if (config_.resume && run_.is_main()) {
        // Scripts that are queued again rely on a start without a checkpoint; people do not.
        log::warn(run_.work_dir,
                  " holds no checkpoint to resume from: the run starts from the beginning");
      }
      report_earlier_run();
      optimizer_->set_progress(0, progress_.max_iters);
      load_initial_weights(*model_, beginning_);
    }
    beginning_ = {};
    first_iter_ = progress_.iter;
  }

  void report_earlier_run() const {
    const std::string earlier = newest_checkpoint_name(run_.work_dir);
    if (earlier.empty() || !run_.is_main()) return;
    log::warn(run_.work_dir, " holds checkpoints of an earlier run up to ", earlier,
              ", which this one replaces step by step: --resume continues that run, another "
              "--work-dir keeps it");
  }

  void resume() {
    auto& [path, contents] = *beginning_.resumed;
    if (config_.randomness.seed && static_cast<uint64_t>(*config_.randomness.seed) != run_.seed) {
      log::warn("randomness.seed is ", *config_.randomness.seed,
                ", but the checkpoint's seed is kept: ", run_.seed);
    }
    load_checkpoint(state_, std::move(contents), path);
    progress_.validation_due = progress_.validation_due && validation_;
    log::info("resumed from ", path, ", epoch: ", progress_.epoch, ", iter: ", progress_.iter);
    if (progress_.iter >= progress_.max_iters) {
      log::warn("the checkpoint has already done all ", progress_.max_iters, " iterations");
    }
  }

  /// Finds what would stop training in the middle: a last batch too short for a batch norm, and
  /// validation images that do not fit together.
  void try_batches() {
    if (loader_->smallest_batch() == 1 && loader_->batch_size() > 1 &&
        progress_.max_iters >= progress_.epoch_length) {
      try_one_sample(*model_, *loader_, run_.device);
    }
    if (!validation_) return;
    const Batch validated = validation_->try_first_batch(*model_);
    if (!run_.is_main()) return;
    const std::string warning = scale_warning(loader_->dataset(), validated);
    if (!warning.empty()) log::warn(warning);
  }

  void write_config() const {
    if (!run_.is_main()) return;
    write_file_atomically(run_.work_dir + "/" + config_.stem() + ".yaml",
                          dump_yaml(config_.tree, /*origins=*/true));
    visualizer_->add_config(dump_yaml(config_.tree));
  }

  void train() {
    model_->train();
    set_progress(*model_, progress_.iter, progress_.max_iters);
    hooks_.call(&Hook::before_train, run_, progress_);
    loader_->start(static_cast<uint64_t>(progress_.iter),
                   static_cast<uint64_t>(progress_.max_iters));
    // A resumed run may owe the validation of its last step.
    if (progress_.validation_due) validate();
    while (progress_.iter < progress_.max_iters && !stopped_) {
      step(next_batch());
      if (progress_.ends_pass()) report_corrupt();
      if (!progress_.validation_due) continue;
      stop_if_asked();
      validate();
    }
    loader_->stop();
  }

  void finish() {
    report_corrupt();
    writer_.wait();
    hooks_.call(&Hook::after_train, run_, progress_);
    visualizer_->flush();
  }

  /// The one place of a step where processes agree whether to go on.
  Batch next_batch() {
    flight_.start_step(progress_.iter + 1);
    std::optional<Batch> batch;
    stop_if_asked(data_error_in([&] { batch = loader_->next(); }));
    SEG_CHECK(batch.has_value(), "the training data ended at iteration ", progress_.iter);
    std::vector<std::string> images;
    for (const PackedSample& sample : batch->samples) images.push_back(sample.meta.img_path);
    flight_.have_batch(std::move(images));
    return std::move(*batch);
  }

  void step(const Batch& batch) {
    state_.generators_to_resume = generator_state(run_.device);
    hooks_.call(&Hook::before_train_iter, run_, progress_);

    flight_.enter("forward");
    TrainStep step(*model_, *optimizer_, reducer_.get(), run_.device, recorded_.get());
    StepResult result;
    const auto error = data_error_in([&] { result.losses = step.forward(batch); });
    // With several processes, the others wait for this one's gradients and cannot save.
    if (error && run_.communicator->size() > 1) throw *error;
    if (error) end_on_data_error(*error);
    state_.generators_to_resume.reset();
    flight_.enter("backward");
    step.backward(result.losses);
    hooks_.call(&Hook::after_backward, run_, progress_);
    flight_.enter("update");
    step.update();
    flight_.end_step();

    result.images = static_cast<int64_t>(batch.size());
    for (auto& [name, value] : result.losses) value = value.detach();
    result.grad_norm = optimizer_->grad_norm();
    progress_.advance();
    set_progress(*model_, progress_.iter, progress_.max_iters);
    progress_.validation_due =
        validation_ && length_->validates_after(progress_.iter, progress_.epoch_length);
    hooks_.call(&Hook::after_train_iter, run_, progress_, result, control());
  }

  void validate() {
    flight_.enter("validation");
    state_.generators_to_resume = generator_state(run_.device);
    hooks_.call(&Hook::before_val, run_, progress_);
    std::optional<EvalResult> result;
    const auto error =
        data_error_in([&] { result = validation_->run(*model_, hooks_, records_, progress_); });
    if (error) end_on_data_error(*error);
    if (result) {
      // Before the hooks: the last of them may save once more, after the others (a schedule that
      // waits for a plateau) have counted this result.
      progress_.validation_due = false;
      state_.generators_to_resume.reset();
      hooks_.call(&Hook::after_val, run_, progress_, *result, control());
    }
    model_->train();
    stop_if_asked();
  }

  /// Reports how many training samples were found corrupt, when there are more than before.
  void report_corrupt() {
    const int64_t count = count_corrupt(loader_->dataset(), *run_.communicator);
    if (count == reported_corrupt_) return;
    reported_corrupt_ = count;
    if (!run_.is_main()) return;
    log::warn("train: corrupt samples replaced: ", count, " of ", loader_->dataset().size());
  }

  /// Ends the run with a checkpoint where any process got a signal or met an error in its data.
  /// Collective.
  void stop_if_asked(const std::optional<DataError>& mine = {}) {
    const bool asked = stop_signal() != 0;
    at::Tensor votes =
        at::tensor({int64_t{stop_signal()}, int64_t{asked}, int64_t{mine.has_value()}}, at::kLong);
    run_.communicator->all_reduce_sum_(votes);
    const auto* vote = votes.const_data_ptr<int64_t>();
    if (vote[2] > 0) end_on_data_error(mine.value_or(data_error_elsewhere()));
    if (vote[1] == 0) return;
    const auto signal = static_cast<int>(vote[0] / vote[1]);
    throw RunEnded(
        kStoppedBySignal,
        text("stopped by ", stop_signal_name(signal), " after iteration ", progress_.iter,
             "; the checkpoint is ", save_for_resume(), "; --resume continues from it"));
  }

  /// Ends the run without losing the steps since the last checkpoint. All ranks have an error or
  /// none.
  [[noreturn]] void end_on_data_error(const DataError& error) {
    if (progress_.iter == first_iter_) throw error;
    std::string saved;
    try {
      saved = save_for_resume();
    } catch (const Error& e) {
      log::error("the steps since the last checkpoint are lost: ", e.what());
      throw error;
    }
    throw DataError(text(error.what(), "\nTraining ends after iteration ", progress_.iter,
                         "; the checkpoint is ", saved, "; --resume continues from it"));
  }

  /// \return the checkpoint from which a resumed run continues here.
  std::string save_for_resume() {
    loader_->stop();
    report_corrupt();
    hooks_.call(&Hook::on_stop, run_, progress_, control());
    if (last_saved_iter_ != progress_.iter) {
      // The run has no CheckpointHook.
      const std::string path = text(run_.work_dir, "/iter_", progress_.iter, ".pth");
      records_.facts.set("last_ckpt", path);
      save_checkpoint(path, {}, [this, path] { write_last_checkpoint(run_, path); });
    }
    writer_.wait();
    visualizer_->flush();
    // Nobody leaves, and is missed, while the first process still writes.
    run_.communicator->barrier();
    return records_.facts.at("last_ckpt").as_string();
  }

  // RunControl
  RunControl& control() { return *this; }
  void stop() override { stopped_ = true; }
  void request_validation() override { progress_.validation_due = validation_ != nullptr; }
  int64_t last_saved_iter() const override { return last_saved_iter_; }
  void save_checkpoint(const std::string& path, const SaveParts& parts,
                       std::function<void()> then) override {
    flight_.enter("checkpoint");
    seg::save_checkpoint(state_, path, parts, std::move(then));
    if (parts.all()) last_saved_iter_ = progress_.iter;
  }

  const RunInfo& run_;
  size_t checked_;                   ///< annotations to look at before the first step
  std::optional<WorkDirLock> lock_;  ///< of the main process
  const RunConfig& config_;
  FlightRecorder& flight_ = flight_recorder();
  Beginning beginning_;
  std::shared_ptr<Segmentor> model_;
  std::unique_ptr<TrainLength> length_;
  std::unique_ptr<DataLoader> loader_;
  std::unique_ptr<EvaluationRun> validation_;  ///< null where the config has none
  std::unique_ptr<GradientReducer> reducer_;   ///< null for one process
  std::unique_ptr<OptimWrapper> optimizer_;
  std::unique_ptr<RecordedPasses> recorded_;  ///< null where steps are not recorded
  std::vector<std::unique_ptr<ParamScheduler>> schedulers_;
  std::unique_ptr<Visualizer> visualizer_;
  Hooks hooks_;
  Records records_;
  Progress progress_;
  TrainState state_;
  CheckpointWriter writer_;  ///< last of all that its files speak of
  int64_t first_iter_ = 0;   ///< that this process started or resumed from
  bool stopped_ = false;
  int64_t last_saved_iter_ = -1;
  int64_t reported_corrupt_ = 0;
};

}  // namespace

void run_training(RunConfig config, size_t checked) {
  if (!config.train_cfg) {
    Diagnostics problems;
    problems.error(config.tree.origin, "", "training needs 'train_cfg' in the configuration");
    throw ConfigError(problems);
  }
  // A wrong name is the most common mistake: before anything is built or written.
  Beginning beginning = find_beginning(config);
  for (const auto* found : {&beginning.resumed, &beginning.load_from}) {
    if (!*found) continue;
    check_saved_classes_of_training(config, (*found)->contents, (*found)->path,
                                    /*resumed=*/found == &beginning.resumed);
  }
  const BatchRemarks remarks =
      share_batches(config, launch_place(config.launcher).size,
                    beginning.resumed ? &beginning.resumed->contents : nullptr);
  StartedRun started =
      start_run(config, {.train = true},
                beginning.resumed ? seed_of_checkpoint(beginning.resumed->contents) : std::nullopt);
  const RunInfo& run = started.session.run;
  if (!remarks.info.empty()) log::info(remarks.info);
  if (!remarks.warning.empty() && run.is_main()) log::warn(remarks.warning);
  run_joined(run, [&] {
    TrainingRun(run, std::move(started.parts), std::move(beginning), checked).run();
  });
}

}  // namespace seg
