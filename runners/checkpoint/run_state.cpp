#include "runners/checkpoint/run_state.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <unordered_map>

#include "registry/log.hpp"
#include "runners/dist/gather.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/hooks/run_context.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "runners/optim/param_scheduler.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/data/loader.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/torch.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

constexpr const char* kOwnKey = "segcore";

std::string time_stamp_now() {
  const std::time_t now = std::time(nullptr);
  char buffer[32];
  std::strftime(buffer, sizeof(buffer), "%Y%m%d_%H%M%S", std::localtime(&now));
  return buffer;
}

Value dataset_meta_value(const DatasetMeta& meta) {
  ValueList classes, palette;
  for (const auto& name : meta.classes) classes.emplace_back(name);
  for (const auto& colour : meta.palette) {
    palette.emplace_back(ValueList{colour[0], colour[1], colour[2]});
  }
  Value out = Value::dict();
  out.set("classes", Value::tuple(std::move(classes)));
  out.set("palette", Value(std::move(palette)));
  out.set("reduce_zero_label", meta.reduce_zero_label);
  out.set("ignore_index", meta.ignore_index);
  return out;
}

Value meta_value(const RunContext& context) {
  Value meta = Value::dict();
  meta.set("epoch", context.epoch);
  meta.set("iter", context.iter);
  meta.set("cfg", dump_yaml(context.config->tree));
  meta.set("seed", static_cast<int64_t>(context.seed));
  meta.set("experiment_name", context.experiment_name);
  meta.set("time", time_stamp_now());
  if (context.train_loader) {
    meta.set("dataset_meta", dataset_meta_value(context.train_loader->dataset().meta()));
  }
  return meta;
}

Value message_hub_value(const RunContext& context) {
  Value hub = Value::dict();
  hub.set("log_scalars", Value::dict());
  Value info = Value::dict(), resumed = Value::dict();
  for (const auto& [key, value] : context.runtime_info.as_dict()) {
    info.set(key, value);
    resumed.set(key, true);
  }
  hub.set("runtime_info", info);
  hub.set("resumed_keys", resumed);
  return hub;
}

/// One row a rank.
at::Tensor gather_rows(const RunContext& context, const at::Tensor& row) {
  Communicator& communicator = *context.communicator;
  if (communicator.size() == 1) return row.unsqueeze(0);
  at::Tensor rows = at::zeros({communicator.size(), row.numel()}, at::kInt);
  rows[communicator.rank()].copy_(row);
  communicator.all_reduce_sum_(rows);
  return rows.to(at::kByte);
}

/// What `OptimWrapper::accumulated` gives, with the gradients of each rank: they are summed over
/// the ranks only when the parameters are updated. Only rank 0 has those of all.
Value gather_accumulated(const RunContext& context) {
  Value out = context.optimizer->accumulated();
  if (out.is_none()) return out;
  std::unordered_map<std::string, at::Tensor> gradients;
  for (const auto& [name, gradient] : out.at("gradients").as_dict()) {
    gradients[name.as_string()] = gradient.as_tensor();
  }
  std::vector<std::string> names;
  std::vector<at::Tensor> params, own;
  for (const ParamGroup& group : context.optimizer->optimizer().groups()) {
    for (size_t i = 0; i < group.params.size(); ++i) {
      names.push_back(group.names[i]);
      params.push_back(group.params[i]);
      own.push_back(gradients[group.names[i]]);
    }
  }
  Value ranks = Value::list();
  for (const auto& tensors : gather_tensors(*context.communicator, own, params)) {
    ValueDict of_rank;
    for (size_t i = 0; i < names.size(); ++i) {
      if (tensors[i].defined()) of_rank.emplace_back(names[i], tensors[i]);
    }
    ranks.push_back(Value::dict(std::move(of_rank)));
  }
  out.set("gradients", ranks);
  return out;
}

