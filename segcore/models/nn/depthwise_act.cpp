#include "segcore/models/nn/depthwise_act.hpp"

#include "segcore/torch.hpp"

namespace seg {

std::optional<ActCfg> depthwise_act(const DepthwiseActCfg& cfg) {
  if (!cfg) return ActCfg();
  if (const auto* act = std::get_if<Spec<Activation>>(&*cfg)) return *act;
  return std::nullopt;
}

void check_depthwise_act(const DepthwiseActCfg& cfg, Problems& problems) {
  const auto* word = cfg ? std::get_if<std::string>(&*cfg) : nullptr;
  if (word && *word != "default") {
    problems.error("dw_act_cfg", text("must be a mapping, null or 'default', got '", *word, "'"));
  }
}

}  // namespace seg
