#include "segcore/models/weights/adapts_pretrained.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "registry/log.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/weights/init.hpp"
#include "segcore/models/weights/load_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<PretrainedParams> PretrainedParams::schema() {
  using P = PretrainedParams;
  return Schema<P>("Weights from a file, after all other rules.")
      .required("checkpoint", &P::checkpoint,
                "file, .pth or .safetensors, or the address of a published one")
      .optional("prefix", &P::prefix, "load only names below it: 'backbone.'")
      .optional("map_location", &P::map_location,
                "the device that Python loads to; here always the CPU")
      .optional("key_mapping", &P::key_mapping,
                "rename tensors before names are compared: pairs of a regular expression and its "
                "replacement, in order")
      .validate([](const P& p, Problems& problems) {
        const std::string problem = key_mapping_problem(p.key_mapping);
        if (!problem.empty()) problems.error("key_mapping", problem);
      });
}

namespace {

/// Layers behind the last map of a classifier. Backbones have no use for them, so they are not
/// reported as left over.
const std::vector<std::string>& classifier_names() {
  static const std::vector<std::string> names{
      "^(fc|head|heads|head_dist|aux_head|cls_head|classifier|last_linear|pre_logits)\\.",
      "^data_preprocessor\\."};
  return names;
}

Value weights_below(const Value& state, const std::string& prefix) {
  ValueDict items;
  for (const auto& [key, tensor] : state.as_dict()) {
    const std::string& name = key.as_string();
    if (name.starts_with(prefix)) items.emplace_back(name.substr(prefix.size()), tensor);
  }
  return Value::dict(std::move(items));
}

/// `state` with the weights below a prefix replaced.
Value with_weights_below(const Value& state, const std::string& prefix, const Value& below) {
  ValueDict items;
  for (const auto& [key, tensor] : state.as_dict()) {
    if (!key.as_string().starts_with(prefix)) items.emplace_back(key, tensor);
  }
  for (const auto& [key, tensor] : below.as_dict()) {
    items.emplace_back(prefix + key.as_string(), tensor);
  }
  return Value::dict(std::move(items));
}

/// Adapts the weights of convolutions over the image to its number of bands, which the first one
/// shows. Others (the spatial path of BiSeNet) have as many inputs.
void fit_stem(const torch::nn::Module& backbone, Value& state) {
  int64_t bands = 0;
  std::vector<std::pair<std::string, at::Tensor>> fitted;
  for (const auto& item : backbone.named_parameters()) {
    const auto& mine = item.value();
    if (mine.dim() != 4 || !item.key().ends_with("weight")) continue;
    if (bands == 0) bands = mine.size(1);
    if (bands == 3) return;
    const Value* found = state.find(item.key());
    if (!found || !found->is_tensor() || mine.size(1) != bands) continue;
    const auto& theirs = found->as_tensor();
    const bool for_three = theirs.dim() == 4 && theirs.size(1) == 3 &&
                           theirs.size(0) == mine.size(0) && theirs.size(2) == mine.size(2) &&
                           theirs.size(3) == mine.size(3);
    if (!for_three) continue;
    fitted.emplace_back(item.key(), stem_for_bands(theirs, bands));
    log::info(item.key(), " takes ", bands, bands == 1 ? " band" : " bands", ": its weights for 3 ",
              bands == 1 ? "are summed" : text("are repeated and scaled by 3/", bands));
  }
  for (auto& [name, weight] : fitted) state.set(name, weight);
}

void log_resized(const Value& before, const std::string& prefix, const Value& after) {
  std::unordered_map<std::string, at::Tensor> old;
  for (const auto& [key, tensor] : before.as_dict()) {
    old.emplace(key.as_string(), tensor.as_tensor());
  }
  for (const auto& [key, tensor] : after.as_dict()) {
    const std::string name = prefix + key.as_string();
    const auto found = old.find(name);
    if (found == old.end() || found->second.sizes() == tensor.as_tensor().sizes()) continue;
    if (!tensor.as_tensor().is_floating_point()) continue;  // a table of indices
    log::info(name, " is resized from ", found->second.sizes(), " to ", tensor.as_tensor().sizes());
  }
}

/// Lets a module and those below it adapt the weights under their names.
void adapt_weights(const torch::nn::Module& module, const std::string& prefix, Value& state) {
  const auto* adapts = dynamic_cast<const AdaptsPretrained*>(&module);
  const auto* backbone = dynamic_cast<const Backbone*>(&module);
  if (adapts || backbone) {
    Value below = weights_below(state, prefix);
    if (!below.as_dict().empty()) {
      if (adapts) adapts->adapt_pretrained(below);
      log_resized(state, prefix, below);
      if (backbone) fit_stem(module, below);
      state = with_weights_below(state, prefix, below);
    }
  }
  for (const auto& child : module.named_children()) {
    adapt_weights(*child.value(), prefix + child.key() + ".", state);
  }
}

}  // namespace

