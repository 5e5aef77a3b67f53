#include <torch/torch.h>

#include "registry/log.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/layers/init.hpp"

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
    LoadOptions options;
    options.prefix = params_.prefix.value_or("");
    const auto report = load_state_dict(
        module, find_state_dict(read_checkpoint(params_.checkpoint)), options, params_.checkpoint);
    const std::string found = report.text();
    log::info("weights of ", layer_names(module).front(), " loaded from ", params_.checkpoint,
              found.empty() ? "" : "\n" + found);
  }
  void apply_to_all(torch::nn::Module& module) const override { apply(module); }
  bool is_pretrained() const override { return true; }

 private:
  Params params_;
};
SEG_REGISTER_AS(Initializer, PretrainedInitializer, "Pretrained");

}  // namespace seg
