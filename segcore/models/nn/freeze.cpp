#include "segcore/models/nn/freeze.hpp"

#include <algorithm>

namespace seg {

void freeze_all_but(torch::nn::Module& module, const std::vector<std::string>& trained) {
  if (std::ranges::find(trained, "all") != trained.end()) return;
  for (auto& item : module.named_parameters()) {
    const bool kept = std::ranges::any_of(trained, [&](const std::string& part) {
      return item.key().find(part) != std::string::npos;
    });
    if (!kept) item.value().set_requires_grad(false);
  }
}

}  // namespace seg
