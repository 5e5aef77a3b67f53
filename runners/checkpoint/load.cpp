#include "runners/checkpoint/load.hpp"

#include <algorithm>
#include <set>

#include "registry/log.hpp"
#include "runners/checkpoint/accumulated.hpp"
#include "runners/checkpoint/generators.hpp"
#include "runners/checkpoint/save.hpp"
#include "runners/checkpoint/train_state.hpp"
#include "runners/log/records.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "runners/optim/param_scheduler.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// A number, a switch or numbers in a row; "" for any other value.
std::string short_text(const Value& value) {
  if (value.is_bool()) return value.as_bool() ? "true" : "false";
  if (value.is_int() || value.is_float()) return text(value.as_float());
  if (!value.is_list() && !value.is_tuple()) return "";
  std::vector<std::string> parts;
  for (const Value& part : value.as_list()) parts.push_back(short_text(part));
  return "[" + join(parts, ", ") + "]";
}

/// Loads the parts of one checkpoint, in the order in which they depend on each other.
class CheckpointLoader {
 public:
  CheckpointLoader(TrainState& state, Value checkpoint, const std::string& path)
      : state_(state), checkpoint_(std::move(checkpoint)), path_(path) {
    own_ = checkpoint_.find(kOwnKey);
  }

  void load() {
    load_progress();
    load_parts();
    load_state_dict(*state_.model, checkpoint_.at("state_dict"), {.strict = true}, path_);
    load_facts();
    load_optimizer();
    load_schedulers();
    load_accumulated();
    load_own();
  }

 private:
  void load_progress() {
    if (!checkpoint_.find("meta")) {
      throw CheckpointError(
          "it holds only weights, no training state (no 'meta'). To train from these weights, set "
          "load_from and leave out --resume");
    }
    const Value& meta = checkpoint_.at("meta");
    Progress& progress = *state_.progress;
    progress.iter = saved_iter_ = meta.at("iter").as_int();
    progress.epoch = meta.at("epoch").as_int();
    if (progress.by_epoch) {
      place_in_epoch(progress);
    } else {
      progress.epoch = 0;
    }
  }

  /// A run by epochs continues at the same place of the same epoch, though another batch size or
  /// number of processes has changed how many iterations an epoch has.
  void place_in_epoch(Progress& progress) const {
    const int64_t length = progress.epoch_length;
    const Value* saved = own_ ? own_->find("epoch_length") : nullptr;
    // The epochs of another program's checkpoint are all that shows how long they were.
    const bool foreign = !own_ && progress.epoch > 0 && progress.iter / length != progress.epoch;
    const int64_t was = saved ? saved->as_int() : foreign ? progress.iter / progress.epoch : length;
    if (was != length && was > 0) {
      const int64_t iter = progress.iter;
      progress.iter = iter / was * length + iter % was * length / was;
      log::warn("an epoch had ", was, " iterations, now ", length, ": iteration ", iter,
                " is counted as ", progress.iter);
    }
    progress.epoch = progress.iter / length;
  }

  void load_parts() {
    // Hooks may exchange weights, so the state dict must be one that can be changed.
    checkpoint_.set("state_dict", find_state_dict(checkpoint_, "state_dict"));
    own_ = checkpoint_.find(kOwnKey);
    bool averages = false;
    for (CheckpointPart* part : state_.parts) {
      part->load_state(checkpoint_);
      averages = averages || part->averages_weights();
    }
    own_ = checkpoint_.find(kOwnKey);
    if (!averages && checkpoint_.find("ema_state_dict")) {
      log::warn(path_,
                " holds averaged weights, and this config has no EMAHook: the training continues "
                "from the average");
    }
  }

  void load_facts() {
    const Value* hub = checkpoint_.find("message_hub");
    const Value* info = hub ? hub->find("runtime_info") : nullptr;
    if (!info) return;
    for (const auto& [key, value] : info->as_dict()) {
      // Metadata of another program may be objects; only plain values are kept.
      if (key.is_string() && (value.is_int() || value.is_float() || value.is_string() ||
                              value.is_bool() || value.is_list())) {
        state_.records->facts.set(key, value);
      }
    }
  }

  void load_optimizer() {
    if (const Value* optimizer = checkpoint_.find("optimizer")) {
      const std::vector<Value> configured = group_options();
      state_.optimizer->load_state_dict(*optimizer);
      if (state_.run->config->reset_schedule) {
        const auto groups = state_.optimizer->scheduled_groups();
        for (size_t i = 0; i < std::min(groups.size(), configured.size()); ++i) {
          groups[i]->read_options(configured[i]);
        }
      } else {
        report_overruled(configured);
      }
    } else {
      log::warn(path_, " has no optimizer state: the optimizer starts afresh");
    }
  }

