#include "runners/checkpoint/save.hpp"

#include <ctime>

#include "runners/checkpoint/accumulated.hpp"
#include "runners/checkpoint/generators.hpp"
#include "runners/checkpoint/snapshot.hpp"
#include "runners/checkpoint/train_state.hpp"
#include "runners/checkpoint/writer.hpp"
#include "runners/log/records.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "runners/optim/param_scheduler.hpp"
#include "runners/start/run_config.hpp"
#include "runners/start/time_stamp.hpp"
#include "segcore/data/loader.hpp"
#include "segcore/data/palette.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

Value dataset_meta_value(const DatasetMeta& meta) {
  ValueList classes, palette;
  for (const auto& name : meta.classes) classes.emplace_back(name);
  // Python's visualizer needs a colour for each class.
  const auto count = static_cast<int64_t>(meta.classes.size());
  for (const auto& colour : palette_or_default(meta.palette, count)) {
    palette.emplace_back(ValueList{colour[0], colour[1], colour[2]});
  }
  Value out = Value::dict();
  out.set("classes", Value::tuple(std::move(classes)));
  out.set("palette", Value(std::move(palette)));
  out.set("reduce_zero_label", meta.reduce_zero_label);
  out.set("ignore_index", meta.ignore_index);
  return out;
}

Value meta_value(const TrainState& state) {
  Value meta = Value::dict();
  meta.set("epoch", state.progress->epoch);
  meta.set("iter", state.progress->iter);
  meta.set("cfg", dump_yaml(state.run->config->tree));
  meta.set("seed", static_cast<int64_t>(state.run->seed));
  meta.set("experiment_name", state.run->experiment_name);
  meta.set("time", time_stamp(std::time(nullptr)));
  meta.set("dataset_meta", dataset_meta_value(state.loader->dataset().meta()));
  return meta;
}

Value message_hub_value(const Value& facts) {
  Value hub = Value::dict();
  hub.set("log_scalars", Value::dict());
  Value info = Value::dict(), resumed = Value::dict();
  for (const auto& [key, value] : facts.as_dict()) {
    info.set(key, value);
    resumed.set(key, true);
  }
  hub.set("runtime_info", info);
  hub.set("resumed_keys", resumed);
  return hub;
}

/// One row a rank.
at::Tensor gather_rows(Communicator& communicator, const at::Tensor& row) {
  if (communicator.size() == 1) return row.unsqueeze(0);
  at::Tensor rows = at::zeros({communicator.size(), row.numel()}, at::kInt);
  rows[communicator.rank()].copy_(row);
  communicator.all_reduce_sum_(rows);
  return rows.to(at::kByte);
}

/// What an exact continuation needs besides MMEngine's parts.
Value own_value(const TrainState& state, bool with_optimizer) {
  const Progress& progress = *state.progress;
  Communicator& communicator = *state.run->communicator;
  Value own = Value::dict();
  own.set("version", 1);
  const at::Tensor& kept = state.generators_to_resume;
  own.set("generators",
          gather_rows(communicator, kept.defined() ? kept : generator_state(state.run->device)));
  own.set("batches_done", progress.iter);
  if (progress.by_epoch) own.set("epoch_length", progress.epoch_length);
  own.set("batch_size", state.loader->batch_size());
  own.set("world_size", communicator.size());
  own.set("validation_due", progress.validation_due);
  state.records->train.average_over(communicator);
  own.set("train_log", state.records->train.state());
  own.set("hooks", Value::dict());
  if (with_optimizer) {
    const Value accumulated = gather_accumulated(*state.optimizer, communicator);
    if (!accumulated.is_none()) own.set("accumulated", accumulated);
  }
  return own;
}

}  // namespace

void save_checkpoint(const TrainState& state, const std::string& path, const SaveParts& parts,
                     std::function<void()> then) {
  Value checkpoint = Value::dict();
  checkpoint.set("meta", meta_value(state));
  checkpoint.set("state_dict", state_dict(*state.model));
  checkpoint.set("message_hub", message_hub_value(state.records->facts));
  if (parts.optimizer) checkpoint.set("optimizer", state.optimizer->state_dict());
  if (parts.schedulers) {
    Value schedulers = Value::list();
    for (const auto& scheduler : *state.schedulers) schedulers.push_back(scheduler->state_dict());
    checkpoint.set("param_schedulers", schedulers);
  }
  if (parts.progress) checkpoint.set(kOwnKey, own_value(state, parts.optimizer));
  for (const CheckpointPart* part : state.parts) part->save_state(checkpoint);
  if (state.run->is_main()) state.writer->write(path, snapshot(checkpoint), std::move(then));
}

void write_last_checkpoint(const RunInfo& run, const std::string& path) {
  if (run.is_main()) write_file_atomically(run.work_dir + "/last_checkpoint", path);
}

}  // namespace seg