/// The part of this rank of what `gather_accumulated` gave. Where the run had another number of
/// ranks, each takes the mean, so that the mean over all stays what it was.
Value scatter_accumulated(const RunContext& context, const Value& saved) {
  const ValueList& ranks = saved.at("gradients").as_list();
  const bool same = ranks.size() == static_cast<size_t>(context.communicator->size());
  std::map<std::string, at::Tensor> gradients;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const bool mine = same && r == static_cast<size_t>(context.communicator->rank());
    for (const auto& [name, value] : ranks[r].as_dict()) {
      const at::Tensor& tensor = value.as_tensor();
      at::Tensor& gradient = gradients[name.as_string()];
      if (mine) {
        gradient = tensor;
      } else if (!same) {
        const at::Tensor part = tensor / static_cast<double>(ranks.size());
        gradient = gradient.defined() ? gradient + part : part;
      } else if (!gradient.defined()) {
        gradient = at::zeros_like(tensor);  // a parameter is updated in all ranks or in none
      }
    }
  }
  ValueDict own;
  for (auto& [name, gradient] : gradients) own.emplace_back(name, gradient);
  Value out = Value::dict();
  for (const char* key : {"steps", "loss_weight"}) out.set(key, saved.at(key));
  out.set("gradients", Value::dict(std::move(own)));
  return out;
}

/// State dict on the CPU; the tensors of a CPU model are its own, not copies.
Value weights_on_cpu(const Segmentor& model) {
  Value out = Value::dict();
  const Value own = state_dict(model);
  for (const auto& [name, tensor] : own.as_dict()) {
    out.set(name, tensor.as_tensor().detach().cpu());
  }
  return out;
}

/// How far a run was that wrote a checkpoint of this name: {8, 0} for iter_8.pth and epoch_8.pth,
/// {8, 70} for epoch_8_iter_70.pth, nothing for other names.
std::optional<std::pair<int64_t, int64_t>> place_of_name(const fs::path& path) {
  static const std::regex names("(?:iter|epoch)_(\\d{1,18})(?:_iter_(\\d{1,18}))?\\.pth");
  std::smatch found;
  const std::string name = path.filename().string();
  if (!std::regex_match(name, found, names)) return std::nullopt;
  return std::pair(std::stoll(found[1]), found[2].matched ? std::stoll(found[2]) : 0);
}

std::optional<FoundCheckpoint> try_read(const std::string& path) {
  try {
    FoundCheckpoint found{path, read_checkpoint(path)};
    found.contents.at("meta").at("iter").as_int();
    found.contents.at("state_dict").as_dict();
    return found;
  } catch (const CheckpointError& e) {
    log::warn("this checkpoint is passed over: ", e.what());
    return std::nullopt;
  }
}

/// Where a run by epochs goes on: at the same place of the same epoch, though a batch of another
/// size or another number of processes has changed how many iterations an epoch has.
void place_in_epoch(const RunContext& context, const Value* own, ResumePoint& point) {
  const int64_t length = context.epoch_length;
  const Value* saved = own ? own->find("epoch_length") : nullptr;
  // Another program's checkpoint: only its epochs tell how long they were.
  const bool foreign = !own && point.epoch > 0 && point.iter / length != point.epoch;
  const int64_t was = saved ? saved->as_int() : foreign ? point.iter / point.epoch : length;
  if (was != length && was > 0) {
    const int64_t iter = point.iter;
    point.iter = iter / was * length + iter % was * length / was;
    log::warn("an epoch had ", was, " iterations and has ", length, " now: iteration ", iter,
              " is counted as ", point.iter);
  }
  point.epoch = point.iter / length;
}

}  // namespace

at::Tensor generator_state(const RunContext& context) {
  const at::Generator& cpu = at::globalContext().defaultGenerator(c10::kCPU);
  at::Tensor state = cpu.get_state();
  if (!context.device.is_cpu()) {
    const auto& gpu = at::globalContext().defaultGenerator(context.device);
    state = at::cat({state, gpu.get_state()});
  }
  return state;
}