at::Tensor stem_for_bands(const at::Tensor& weight, int64_t bands) {
  const auto full = weight.to(at::kFloat);
  if (bands == 1) return full.sum(1, /*keepdim=*/true);
  const int64_t times = (bands + 2) / 3;
  return full.repeat({1, times, 1, 1}).narrow(1, 0, bands) * (3.0 / static_cast<double>(bands));
}

Value weights_for(const torch::nn::Module& module, const PretrainedParams& params) {
  return weights_for(module, read_checkpoint(resolve_checkpoint(params.checkpoint)), params);
}

Value weights_for(const torch::nn::Module& module, const Value& checkpoint,
                  const PretrainedParams& params) {
  LoadOptions options{.prefix = params.prefix.value_or("")};
  for (const auto& [pattern, replacement] : params.key_mapping) {
    options.revise_keys.emplace_back(pattern, replacement);
  }
  const bool of_whole_model = dynamic_cast<const Backbone*>(&module) && !params.prefix;
  const Value own = state_dict(module);
  std::unordered_set<std::string> names;
  for (const auto& [name, tensor] : own.as_dict()) names.insert(name.as_string());
  Value weights =
      named_weights(checkpoint, options, params.checkpoint, [&](const std::string& name) {
        return names.contains(name) ||
               (of_whole_model && name.starts_with("backbone.") && names.contains(name.substr(9)));
      });
  if (of_whole_model) {
    // Weights of a whole model serve its backbone.
    Value inner = weights_below(weights, "backbone.");
    if (!inner.as_dict().empty()) weights = std::move(inner);
  }
  adapt_weights(module, "", weights);
  return weights;
}

LoadReport load_weights(torch::nn::Module& module, const Value& weights, const std::string& file,
                        bool in_config) {
  LoadReport report = load_state_dict(module, weights,
                                      {.ignore = classifier_names(), .in_config = in_config}, file);
  const size_t all = report.matched.size() + report.missing.size() + report.mismatched.size();
  log::info(layer_names(module).front(), ": ", report.matched.size(), " of ", all,
            " weights are loaded from ", file);
  if (const std::string rest = report.text(); !rest.empty()) {
    const bool anew = !report.mismatched.empty() || !report.missing.empty();
    log::warn(file, ":\n", rest,
              anew ? "\nweights that are missing or of another size start anew" : "");
  }
  if (2 * report.matched.size() < all && 2 * report.unexpected.size() > report.matched.size()) {
    log::warn("most weights of ", layer_names(module).front(),
              " keep their values, although the file holds others: rename those of another "
              "repository ",
              in_config ? "by key_mapping, or once and for all with tools/convert"
                        : "with tools/convert, by --map or --rename");
  }
  return report;
}

