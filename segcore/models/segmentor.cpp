#include "segcore/models/segmentor.hpp"

#include "segcore/torch.hpp"

namespace seg {

torch::Tensor total_loss(const LossMap& losses) {
  torch::Tensor sum;
  for (const auto& [name, value] : losses) {
    if (name.find("loss") == std::string::npos) continue;
    sum = sum.defined() ? sum + value : value;
  }
  SEG_CHECK(sum.defined(), "the model gave no loss");
  return sum;
}

std::optional<int64_t> Segmentor::bands() const {
  for (const auto& weight : parameters()) {
    if (weight.dim() == 4) return weight.size(1);
  }
  return std::nullopt;
}

}  // namespace seg