  std::vector<Value> group_options() const {
    std::vector<Value> out;
    for (const ParamGroup* group : state_.optimizer->scheduled_groups()) {
      out.push_back(group->options());
    }
    return out;
  }

  /// Reports hyper-parameters that the configuration gives in vain, each of them once.
  void report_overruled(const std::vector<Value>& configured) const {
    const std::vector<Value> kept = group_options();
    std::vector<std::string> changes;
    std::set<std::string> reported;
    for (size_t i = 0; i < std::min(kept.size(), configured.size()); ++i) {
      const auto scheduled = [&](const std::string& name) {
        return configured[i].find("initial_" + (name == "betas" ? "momentum" : name)) != nullptr;
      };
      for (const auto& [key, value] : configured[i].as_dict()) {
        const std::string& name = key.as_string();
        const Value* in_checkpoint = kept[i].find(name);
        // The present value is the schedule's; the one that it started from is compared instead.
        if (!in_checkpoint || scheduled(name)) continue;
        const bool initial = name.starts_with("initial_");
        const std::string shown = initial ? name.substr(std::string("initial_").size()) : name;
        const std::string was = short_text(*in_checkpoint), is = short_text(value);
        if (was == is || was.empty() || !reported.insert(shown).second) continue;
        changes.push_back(text(shown, " is ", is, " in the configuration and stays ", was));
      }
    }
    if (changes.empty()) return;
    log::warn(path_, " overrules the configuration: ", join(changes, ", "),
              "; --reset-schedule takes the configuration's");
  }

  /// The schedules of the configuration, moved on to where the training is.
  void replay_schedulers() {
    const Progress& progress = *state_.progress;
    for (int64_t iter = 1; iter <= progress.iter; ++iter) {
      for (const auto& schedule : *state_.schedulers) {
        const bool epoch_ends = progress.by_epoch && iter % progress.epoch_length == 0;
        if (!schedule->by_epoch() || epoch_ends) schedule->step();
      }
    }
  }

  void load_schedulers() {
    if (state_.run->config->reset_schedule) {
      replay_schedulers();
      return;
    }
    const Value* schedulers = checkpoint_.find("param_schedulers");
    if (!schedulers) return;
    const ValueList& states = schedulers->as_list();
    if (states.size() != state_.schedulers->size()) {
      throw CheckpointError(text("it has ", states.size(), " schedules, the configuration ",
                                 state_.schedulers->size()));
    }
    const int64_t iter = state_.progress->iter;
    for (size_t i = 0; i < states.size(); ++i) {
      ParamScheduler& schedule = *(*state_.schedulers)[i];
      schedule.load_state_dict(states[i]);
      if (iter != saved_iter_ && !schedule.by_epoch()) schedule.set_steps_done(iter);
    }
  }

  void load_accumulated() {
    const Value* accumulated = own_ ? own_->find("accumulated") : nullptr;
    state_.optimizer->set_progress(
        state_.progress->iter, state_.progress->max_iters,
        accumulated ? scatter_accumulated(*accumulated, *state_.run->communicator) : Value());
  }

  void load_own() {
    if (!own_) {
      log::info(path_,
                " holds no states of random generators: dropout draws other numbers than in an "
                "uninterrupted run");
      return;
    }
    state_.records->train.load_state(own_->at("train_log"));
    state_.progress->validation_due = own_->at("validation_due").as_bool();
    const at::Tensor rows = own_->at("generators").as_tensor();
    const Communicator& communicator = *state_.run->communicator;
    if (rows.size(0) == communicator.size()) {
      set_generator_state(state_.run->device, rows[communicator.rank()].contiguous());
    } else {
      log::warn(path_, " was written by ", rows.size(0), " processes, this run has ",
                communicator.size(), ": dropout draws other numbers");
    }
  }

  TrainState& state_;
  Value checkpoint_;
  const std::string& path_;
  const Value* own_ = nullptr;  ///< segcore's part; null in another program's checkpoint
  int64_t saved_iter_ = 0;
};

}  // namespace

void load_checkpoint(TrainState& state, Value checkpoint, const std::string& path) {
  try {
    CheckpointLoader(state, std::move(checkpoint), path).load();
  } catch (const WeightsMismatch&) {
    throw;
  } catch (const CheckpointError& e) {
    const std::string what = e.what();
    if (what.find(path) != std::string::npos) throw;
    throw CheckpointError(text(path, ": ", what));
  }
}

}  // namespace seg