namespace {

/// "a.yaml:7:5: model.backbone.init_cfg: " of the rule that asked for a file.
std::string rule_place(const Spec<Initializer>& rule) {
  const Origin& origin = rule.config().origin;
  return (origin.file ? origin.text() + ": " : "") +
         (rule.path().empty() ? "" : rule.path() + ": ");
}

bool load_modules_below(torch::nn::Module& module, const std::string& prefix,
                        const std::unordered_set<std::string>& kept) {
  bool any = false;
  for (const auto& child : module.named_children()) {
    any |= load_modules_below(*child.value(), prefix + child.key() + ".", kept);
  }
  const auto* own = dynamic_cast<const BaseModule*>(&module);
  if (!own) return any;
  for (const auto& rule : own->pretrained_rules()) {
    const Value weights = state_dict(module);
    const auto& items = weights.as_dict();
    const bool useless = !kept.empty() && std::all_of(items.begin(), items.end(), [&](auto& item) {
      return kept.contains(prefix + item.first.as_string());
    });
    if (useless) {
      log::info(rule.path(), ": no file is read, since load_from sets all weights of ",
                layer_names(module).front());
      continue;
    }
    try {
      rule.build()->apply(module);
      any = true;
    } catch (const WeightsMismatch& e) {
      throw WeightsMismatch(rule_place(rule) + e.what());
    } catch (const CheckpointError& e) {
      throw CheckpointError(rule_place(rule) + e.what());
    }
  }
  return any;
}

}  // namespace

bool load_pretrained_modules(torch::nn::Module& model, const std::vector<std::string>& kept) {
  return load_modules_below(model, "", {kept.begin(), kept.end()});
}

class PretrainedInitializer final : public Initializer {
 public:
  using Params = PretrainedParams;
  static Schema<Params> schema() { return Params::schema(); }
  explicit PretrainedInitializer(const Params& p) : params_(p) {}
  void apply(torch::nn::Module& module) const override {
    load_weights(module, weights_for(module, params_), params_.checkpoint,
                 /*in_config=*/true);
  }
  void apply_to_all(torch::nn::Module& module) const override { apply(module); }
  bool reads_file() const override { return true; }

 private:
  Params params_;
};
SEG_REGISTER_AS(Initializer, PretrainedInitializer, "Pretrained");

struct PretrainedTensorParams {
  std::string checkpoint, name;
};

/// One tensor of a module, from a file that holds nothing else.
class PretrainedTensor final : public Initializer {
 public:
  using Params = PretrainedTensorParams;
  static Schema<Params> schema() {
    return Schema<Params>("A single tensor from a file that holds nothing else.")
        .required("checkpoint", &Params::checkpoint, "file, or the address of a published one")
        .required("name", &Params::name, "of the module's tensor");
  }
  explicit PretrainedTensor(const Params& p) : p_(p) {}
  void apply(torch::nn::Module& module) const override {
    const Value found = read_checkpoint(resolve_checkpoint(p_.checkpoint));
    if (!found.is_tensor()) {
      throw CheckpointError(
          text(p_.checkpoint, ": expected one tensor, found ", found.kind_text()));
    }
    const Value own = state_dict(module);
    const Value* target = own.find(p_.name);
    if (!target) throw OptionError("name", text("no tensor is called '", p_.name, "'"));
    Value state = Value::dict();
    state.set(p_.name, found);
    adapt_weights(module, "", state);
    const at::Tensor& loaded = state.at(p_.name).as_tensor();
    at::Tensor mine = target->as_tensor();
    if (loaded.sizes() != mine.sizes()) {
      throw CheckpointError(text(p_.checkpoint, ": its tensor ", found.as_tensor().sizes(),
                                 " does not fit ", p_.name, " ", mine.sizes()));
    }
    const torch::NoGradGuard no_grad;
    mine.copy_(loaded);
    log::info(layer_names(module).front(), ": ", p_.name, " is loaded from ", p_.checkpoint);
  }
  void apply_to_all(torch::nn::Module& module) const override { apply(module); }
  bool reads_file() const override { return true; }

 private:
  Params p_;
};
SEG_REGISTER(Initializer, PretrainedTensor);

}  // namespace seg
