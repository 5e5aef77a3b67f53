#include "segcore/models/loss.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct BoundaryLossParams {
  double loss_weight = 1.0;
  std::string loss_name = "loss_boundary";
};

/// Binary cross entropy of one channel in which edge pixels and others weigh the same in total.
class BoundaryLoss final : public Loss {
 public:
  using Params = BoundaryLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Balanced binary cross entropy of a map of boundaries.")
        .source("PIDNet, Xu et al. 2022, arXiv:2206.02066")
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it");
  }
  explicit BoundaryLoss(const Params& p) : p_(p) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  void check_channels(int64_t channels) const override {
    if (channels != 1) throw OptionError("type", text("needs 1 channel, got ", channels));
  }

  /// \param labels  1 on boundaries, 0 elsewhere; pixels with other values are ignored.
  torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                        const torch::Tensor&, int64_t) override {
    check_shapes(logits, labels);
    const auto x = full_precision(logits).squeeze(1);  // [N, H, W]
    const auto edge = labels == 1, other = labels == 0;
    const auto edges = edge.sum(), others = other.sum();
    const auto all = (edges + others).to(x.scalar_type());
    const auto weight =
        edge.to(x.scalar_type()) * (others / all) + other.to(x.scalar_type()) * (edges / all);
    return at::binary_cross_entropy_with_logits(x, labels.to(x.scalar_type()), weight) *
           p_.loss_weight;
  }

 private:
  Params p_;
};

SEG_REGISTER(Loss, BoundaryLoss);

}  // namespace seg
