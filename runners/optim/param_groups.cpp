#include "runners/optim/param_groups.hpp"

#include <set>
#include <unordered_set>

#include "registry/log.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

Schema<CustomKey> CustomKey::schema() {
  return Schema<CustomKey>("Options of the parameters whose name contains the key.")
      .optional("lr_mult", &CustomKey::lr_mult, "factor of the learning rate")
      .optional("decay_mult", &CustomKey::decay_mult, "factor of the weight decay")
      .optional("lr", &CustomKey::lr, "learning rate itself")
      .optional("weight_decay", &CustomKey::weight_decay, "weight decay itself")
      .optional("momentum", &CustomKey::momentum, "momentum itself")
      .optional("eps", &CustomKey::eps, "eps itself")
      .optional("wd_mult", &CustomKey::wd_mult, "has no effect, as in MMEngine; see decay_mult")
      .validate([](const CustomKey& key, Problems& problems) {
        if (!key.wd_mult) return;
        problems.warn(
            "wd_mult",
            "has no effect, as in MMEngine; decay_mult is the factor of the weight decay");
      });
}

Schema<ParamwiseCfg> ParamwiseCfg::schema() {
  using P = ParamwiseCfg;
  return Schema<P>("Options by parameter.")
      .optional("custom_keys", &P::custom_keys,
                "part of a parameter's name -> its options; the longest key that fits counts, and "
                "the other options below do not apply then")
      .optional("bias_lr_mult", &P::bias_lr_mult, "factor of the learning rate of biases")
      .optional("bias_decay_mult", &P::bias_decay_mult, "factor of the weight decay of biases")
      .optional("norm_decay_mult", &P::norm_decay_mult,
                "factor of the weight decay of normalisation layers")
      .optional("dwconv_decay_mult", &P::dwconv_decay_mult,
                "factor of the weight decay of depthwise convolutions")
      .optional("flat_decay_mult", &P::flat_decay_mult,
                "factor of the weight decay of parameters of one dimension")
      .optional("dcn_offset_lr_mult", &P::dcn_offset_lr_mult,
                "factor of the learning rate of offsets of deformable convolutions")
      .optional("bypass_duplicate", &P::bypass_duplicate, "skips parameters that occur twice")
      .optional("force_default_settings", &P::force_default_settings,
                "of ForceDefaultOptimWrapperConstructor: the other options also apply where a "
                "custom key fits")
      .optional(
          "num_layers", &P::num_layers,
          "of LearningRateDecayOptimizerConstructor: layers of the backbone; null: those that it "
          "has",
          at_least(1))
      .optional("decay_rate", &P::decay_rate,
                "of LearningRateDecayOptimizerConstructor: factor of the learning rate from a "
                "layer to the one below",
                above(0))
      .optional("layer_decay_rate", &P::layer_decay_rate,
                "of LayerDecayOptimizerConstructor: its decay_rate", above(0))
      .optional("decay_type", &P::decay_type,
                "of LearningRateDecayOptimizerConstructor: what counts as a layer",
                one_of({"layer_wise", "stage_wise", "layer_wise_vit"}));
}

bool ParamwiseCfg::empty() const {
  return custom_keys.empty() && !bias_lr_mult && !bias_decay_mult && !norm_decay_mult &&
         !dwconv_decay_mult && !flat_decay_mult && !dcn_offset_lr_mult && !bypass_duplicate &&
         !force_default_settings && !num_layers && !decay_rate && !layer_decay_rate && !decay_type;
}

TypeDoc Convert<Spec<ParamGrouping>>::type() {
  return {.kind = TypeDoc::Kind::kString,
          .name = std::string(Category<ParamGrouping>::name),
          .items = {},
          .choices = Registry<ParamGrouping>::instance().names()};
}

std::optional<Spec<ParamGrouping>> Convert<Spec<ParamGrouping>>::from(const Config& c,
                                                                      const std::string& path,
                                                                      Diagnostics& problems) {
  if (!c.is_scalar()) {
    detail::wrong_type(c, path, "string", problems);
    return std::nullopt;
  }
  Config component;
  component.origin = c.origin;
  Config type = Config::of(c.scalar);
  type.origin = c.origin;
  component.set("type", std::move(type));
  return Spec<ParamGrouping>::parse(component, path, problems);
}

