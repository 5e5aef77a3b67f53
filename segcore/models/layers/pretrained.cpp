#include "segcore/models/layers/pretrained.hpp"

#include "registry/log.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/layers/init.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct PretrainedParams {
  std::string checkpoint;
  std::optional<std::string> prefix;
  std::string map_location = "cpu";
};

class PretrainedInitializer final : public Initializer {
 public:
  using Params = PretrainedParams;
  static Schema<Params> schema() {
    return Schema<Params>("Weights from a checkpoint, after all other rules.")
        .required("checkpoint", &Params::checkpoint, "file, .pth or .safetensors")
        .optional("prefix", &Params::prefix, "takes only what lies under it: 'backbone.'")
        .optional("map_location", &Params::map_location,
                  "where Python puts the tensors on the way; here always the CPU");
  }
  explicit PretrainedInitializer(const Params& p) : params_(p) {}
  void apply(torch::nn::Module& module) const override {
    const Value found = find_state_dict(read_checkpoint(params_.checkpoint));
    Value state = under_prefix(found, params_.prefix.value_or(""));
    if (!params_.prefix && dynamic_cast<Backbone*>(&module)) {
      // Weights of a whole model serve its backbone.
      const Value inner = under_prefix(found, "backbone.");
      if (!inner.as_dict().empty()) state = inner;
    }
    if (const auto* adapts = dynamic_cast<const AdaptsPretrained*>(&module)) {
      adapts->adapt_pretrained(state);
    }
    const auto report = load_state_dict(module, state, {}, params_.checkpoint);
    const std::string rest = report.text();
    log::info("weights of ", layer_names(module).front(), " loaded from ", params_.checkpoint,
              rest.empty() ? "" : "\n" + rest);
  }
  void apply_to_all(torch::nn::Module& module) const override { apply(module); }
  bool is_pretrained() const override { return true; }

 private:
  /// What lies under a prefix, without it; all for "".
  static Value under_prefix(const Value& state, std::string prefix) {
    if (!prefix.empty() && !prefix.ends_with('.')) prefix += '.';
    Value out = Value::dict();
    for (const auto& [key, tensor] : state.as_dict()) {
      if (!key.is_string()) continue;
      std::string name = key.as_string();
      if (name.starts_with("module.")) name = name.substr(7);
      if (name.starts_with(prefix)) out.set(name.substr(prefix.size()), tensor);
    }
    return out;
  }

  Params params_;
};
SEG_REGISTER_AS(Initializer, PretrainedInitializer, "Pretrained");

}  // namespace seg
