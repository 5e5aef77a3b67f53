// Learning rates that shrink from the last layer of a backbone to the first.
#include <torch/nn/module.h>

#include <cmath>
#include <set>
#include <unordered_set>

#include "registry/log.hpp"
#include "runners/optim/param_groups.hpp"
#include "segcore/models/nn/base_module.hpp"

namespace seg {
namespace {

/// The n-th part of a dotted name as a number.
int64_t decay_part(const std::string& name, size_t n, const char* what) {
  size_t begin = 0;
  for (size_t i = 0; i < n; ++i) begin = name.find('.', begin) + 1;
  try {
    return std::stoll(name.substr(begin));
  } catch (const std::exception&) {
    throw OptionError("paramwise_cfg", text("no number of a ", what, " in the name ", name));
  }
}

bool decay_is_token(const std::string& name) {
  return name == "backbone.cls_token" || name == "backbone.mask_token" ||
         name == "backbone.pos_embed";
}

int64_t decay_convnext_layer(const std::string& name, int64_t num_layers) {
  if (decay_is_token(name)) return 0;
  if (name.starts_with("backbone.downsample_layers")) {
    const int64_t stage = decay_part(name, 2, "stage");
    return stage == 0 ? 0 : stage == 3 ? num_layers : stage + 1;
  }
  if (name.starts_with("backbone.stages")) {
    const int64_t stage = decay_part(name, 2, "stage");
    if (stage == 2) return 3 + decay_part(name, 3, "block") / 3;
    return stage == 3 ? num_layers : stage + 1;
  }
  return num_layers + 1;
}

int64_t decay_convnext_stage(const std::string& name, int64_t num_layers) {
  if (decay_is_token(name) || name.starts_with("backbone.downsample_layers")) return 0;
  if (name.starts_with("backbone.stages")) return decay_part(name, 2, "stage") + 1;
  return num_layers - 1;
}

int64_t decay_vit_layer(const std::string& name, int64_t num_layers) {
  if (decay_is_token(name) || name.starts_with("backbone.patch_embed")) return 0;
  if (name.starts_with("backbone.layers")) return decay_part(name, 2, "layer") + 1;
  return num_layers - 1;
}

}  // namespace

struct NoLayerDecayParams {};

class LearningRateDecayOptimizerConstructor : public ParamGrouping {
 public:
  using Params = NoLayerDecayParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Learning rates that shrink layer by layer towards the input, for ConvNeXt, BEiT "
               "and MAE; no weight decay for biases, norms and tokens.")
        .source("BEiT, Bao et al. 2021, arXiv:2106.08254");
  }
  explicit LearningRateDecayOptimizerConstructor(const Params&) {}

  void add_groups(Optimizer& optimizer, torch::nn::Module& model,
                  const ParamwiseCfg& cfg) const override {
    const std::optional<double> rate = rate_of(cfg);
    if (!cfg.num_layers || !rate) {
      throw OptionError("paramwise_cfg", text("num_layers and ", rate_name(), " are needed"));
    }
    const int64_t num_layers = *cfg.num_layers + 2;
    const std::string type = type_of(cfg);
    const std::string backbone = backbone_of(model);
    const bool convnext = backbone.find("ConvNeXt") != std::string::npos;
    const bool vit =
        backbone.find("BEiT") != std::string::npos || backbone.find("MAE") != std::string::npos;
    if (!convnext && !(vit && type != "stage_wise")) {
      throw OptionError("paramwise_cfg",
                        text("decay_type ", type, " is not known for the backbone ", backbone,
                             ": it is for ConvNeXt", type == "stage_wise" ? "" : ", BEiT and MAE"));
    }
    const double lr = optimizer.defaults().at("lr").as_float();
    const double decay = optimizer.defaults().at("weight_decay").as_float();
    std::vector<std::string> order;
    std::map<std::string, ParamGroup> groups;
    std::unordered_set<const void*> seen;
    for (const auto& item : model.named_parameters()) {
      const at::Tensor& param = item.value();
      const std::string& name = item.key();
      if (!param.requires_grad() || !seen.insert(param.unsafeGetTensorImpl()).second) continue;
      const bool plain =
          param.dim() == 1 || name.ends_with(".bias") || name == "pos_embed" || name == "cls_token";
      const int64_t layer = !convnext              ? decay_vit_layer(name, num_layers)
                            : type == "stage_wise" ? decay_convnext_stage(name, num_layers)
                                                   : decay_convnext_layer(name, *cfg.num_layers);
      const std::string group_name = text("layer_", layer, plain ? "_no_decay" : "_decay");
      auto [it, fresh] = groups.try_emplace(group_name);
      ParamGroup& group = it->second;
      if (fresh) {
        order.push_back(group_name);
        const double scale = std::pow(*rate, static_cast<double>(num_layers - layer - 1));
        group.options = Value::dict();
        group.set("weight_decay", plain ? 0.0 : decay);
        group.set("lr_scale", scale);
        group.options.set("group_name", group_name);
        group.set("lr", scale * lr);
      }
      group.params.push_back(param);
      group.names.push_back(name);
    }
    for (const std::string& group_name : order) {
      ParamGroup& group = groups.at(group_name);
      log::info("optimizer: ", group_name, ": lr ", group.number("lr"), ", weight_decay ",
                group.number("weight_decay"), ": ", group.params.size(), " tensors");
      Value names = Value::list();
      for (const auto& name : group.names) names.push_back(name);
      group.options.set("param_names", names);
      optimizer.add_group(std::move(group));
    }
  }

 protected:
  virtual std::optional<double> rate_of(const ParamwiseCfg& cfg) const { return cfg.decay_rate; }
  virtual std::string rate_name() const { return "decay_rate"; }
  virtual std::string type_of(const ParamwiseCfg& cfg) const {
    return cfg.decay_type.value_or("layer_wise");
  }

 private:
  static std::string backbone_of(const torch::nn::Module& model) {
    const auto children = model.named_children();
    const auto* backbone = children.find("backbone");
    if (!backbone) throw OptionError("constructor", "the model has no backbone");
    if (const auto* module = dynamic_cast<const BaseModule*>(backbone->get())) {
      return join(module->python_names(), " ");
    }
    return (*backbone)->name();
  }
};
SEG_REGISTER(ParamGrouping, LearningRateDecayOptimizerConstructor);

class LayerDecayOptimizerConstructor final : public LearningRateDecayOptimizerConstructor {
 public:
  using Params = NoLayerDecayParams;
  static Schema<Params> schema() {
    return Schema<Params>("LearningRateDecayOptimizerConstructor under its older name and options.")
        .source("BEiT, Bao et al. 2021, arXiv:2106.08254");
  }
  using LearningRateDecayOptimizerConstructor::LearningRateDecayOptimizerConstructor;

 protected:
  std::optional<double> rate_of(const ParamwiseCfg& cfg) const override {
    return cfg.layer_decay_rate;
  }
  std::string rate_name() const override { return "layer_decay_rate"; }
  std::string type_of(const ParamwiseCfg&) const override { return "layer_wise_vit"; }
};
SEG_REGISTER(ParamGrouping, LayerDecayOptimizerConstructor);

}  // namespace seg