Spec<ParamGrouping> default_param_grouping() {
  return Spec<ParamGrouping>::of("{type: DefaultOptimWrapperConstructor}");
}

namespace {

/// The longest key that `name` contains; of equally long ones the first in the alphabet.
const std::pair<const std::string, CustomKey>* grouping_key(
    const std::map<std::string, CustomKey>& keys, const std::string& name) {
  const std::pair<const std::string, CustomKey>* best = nullptr;
  for (const auto& entry : keys) {  // in the order of the alphabet
    if (name.find(entry.first) == std::string::npos) continue;
    if (!best || entry.first.size() > best->first.size()) best = &entry;
  }
  return best;
}

/// Options of one parameter; those that are not set are the optimizer's defaults.
struct GroupOptions {
  std::optional<double> lr, weight_decay, lr_mult, decay_mult, momentum, eps;

  void take(const CustomKey& key, const HyperParams& defaults) {
    lr = key.lr.value_or(defaults.lr * key.lr_mult.value_or(1.0));
    weight_decay = key.weight_decay.value_or(defaults.weight_decay * key.decay_mult.value_or(1.0));
    lr_mult = key.lr_mult;
    decay_mult = key.decay_mult;
    momentum = key.momentum;
    eps = key.eps;
  }
  void apply(ParamGroup& group) const {
    if (lr) group.hyper->lr = *lr;
    if (weight_decay) group.hyper->weight_decay = *weight_decay;
    if (momentum) set_momentum(group);
    if (eps) group.set_epsilon(*eps);
    group.lr_mult = lr_mult;
    group.decay_mult = decay_mult;
  }
  /// Those that are set, for the log.
  std::vector<std::pair<const char*, double>> list() const {
    std::vector<std::pair<const char*, double>> out;
    const std::pair<const char*, std::optional<double>> all[] = {{"lr", lr},
                                                                 {"weight_decay", weight_decay},
                                                                 {"lr_mult", lr_mult},
                                                                 {"decay_mult", decay_mult},
                                                                 {"momentum", momentum},
                                                                 {"eps", eps}};
    for (const auto& [name, value] : all) {
      if (value) out.emplace_back(name, *value);
    }
    return out;
  }

