// Length, optimizer and schedules of configurations of MMSegmentation 0.x.
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "registry/text.hpp"
#include "runners/start/old_config_parts.hpp"

namespace seg {
namespace {

// --- the optimizer ---

/// The options of `optimizer_config`, which is the hook that steps the optimizer.
void add_optimizer_hook(const Config& old, Config& wrapper, OldNotes& notes) {
  OldOptions options(old_value(old, "optimizer_config"), "optimizer_config");
  const std::string type = options.take_text("type");
  const Config* scale = options.take("loss_scale");
  const bool apex = old_true(options.take("use_fp16"));
  const bool half = type.find("Fp16") != std::string::npos;
  const Config* fp16 = old_value(old, "fp16");
  if (half || apex) {
    wrapper.set("type", placed("AmpOptimWrapper", options.origin()));
    // The default of 0.x.
    if (half) wrapper.set("loss_scale", scale ? *scale : placed(512.0, options.origin()));
  } else if (fp16) {
    notes.left_out(fp16->origin, "fp16",
                   "without an Fp16OptimizerHook, 0.x trains in full precision and only tests in "
                   "16 bits; here tests are in full precision, too. 'optim_wrapper.type: "
                   "AmpOptimWrapper' trains in mixed precision");
  }
  if (apex) {
    notes.add(options.origin(), "optimizer_config.use_fp16", "optim_wrapper.type",
              "0.x leaves mixed precision to apex; here it is PyTorch's own");
  }
  if (const Config* clip = options.take("grad_clip")) wrapper.set("clip_grad", *clip);
  const Config* counts = options.take("cumulative_iters");
  if (!counts) counts = options.take("update_interval");
  if (counts) wrapper.set("accumulative_counts", *counts);
  options.ignore(
      {"update_interval", "coalesce", "bucket_size_mb", "distributed", "detect_anomalous_params"});
  options.leave_out_rest(notes);
}

void add_optimizer(const Config& old, Config& tree, OldNotes& notes) {
  const Config* optimizer = old_value(old, "optimizer");
  if (!optimizer || !optimizer->is_map()) return;
  OldOptions options(optimizer, "optimizer");
  Config wrapper = typed_map("OptimWrapper", optimizer->origin);
  const Config* constructor = options.take("constructor");
  const Config* paramwise = options.take("paramwise_cfg");
  Config inner = placed_map(optimizer->origin);
  options.move_rest(inner);
  wrapper.set("optimizer", std::move(inner));
  if (constructor) {
    const bool usual = constructor->scalar == "DefaultOptimizerConstructor";
    wrapper.set("constructor", usual ? placed("DefaultOptimWrapperConstructor", constructor->origin)
                                     : *constructor);
  }
  if (paramwise) wrapper.set("paramwise_cfg", *paramwise);
  add_optimizer_hook(old, wrapper, notes);
  tree.set("optim_wrapper", std::move(wrapper));
}

// --- schedules ---

/// "cosine" as "Cosine": 0.x makes the first letter of a word in small letters a capital.
std::string policy_name(std::string name) {
  const bool small =
      std::none_of(name.begin(), name.end(), [](unsigned char c) { return std::isupper(c) != 0; });
  if (small && !name.empty()) {
    name[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(name[0])));
  }
  return name;
}

class ScheduleTranslation {
 public:
  ScheduleTranslation(const Config& lr, OldLength length, OldNotes& notes)
      : origin_(lr.origin), options_(&lr, "lr_config"), length_(length), notes_(notes) {}

  Config translate() {
    const Config* policy = options_.take("policy");
    const Config* by_epoch = options_.take("by_epoch");
    by_epoch_ = by_epoch ? *by_epoch : placed(length_.by_epoch, origin_);
    out_ = placed_list(origin_);
    add_warmup();
    if (!policy) {
      notes_.error(origin_, "lr_config", "has no policy");
    } else {
      add_policy(*policy);
    }
    options_.leave_out_rest(notes_);
    return std::move(out_);
  }