void set_generator_state(const RunContext& context, const at::Tensor& state) {
  at::Generator cpu = at::globalContext().defaultGenerator(c10::kCPU);
  const int64_t cpu_bytes = cpu.get_state().numel();
  if (state.numel() < cpu_bytes) throw CheckpointError("the state of the generator is too short");
  cpu.set_state(state.narrow(0, 0, cpu_bytes).clone());
  if (!context.device.is_cpu() && state.numel() > cpu_bytes) {
    at::Generator gpu = at::globalContext().defaultGenerator(context.device);
    gpu.set_state(state.narrow(0, cpu_bytes, state.numel() - cpu_bytes).clone());
  }
}

void save_run_state(RunContext& context, const std::string& path, const SaveParts& parts) {
  Value checkpoint = Value::dict();
  checkpoint.set("meta", meta_value(context));
  checkpoint.set("state_dict", weights_on_cpu(*context.model));
  checkpoint.set("message_hub", message_hub_value(context));
  if (parts.optimizer) checkpoint.set("optimizer", context.optimizer->state_dict());
  if (parts.schedulers) {
    Value schedulers = Value::list();
    for (const auto& scheduler : *context.schedulers) {
      schedulers.push_back(scheduler->state_dict());
    }
    checkpoint.set("param_schedulers", schedulers);
  }
  if (parts.progress) {
    Value own = Value::dict();
    own.set("version", 1);
    const at::Tensor& before_val = context.rng_before_val;
    own.set("generators",
            gather_rows(context, before_val.defined() ? before_val : generator_state(context)));
    own.set("batches_done", context.iter);
    if (context.by_epoch) own.set("epoch_length", context.epoch_length);
    own.set("batch_size", context.train_loader->batch_size());
    own.set("world_size", context.communicator->size());
    own.set("validation_due", context.validation_due);
    own.set("train_log", context.train_log.state());
    own.set("hooks", Value::dict());
    if (parts.optimizer) {
      const Value accumulated = gather_accumulated(context);
      if (!accumulated.is_none()) own.set("accumulated", accumulated);
    }
    checkpoint.set(kOwnKey, own);
  }
  for (HookEntry& entry : *context.hooks) entry.hook->save_state(context, checkpoint);
  if (context.is_main()) write_checkpoint(path, checkpoint);
  if (parts.progress && parts.optimizer && parts.schedulers) {
    context.last_saved_iter = context.iter;
  }
}

void write_last_checkpoint(const RunContext& context, const std::string& path) {
  if (context.is_main()) write_file_atomically(context.work_dir + "/last_checkpoint", path);
}

std::optional<FoundCheckpoint> find_run_state(const std::string& work_dir) {
  std::vector<std::string> candidates;
  const auto add = [&](const std::string& path) {
    std::error_code ignored;
    if (!fs::exists(path, ignored)) return;
    for (const auto& known : candidates) {
      if (fs::equivalent(known, path, ignored)) return;
    }
    candidates.push_back(path);
  };
  std::ifstream pointer(work_dir + "/last_checkpoint");
  std::string named;
  if (std::getline(pointer, named) && !named.empty()) {
    add(named);
    add(work_dir + "/" + fs::path(named).filename().string());
  }
  std::vector<std::pair<std::pair<int64_t, int64_t>, std::string>> others;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(work_dir, ignored)) {
    if (const auto place = place_of_name(entry.path())) {
      others.emplace_back(*place, entry.path().string());
    }
  }
  std::sort(others.rbegin(), others.rend());
  // The names of checkpoints by epochs and by iterations do not compare; each group is in order.
  const bool named_is_there = !candidates.empty();
  for (const auto& [place, path] : others) add(path);
  if (!named.empty() && !named_is_there) {
    const std::string what =
        text(work_dir, "/last_checkpoint names ", named, ", which is not there");
    if (candidates.empty()) {
      throw CheckpointError(text(what, ", nor is any other checkpoint in ", work_dir,
                                 ". Without "
                                 "--resume the training begins anew"));
    }
    log::warn(what, ": the newest checkpoint beside it is taken");
  }
  for (const auto& path : candidates) {
    if (auto found = try_read(path)) return found;
  }
  if (!candidates.empty()) {
    throw CheckpointError(text("none of the ", candidates.size(), " checkpoints in ", work_dir,
                               " can be read. Without --resume the training begins anew"));
  }
  return std::nullopt;
}