 private:
  /// Adam's betas are no momentum that a custom key sets, as in MMEngine.
  void set_momentum(ParamGroup& group) const {
    if (group.hyper->has_betas() || !group.hyper->scheduled_momentum()) {
      group.beta_momentum = *momentum;
    } else {
      *group.hyper->scheduled_momentum() = *momentum;
    }
  }
};

bool grouping_is_depthwise(const torch::nn::Module& module) {
  if (const auto* conv = dynamic_cast<const Conv2d*>(&module)) {
    return conv->options.in_channels == conv->options.groups;
  }
  return false;
}

bool grouping_is_deformable(const torch::nn::Module& module) {
  const std::string name = module.name();
  return name.find("DeformConv2d") != std::string::npos;
}

std::string grouping_number(double v) {
  return v == static_cast<double>(static_cast<int64_t>(v)) ? text(static_cast<int64_t>(v))
                                                           : text(v);
}

/// One line for each combination of learning rate and decay.
void grouping_log_totals(const Optimizer& optimizer) {
  std::map<std::pair<double, double>, std::pair<int64_t, int64_t>> totals;
  for (const ParamGroup& group : optimizer.groups()) {
    auto& [tensors, elements] = totals[{-group.hyper->lr, -group.hyper->weight_decay}];
    for (const auto& p : group.params) {
      ++tensors;
      elements += p.numel();
    }
  }
  for (const auto& [key, counts] : totals) {
    log::info("optimizer: lr ", grouping_number(-key.first), ", weight_decay ",
              grouping_number(-key.second), ": ", counts.first, " tensors, ", counts.second,
              " parameters");
  }
}

/// Keys that configs in use list for whatever model they train: most models lack some of them.
const std::set<std::string>& common_custom_keys() {
  static const std::set<std::string> keys{"absolute_pos_embed",
                                          "cls_token",
                                          "head",
                                          "level_embed",
                                          "norm",
                                          "pos_block",
                                          "pos_embed",
                                          "query_embed",
                                          "query_feat",
                                          "relative_position_bias_table"};
  return keys;
}

/// Names of parameters by the custom key that selects them.
using NamesByKey = std::map<std::string, std::vector<std::string>>;

/// Reports what each custom key selected. For one that selects nothing: information where configs
/// commonly list it or its parameters are frozen, else a warning with the nearest name of a module.
void grouping_log_keys(const std::map<std::string, CustomKey>& keys, const NamesByKey& matched,
                       const NamesByKey& frozen, const torch::nn::Module& model) {
  std::set<std::string> known;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    known.insert(item.key());
    const size_t dot = item.key().rfind('.');
    known.insert(dot == std::string::npos ? item.key() : item.key().substr(dot + 1));
  }
  std::vector<std::string> absent;
  for (const auto& [key, options] : keys) {
    const auto found = matched.find(key);
    if (found == matched.end() && common_custom_keys().contains(key)) {
      absent.push_back(key);
      continue;
    }
    if (const auto still = frozen.find(key); found == matched.end() && still != frozen.end()) {
      log::info("paramwise_cfg.custom_keys: '", key, "' has no effect: its ", still->second.size(),
                still->second.size() == 1 ? " tensor is frozen" : " tensors are frozen");
      continue;
    }
    if (found == matched.end()) {
      log::warn("paramwise_cfg.custom_keys: '", key,
                "' is part of no parameter's name, or of names that longer keys take.",
                did_you_mean(key, {known.begin(), known.end()}));
      continue;
    }
    std::vector<std::string> shown;
    if (options.lr_mult) shown.push_back("lr_mult " + grouping_number(*options.lr_mult));
    if (options.decay_mult) shown.push_back("decay_mult " + grouping_number(*options.decay_mult));
    if (options.lr) shown.push_back("lr " + grouping_number(*options.lr));
    if (options.weight_decay) {
      shown.push_back("weight_decay " + grouping_number(*options.weight_decay));
    }
    if (options.momentum) shown.push_back("momentum " + grouping_number(*options.momentum));
    if (options.eps) shown.push_back("eps " + grouping_number(*options.eps));
    const auto& names = found->second;
    log::info("paramwise_cfg.custom_keys: '", key, "' (", join(shown, ", "), "): ", names.size(),
              " tensors, ", names.front(), names.size() > 1 ? " ... " + names.back() : "");
  }
  if (!absent.empty()) {
    log::info("paramwise_cfg.custom_keys: the model has no ", join(absent, ", "));
  }
}

}  // namespace

struct NoGroupingParams {};

/// mmengine's: a group for each parameter.
class DefaultOptimWrapperConstructor : public ParamGrouping {
 public:
  using Params = NoGroupingParams;
  static Schema<Params> schema() {
    return Schema<Params>("A group for each parameter, with options by name and type of layer.");
  }
  explicit DefaultOptimWrapperConstructor(const Params&) {}

  void add_groups(Optimizer& optimizer, torch::nn::Module& model,
                  const ParamwiseCfg& cfg) const override {
    if (cfg.num_layers || cfg.decay_rate || cfg.layer_decay_rate || cfg.decay_type) {
      throw OptionError("paramwise_cfg",
                        "num_layers, decay_rate, layer_decay_rate and decay_type need "
                        "constructor: LearningRateDecayOptimizerConstructor");
    }
    if (cfg.force_default_settings && !knows_force()) {
      throw OptionError("paramwise_cfg",
                        "force_default_settings needs constructor: "
                        "ForceDefaultOptimWrapperConstructor");
    }
    Walk walk{optimizer, cfg, {}, {}, {}};
    add_module(walk, model, "", false);
    grouping_log_keys(cfg.custom_keys, walk.matched, walk.frozen, model);
    grouping_log_totals(optimizer);
  }

 protected:
  virtual bool knows_force() const { return false; }

 private:
  struct Walk {
    Optimizer& optimizer;
    const ParamwiseCfg& cfg;
    std::unordered_set<const void*> seen;
    NamesByKey matched, frozen;
  };