 private:
  void add_warmup() {
    const Config* kind = options_.take("warmup");
    const Config* steps = options_.take("warmup_iters");
    const Config* ratio = options_.take("warmup_ratio");
    const Config* by_epoch = options_.take("warmup_by_epoch");
    if (!kind || !steps) return;
    const bool constant = kind->scalar == "constant";
    Config out = typed_map(constant ? "ConstantLR" : "LinearLR", kind->origin);
    if (kind->scalar == "exp") {
      notes_.add(kind->origin, "lr_config.warmup", "param_scheduler.0.type",
                 "0.x warms up exponentially; here the rate grows linearly");
    }
    const Config first = ratio ? *ratio : placed(0.1, kind->origin);
    out.set(constant ? "factor" : "start_factor", first);
    const bool epochs = old_true(by_epoch);
    out.set("by_epoch", placed(epochs, by_epoch ? by_epoch->origin : kind->origin));
    if (epochs) out.set("convert_to_iter_based", placed(true, by_epoch->origin));
    out.set("begin", placed(int64_t{0}, kind->origin));
    out.set("end", *steps);
    if (epochs == old_true(&by_epoch_)) warmup_end_ = steps;
    out_.list.push_back(std::move(out));
  }

  void add_policy(const Config& policy) {
    const std::string name = policy_name(policy.scalar);
    if (name == "Fixed") return;
    if (name == "Step") return add_steps(policy);
    if (name == "Exp") return add(typed_map("ExponentialLR", policy.origin), {"gamma"}, false);
    if (name == "Poly") {
      Config out = typed_map("PolyLR", policy.origin);
      const Config* least = options_.take("min_lr");
      out.set("eta_min", least ? *least : placed(0.0, policy.origin));
      const Config* power = options_.take("power");
      out.set("power", power ? *power : placed(1.0, policy.origin));
      return add(std::move(out), {}, true);
    }
    if (name == "CosineAnnealing") return add_cosine(policy, "CosineAnnealingLR");
    if (name == "FlatCosineAnnealing") return add_flat_cosine(policy);
    if (name == "CosineRestart") return add_cosine(policy, "CosineRestartLR");
    if (name == "LinearAnnealing") return add_linear(policy);
    if (name == "OneCycle") {
      Config out = typed_map("OneCycleLR", policy.origin);
      if (const Config* most = options_.take("max_lr")) out.set("eta_max", *most);
      const Config* total = options_.take("total_steps");
      if (!total) total = length_.steps;
      if (total) out.set("total_steps", *total);
      return add(std::move(out),
                 {"pct_start", "anneal_strategy", "div_factor", "final_div_factor", "three_phase"},
                 false);
    }
    notes_.error(policy.origin, "lr_config.policy",
                 text("no schedule here is like '", policy.scalar,
                      "'. Known: poly, step, fixed, exp, CosineAnnealing, FlatCosineAnnealing, "
                      "CosineRestart, LinearAnnealing, OneCycle"));
  }

  void add_steps(const Config& policy) {
    const Config* step = options_.take("step");
    const bool regular = step && step->is_scalar();
    Config out = typed_map(regular ? "StepLR" : "MultiStepLR", policy.origin);
    if (step) out.set(regular ? "step_size" : "milestones", *step);
    if (const Config* least = options_.take("min_lr")) {
      notes_.left_out(least->origin, "lr_config.min_lr", "steps have no least rate here");
    }
    add(std::move(out), {"gamma"}, false);
  }

  void add_cosine(const Config& policy, const char* type, bool curve = true) {
    Config out = typed_map(type, policy.origin);
    if (const Config* least = options_.take("min_lr")) out.set("eta_min", *least);
    if (const Config* ratio = options_.take("min_lr_ratio")) out.set("eta_min_ratio", *ratio);
    add(std::move(out), {"periods", "restart_weights"}, curve);
  }

  void add_flat_cosine(const Config& policy) {
    const Config* start = options_.take("start_percent");
    add_cosine(policy, "CosineAnnealingLR", /*curve=*/false);
    const auto steps = old_number(length_.steps);
    if (!steps) return;
    const double share = old_number(start).value_or(0.75);
    Config& out = out_.list.back();
    out.set("begin", placed(static_cast<int64_t>(std::nearbyint(*steps * share)),
                            start ? start->origin : policy.origin));
  }

