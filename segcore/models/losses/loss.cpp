#include "segcore/models/loss.hpp"

namespace seg {

torch::Tensor Loss::per_pixel(const torch::Tensor&, const torch::Tensor&, int64_t) {
  throw Error(text(loss_name(), " is not a sum over pixels"));
}

std::shared_ptr<Loss> build_loss(const Spec<Loss>& spec, int64_t channels) {
  auto loss = spec.build();
  try {
    loss->check_channels(channels);
  } catch (const OptionError& e) {
    throw detail::located(e, spec.config(), spec.path());
  }
  return loss;
}

}  // namespace seg