  void add_module(Walk& walk, torch::nn::Module& module, const std::string& prefix,
                  bool in_deformable) const {
    std::unordered_set<const void*> mine;
    for (const auto& item : module.named_parameters(/*recurse=*/false)) {
      const at::Tensor& param = item.value();
      if (!param.defined() || !mine.insert(param.unsafeGetTensorImpl()).second) continue;
      const std::string name = prefix.empty() ? item.key() : prefix + "." + item.key();
      const bool again = !walk.seen.insert(param.unsafeGetTensorImpl()).second;
      if (again && walk.cfg.bypass_duplicate) {
        log::warn(name, " occurs twice and is skipped (bypass_duplicate)");
        continue;
      }
      if (again) {
        throw OptionError("paramwise_cfg", text(name,
                                                " is the same tensor as a parameter of "
                                                "another name: set bypass_duplicate"));
      }
      if (!param.requires_grad()) {
        const auto* custom = grouping_key(walk.cfg.custom_keys, prefix + "." + item.key());
        if (custom) walk.frozen[custom->first].push_back(name);
      }
      if (!param.requires_grad() && !knows_force()) {
        log::debug(name, " is frozen and not optimized");
        continue;
      }
      GroupOptions options;
      if (param.requires_grad()) {
        set_options(walk, module, prefix, item.key(), param, in_deformable, options);
      }
      for (const auto& [key, value] : options.list()) {
        log::debug("paramwise_options -- ", name, ":", key, "=", grouping_number(value));
      }
      ParamGroup group = walk.optimizer.new_group();
      group.params = {param};
      group.names = {name};
      options.apply(group);
      walk.optimizer.add_group(std::move(group));
    }
    const bool deformable = grouping_is_deformable(module);
    std::unordered_set<const void*> children;
    for (const auto& item : module.named_children()) {
      if (!item.value() || !children.insert(item.value().get()).second) continue;
      add_module(walk, *item.value(), prefix.empty() ? item.key() : prefix + "." + item.key(),
                 deformable);
    }
  }

  void set_options(Walk& walk, const torch::nn::Module& module, const std::string& prefix,
                   const std::string& key, const at::Tensor& param, bool in_deformable,
                   GroupOptions& options) const {
    const ParamwiseCfg& cfg = walk.cfg;
    const HyperParams& defaults = walk.optimizer.defaults();
    // A parameter of the model itself is ".name" to the keys.
    if (const auto* custom = grouping_key(cfg.custom_keys, prefix + "." + key)) {
      options.take(custom->second, defaults);
      walk.matched[custom->first].push_back(prefix.empty() ? key : prefix + "." + key);
      if (!cfg.force_default_settings.value_or(false)) return;
    }
    const bool norm = is_norm(module);
    if (key == "bias" && !norm && !in_deformable && cfg.bias_lr_mult) {
      options.lr = defaults.lr * *cfg.bias_lr_mult;
    }
    if (in_deformable && cfg.dcn_offset_lr_mult &&
        prefix.find("conv_offset") != std::string::npos) {
      options.lr = defaults.lr * *cfg.dcn_offset_lr_mult;
    }
    if (norm && cfg.norm_decay_mult) {
      options.weight_decay = defaults.weight_decay * *cfg.norm_decay_mult;
    } else if (key == "bias" && !in_deformable && cfg.bias_decay_mult) {
      options.weight_decay = defaults.weight_decay * *cfg.bias_decay_mult;
    } else if (cfg.dwconv_decay_mult && grouping_is_depthwise(module)) {
      options.weight_decay = defaults.weight_decay * *cfg.dwconv_decay_mult;
    } else if (param.dim() == 1 && !in_deformable && cfg.flat_decay_mult) {
      options.weight_decay = defaults.weight_decay * *cfg.flat_decay_mult;
    }
  }
};
SEG_REGISTER(ParamGrouping, DefaultOptimWrapperConstructor);

class ForceDefaultOptimWrapperConstructor final : public DefaultOptimWrapperConstructor {
 public:
  using Params = NoGroupingParams;
  static Schema<Params> schema() {
    return Schema<Params>(
        "The default constructor, except that options by type of layer also apply where a custom "
        "key fits, and frozen parameters are kept.");
  }
  using DefaultOptimWrapperConstructor::DefaultOptimWrapperConstructor;

 protected:
  bool knows_force() const override { return true; }
};
SEG_REGISTER(ParamGrouping, ForceDefaultOptimWrapperConstructor);

}  // namespace seg
