// Learning rates that shrink from the last layer of a backbone to the first.
#include <torch/nn/module.h>

#include <cmath>
#include <map>
#include <unordered_set>

#include "registry/log.hpp"
#include "runners/optim/param_groups.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/orders_layers.hpp"
#include "segcore/models/weights/init.hpp"

namespace seg {
namespace {

/// The layers of the first backbone within a model, or of a model without one, and the prefix of
/// their parameters' names.
struct DecayedBackbone {
  LayerOrder order;
  std::string name, prefix;
};

DecayedBackbone decayed_backbone(const torch::nn::Module& model) {
  if (const auto* whole = dynamic_cast<const OrdersLayers*>(&model)) {
    return {whole->layer_order(), join(layer_names(model), " "), ""};
  }
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    if (const auto* found = dynamic_cast<const Backbone*>(item.value().get())) {
      return {found->layer_order(), join(found->python_names(), " "), item.key() + "."};
    }
  }
  throw OptionError("constructor", "the model has no backbone");
}

/// Numbers the parameters of a model: those of the backbone by its own order, then all others.
class DecayLayers {
 public:
  /// \throws OptionError where the model has no backbone, or the backbone defines no layers.
  DecayLayers(const torch::nn::Module& model, const std::string& decay_type)
      : backbone_(decayed_backbone(model)),
        unit_(decay_type == "stage_wise" ? LayerUnit::kStage : LayerUnit::kBlock) {
    if (backbone_.order.has(unit_)) return;
    throw OptionError("paramwise_cfg",
                      text("decay_type ", decay_type, " does not fit the backbone ", name(),
                           ": it defines no ", unit_ == LayerUnit::kStage ? "stages" : "layers"));
  }
  const std::string& name() const { return backbone_.name; }
  int64_t count() const { return backbone_.order.count(unit_); }
  /// Nothing: after the last layer of the backbone.
  std::optional<int64_t> of(const std::string& parameter) const {
    if (!parameter.starts_with(backbone_.prefix)) return std::nullopt;
    return backbone_.order.layer_of(parameter.substr(backbone_.prefix.size()), unit_);
  }
  LayerUnit unit() const { return unit_; }

 private:
  DecayedBackbone backbone_;
  LayerUnit unit_;
};

/// Groups by layer and by whether weights decay, in the order in which they were met.
class DecayGroups {
 public:
  /// \param layers  of the backbone; the head's parameters are of layer `layers` + 1.
  DecayGroups(Optimizer& optimizer, int64_t layers, double rate)
      : optimizer_(optimizer), layers_(layers), rate_(rate) {}

  void add(const std::string& name, const at::Tensor& param, std::optional<int64_t> layer) {
    // As in MMSegmentation, where tokens of the backbone decay: only those of a model without one
    // have these names.
    const bool plain =
        param.dim() == 1 || name.ends_with(".bias") || name == "pos_embed" || name == "cls_token";
    ParamGroup& group = group_of(layer.value_or(layers_ + 1), plain);
    group.params.push_back(param);
    group.names.push_back(name);
  }

  /// Gives the groups to the optimizer, and reports them to the log.
  void finish() {
    for (ParamGroup& group : groups_) {
      log::info("optimizer: ", *group.group_name, ": lr ", group.hyper->lr, ", weight_decay ",
                group.hyper->weight_decay, ": ", group.params.size(), " tensors");
      optimizer_.add_group(std::move(group));
    }
    groups_.clear();
  }

 private:
  ParamGroup& group_of(int64_t layer, bool plain) {
    const auto [it, fresh] = index_.try_emplace({layer, plain}, groups_.size());
    if (!fresh) return groups_[it->second];
    ParamGroup& group = groups_.emplace_back(optimizer_.new_group());
    const double scale = std::pow(rate_, static_cast<double>(layers_ + 1 - layer));
    if (plain) group.hyper->weight_decay = 0;
    group.hyper->lr *= scale;
    group.lr_scale = scale;
    group.group_name = text("layer_", layer, plain ? "_no_decay" : "_decay");
    group.lists_names = true;
    return group;
  }

  Optimizer& optimizer_;
  int64_t layers_;
  double rate_;
  std::vector<ParamGroup> groups_;
  std::map<std::pair<int64_t, bool>, size_t> index_;  ///< of groups_, by layer and `plain`
};

}  // namespace

struct NoLayerDecayParams {};

class LearningRateDecayOptimizerConstructor : public ParamGrouping {
 public:
  using Params = NoLayerDecayParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Learning rates that shrink layer by layer from the head to the image, for "
               "backbones that define layers; no weight decay for biases and norms.")
        .source("BEiT, Bao et al. 2021, arXiv:2106.08254");
  }
  explicit LearningRateDecayOptimizerConstructor(const Params&) {}

  void add_groups(Optimizer& optimizer, torch::nn::Module& model,
                  const ParamwiseCfg& cfg) const override {
    const std::optional<double> rate = rate_of(cfg);
    if (!rate) throw OptionError("paramwise_cfg", text(rate_name(), " is needed"));
    const DecayLayers layers(model, type_of(cfg));
    const int64_t num_layers = cfg.num_layers.value_or(layers.count());
    // Configs for stages give the number of layers all the same.
    if (layers.unit() == LayerUnit::kBlock && num_layers != layers.count()) {
      log::warn("paramwise_cfg.num_layers is ", num_layers, ", ", layers.name(), " has ",
                layers.count(), " layers: leave it out to take as many as it has");
    }
    DecayGroups groups(optimizer, num_layers, *rate);
    std::unordered_set<const void*> seen;
    for (const auto& item : model.named_parameters()) {
      const at::Tensor& param = item.value();
      if (!param.requires_grad() || !seen.insert(param.unsafeGetTensorImpl()).second) continue;
      groups.add(item.key(), param, layers.of(item.key()));
    }
    groups.finish();
  }

 protected:
  virtual std::optional<double> rate_of(const ParamwiseCfg& cfg) const { return cfg.decay_rate; }
  virtual std::string rate_name() const { return "decay_rate"; }
  virtual std::string type_of(const ParamwiseCfg& cfg) const {
    return cfg.decay_type.value_or("layer_wise");
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