std::optional<uint64_t> seed_of_run_state(const Value& checkpoint) {
  const Value* meta = checkpoint.find("meta");
  const Value* seed = meta ? meta->find("seed") : nullptr;
  if (!seed || !seed->is_int()) return std::nullopt;
  return static_cast<uint64_t>(seed->as_int());
}

ResumePoint load_run_state(RunContext& context, Value checkpoint, const std::string& path) {
  try {
    ResumePoint point;
    if (!checkpoint.find("meta")) {
      throw CheckpointError(
          "it holds weights alone and no state of a training (no 'meta'). Give it as load_from "
          "without --resume: a new training then begins with them");
    }
    const Value& meta = checkpoint.at("meta");
    point.iter = meta.at("iter").as_int();
    point.epoch = meta.at("epoch").as_int();
    point.seed = seed_of_run_state(checkpoint);
    const Value* own = checkpoint.find(kOwnKey);
    const int64_t saved_iter = point.iter;
    if (context.by_epoch) {
      place_in_epoch(context, own, point);
    } else {
      point.epoch = 0;
    }
    // Hooks may exchange weights, so the state dict must be one that can be changed.
    checkpoint.set("state_dict", find_state_dict(checkpoint, "state_dict"));
    bool averages = false;
    for (HookEntry& entry : *context.hooks) {
      entry.hook->load_state(context, checkpoint);
      averages = averages || entry.type == "EMAHook";
    }
    if (!averages && checkpoint.find("ema_state_dict")) {
      log::warn(path,
                " holds averaged weights, and this config has no EMAHook: the training goes "
                "on from the average");
    }
    load_state_dict(*context.model, checkpoint.at("state_dict"), {.strict = true}, path);

    if (const Value* hub = checkpoint.find("message_hub")) {
      if (const Value* info = hub->find("runtime_info")) {
        for (const auto& [key, value] : info->as_dict()) {
          // Metadata of another program may be objects; only plain values are taken along.
          if (key.is_string() && (value.is_int() || value.is_float() || value.is_string() ||
                                  value.is_bool() || value.is_list())) {
            context.runtime_info.set(key, value);
          }
        }
      }
    }
    if (const Value* optimizer = checkpoint.find("optimizer")) {
      context.optimizer->load_state_dict(*optimizer);
    } else {
      log::warn(path, " has no state of the optimizer: it begins anew");
    }
    if (const Value* schedulers = checkpoint.find("param_schedulers")) {
      const ValueList& states = schedulers->as_list();
      if (states.size() != context.schedulers->size()) {
        throw CheckpointError(text("it has ", states.size(), " schedules, the configuration ",
                                   context.schedulers->size()));
      }
      for (size_t i = 0; i < states.size(); ++i) {
        ParamScheduler& schedule = *(*context.schedulers)[i];
        schedule.load_state_dict(states[i]);
        if (point.iter != saved_iter && !schedule.by_epoch()) schedule.set_steps_done(point.iter);
      }
    }
    const Value* accumulated = own ? own->find("accumulated") : nullptr;
    context.optimizer->set_progress(
        point.iter, context.max_iters,
        accumulated ? scatter_accumulated(context, *accumulated) : Value());
    if (own) {
      context.train_log.load_state(own->at("train_log"));
      point.validation_due = own->at("validation_due").as_bool();
      const at::Tensor rows = own->at("generators").as_tensor();
      const int rank = context.communicator->rank();
      if (rows.size(0) == context.communicator->size()) {
        set_generator_state(context, rows[rank].contiguous());
      } else {
        log::warn(path, " was written by ", rows.size(0), " processes, this run has ",
                  context.communicator->size(), ": dropout draws other numbers");
      }
    } else {
      log::info(path,
                " holds no states of generators: dropout draws other numbers than the run "
                "that was not stopped");
    }
    return point;
  } catch (const WeightsMismatch&) {
    throw;
  } catch (const CheckpointError& e) {
    const std::string what = e.what();
    if (what.find(path) != std::string::npos) throw;
    throw CheckpointError(text(path, ": ", what));
  }
}

}  // namespace seg
