#include "segcore/models/loss.hpp"
#include "segcore/torch.hpp"

namespace seg {

torch::Tensor accuracy_percent(const torch::Tensor& right, const torch::Tensor& valid,
                               at::ScalarType type) {
  // As mmseg: the smallest float32 step keeps an image without labels from dividing by zero.
  const double eps = 1.1920928955078125e-07;
  return (right.to(type) + eps) * 100 / (valid.to(type) + eps);
}

std::optional<LossAndAccuracy> Loss::of_small(const torch::Tensor&, const torch::Tensor&,
                                              const torch::Tensor&, int64_t, bool) {
  return std::nullopt;
}

torch::Tensor Loss::per_pixel(const torch::Tensor&, const torch::Tensor&, int64_t, bool) {
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