  void add_linear(const Config& policy) {
    Config out = typed_map("PolyLR", policy.origin);  // of power 1
    if (const Config* ratio = options_.take("min_lr_ratio")) {
      out = typed_map("PolyLRRatio", policy.origin);
      out.set("eta_min_ratio", *ratio);
    }
    if (const Config* least = options_.take("min_lr")) out.set("eta_min", *least);
    out.set("power", placed(1.0, policy.origin));
    add(std::move(out), {}, true);
  }

  /// \param curve  depends on where it begins: it is not a factor by which the warm-up could be
  ///               multiplied.
  void add(Config out, std::initializer_list<const char*> options, bool curve) {
    for (const char* option : options) {
      if (const Config* value = options_.take(option)) out.set(option, *value);
    }
    const bool after = curve && warmup_end_;
    if (after) {
      notes_.add(warmup_end_->origin, "lr_config.warmup_iters",
                 text("param_scheduler.", out_.list.size(), ".begin"),
                 "in 0.x this schedule runs from step 0 and the warm-up scales it; here, as in "
                 "MMSegmentation 1.x, it begins when the warm-up ends");
    }
    out.set("begin", after ? *warmup_end_ : placed(int64_t{0}, origin_));
    if (length_.steps && length_.by_epoch == old_true(&by_epoch_)) {
      out.set("end", *length_.steps);
    }
    out.set("by_epoch", by_epoch_);
    out_.list.push_back(std::move(out));
  }

  Origin origin_;
  OldOptions options_;
  OldLength length_;
  OldNotes& notes_;
  Config by_epoch_, out_;
  const Config* warmup_end_ = nullptr;  ///< in the steps that the schedule counts, too
};

void add_length(const Config& old, Config& tree, OldNotes& notes) {
  const Config* runner = old_value(old, "runner");
  const OldLength length = old_length(old);
  if (!length.steps) return;
  OldOptions options(runner, "runner");
  options.ignore({"type", "max_iters", "max_epochs"});
  options.leave_out_rest(notes);
  const Origin origin = runner ? runner->origin : length.steps->origin;
  Config loop = typed_map(length.by_epoch ? "EpochBasedTrainLoop" : "IterBasedTrainLoop", origin);
  loop.set(length.by_epoch ? "max_epochs" : "max_iters", *length.steps);
  OldOptions evaluation(old_value(old, "evaluation"), "evaluation");
  if (const Config* start = evaluation.take("start")) loop.set("val_begin", *start);
  if (const Config* interval = evaluation.take("interval")) {
    loop.set("val_interval", *interval);
  } else if (tree.find("val_dataloader")) {
    loop.set("val_interval", placed(int64_t{1}, origin));  // the default of 0.x
  }
  if (tree.find("train_dataloader")) tree.set("train_cfg", std::move(loop));
  for (const char* phase : {"val", "test"}) {
    if (!tree.find(text(phase, "_dataloader"))) continue;
    tree.set(text(phase, "_cfg"),
             typed_map(phase == std::string_view("val") ? "ValLoop" : "TestLoop", origin));
  }
}

}  // namespace

OldLength old_length(const Config& old) {
  OldLength out;
  if (const Config* runner = old_value(old, "runner"); runner && runner->is_map()) {
    out.by_epoch = old_type(*runner) == "EpochBasedRunner";
    const Config::Item* steps = runner->find(out.by_epoch ? "max_epochs" : "max_iters");
    if (steps && !steps->value.is_null()) out.steps = &steps->value;
    return out;
  }
  out.steps = old_value(old, "total_iters");
  if (!out.steps) {
    out.steps = old_value(old, "total_epochs");
    out.by_epoch = out.steps != nullptr;
  }
  return out;
}

void translate_old_schedule(const Config& old, Config& tree, OldNotes& notes) {
  add_optimizer(old, tree, notes);
  const Config* lr = old_value(old, "lr_config");
  if (lr && lr->is_map()) {
    Config schedules = ScheduleTranslation(*lr, old_length(old), notes).translate();
    if (!schedules.list.empty()) tree.set("param_scheduler", std::move(schedules));
  }
  add_length(old, tree, notes);
}

}  // namespace seg
