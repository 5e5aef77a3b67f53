#include <limits>

#include "segcore/models/losses/depth_loss.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct SiLogLossParams {
  std::string reduction = "mean";
  double loss_weight = 1.0;
  double eps = 1e-6;
  std::string loss_name = "loss_silog";
};

/// Spread of the logarithms of true and estimated depth: a common factor costs half.
class SiLogLoss final : public DepthLoss {
 public:
  using Params = SiLogLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Scale-invariant difference of the logarithms of depth, per image.")
        .source("Eigen, Puhrsch, Fergus 2014, arXiv:1406.2283; MMSegmentation 1.2")
        .optional("reduction", &Params::reduction, "how images become one number",
                  known_reduction())
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("eps", &Params::eps, "depth below it is unknown, or estimated as this", above(0))
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it");
  }
  explicit SiLogLoss(const Params& p) : p_(p) {}
  const std::string& loss_name() const override { return p_.loss_name; }

  at::Tensor operator()(const at::Tensor& depth, const at::Tensor& truth) const override {
    const auto estimate = depth.flatten(1), real = truth.to(depth.scalar_type()).flatten(1);
    auto difference = real.clamp_min(p_.eps).log() - estimate.clamp_min(p_.eps).log();
    const auto known = (real > p_.eps) & ~difference.isnan();
    difference = difference.masked_fill(~known, 0);
    const auto count = known.sum(1).to(difference.scalar_type()).clamp_min(p_.eps);  // [N]
    const auto mean = difference.sum(1) / count;
    // Never 0 under the root, whose slope there would make all gradients NaN: of an image without
    // known depth, or of a perfect estimate.
    const auto spread = (difference.square().sum(1) / count - 0.5 * mean.square())
                            .clamp_min(std::numeric_limits<float>::min());
    return reduce_loss(spread.sqrt(), {}, p_.reduction) * p_.loss_weight;
  }

 private:
  Params p_;
};
SEG_REGISTER(DepthLoss, SiLogLoss);

}  // namespace seg
