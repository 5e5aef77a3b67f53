#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/ops/nth_smallest.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct OhemCrossEntropyParams {
  int64_t ignore_label = 255;
  double thres = 0.7;
  int64_t min_kept = 100000;
  double loss_weight = 1.0;
  ClassWeightOption class_weight;
  std::string loss_name = "loss_ohem";
};

/// The mean cross entropy of the pixels whose true class is improbable.
class OhemCrossEntropy final : public Loss {
 public:
  using Params = OhemCrossEntropyParams;
  static Schema<Params> schema() {
    return Schema<Params>("Cross entropy of hard pixels only (online hard example mining).")
        .source("PIDNet, Xu et al. 2022, arXiv:2206.02066")
        .optional("ignore_label", &Params::ignore_label, "label without loss")
        .optional("thres", &Params::thres, "pixels whose true class has less probability count")
        .optional("min_kept", &Params::min_kept, "pixels of the batch that count at least")
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("class_weight", &Params::class_weight, "weight of each class")
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it");
  }
  explicit OhemCrossEntropy(const Params& p) : p_(p), class_weight_(p.class_weight) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  ClassWeight* class_weight() override { return &class_weight_; }
  void check_channels(int64_t channels) const override {
    check_softmax(channels, "type",
                  "{type: CrossEntropyLoss, use_sigmoid: true} with the head's sampler: {type: "
                  "OHEMPixelSampler, thresh: 0.7}");
    class_weight_.check(channels);
  }

  torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                        const torch::Tensor&, int64_t) override {
    check_shapes(logits, labels);
    return of_small(logits, labels, {}, 0, /*align_corners=*/false)->loss;
  }

  std::optional<LossAndAccuracy> of_small(const torch::Tensor& small, const torch::Tensor& labels,
                                          const torch::Tensor&, int64_t,
                                          bool align_corners) override {
    const auto x = full_precision(small);
    check_labels(labels, x.size(1), p_.ignore_label);
    const auto hard = hard_pixels(x, labels, align_corners);
    const auto sums = resize_cross_entropy(x, labels, class_weight_.of(x), hard.to(x.scalar_type()),
                                           p_.ignore_label, align_corners);
    return LossAndAccuracy{sums.loss / hard.sum().clamp_min(1) * p_.loss_weight,
                           accuracy_percent(sums.counts[0], sums.counts[1], x.scalar_type())};
  }

 private:
  /// The pixels whose label is improbable, bool [N, H, W].
  torch::Tensor hard_pixels(const torch::Tensor& x, const torch::Tensor& labels,
                            bool align_corners) const {
    const torch::NoGradGuard no_grad;
    const auto valid = labels != p_.ignore_label;
    const auto probability =
        resize_pixel_cross_entropy(x, labels, p_.ignore_label, align_corners).neg_().exp_();
    const auto counted = probability.masked_select(valid);
    if (counted.numel() == 0) return valid;
    const int64_t rank = std::min(std::max<int64_t>(1, p_.min_kept), counted.numel() - 1);
    const auto least = nth_smallest(counted, rank);
    return (probability < least.clamp_min(p_.thres)).logical_and_(valid);
  }

  Params p_;
  ClassWeight class_weight_;
};

SEG_REGISTER(Loss, OhemCrossEntropy);

}  // namespace seg
