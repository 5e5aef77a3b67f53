#include <cmath>

#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/ops/resize_class_sums/resize_class_sums.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct TverskyLossParams {
  double smooth = 1;
  ClassWeightOption class_weight;
  double loss_weight = 1.0;
  std::optional<int64_t> ignore_index = 255;
  double alpha = 0.3;
  double beta = 0.7;
  std::string loss_name = "loss_tversky";
};

/// Overlap of softmax probabilities and labels per image and class, with chosen weights of false
/// positives (alpha) and false negatives (beta).
class TverskyLoss final : public Loss {
 public:
  using Params = TverskyLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Overlap with separate weights of false positives and false negatives.")
        .source("Salehi et al. 2017, arXiv:1706.05721")
        .optional("smooth", &Params::smooth, "added above and below the quotient", at_least(0))
        .optional("class_weight", &Params::class_weight, "weight of each class")
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("ignore_index", &Params::ignore_index, "label and class that are left out")
        .optional("alpha", &Params::alpha, "weight of false positives", in_range(0, 1))
        .optional("beta", &Params::beta, "weight of false negatives; alpha + beta = 1",
                  in_range(0, 1))
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it")
        .validate([](const Params& p, Problems& problems) {
          if (std::abs(p.alpha + p.beta - 1) > 1e-9) {
            problems.error("beta", text("alpha + beta must be 1, got ", p.alpha, " + ", p.beta));
          }
        });
  }
  explicit TverskyLoss(const Params& p) : p_(p), class_weight_(p.class_weight) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  ClassWeight* class_weight() override { return &class_weight_; }
  void check_channels(int64_t channels) const override {
    check_softmax(channels, "type", "{type: JaccardLoss} or {type: DiceLoss}");
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
    const int64_t classes = small.size(1);
    check_labels(labels, classes, p_.ignore_index.value_or(0));
    const auto [hit, predicted, counts] = resize_class_sums(
        small, labels, {.ignore_index = p_.ignore_index, .align_corners = align_corners});
    const auto present = counts.to(hit.scalar_type());  // [N, C]
    const auto overlap = (hit + p_.smooth) / (hit + p_.alpha * (predicted - hit) +
                                              p_.beta * (present - hit) + p_.smooth);
    auto loss = (1 - overlap).mean(0);  // [C]
    if (class_weight_) loss = loss * class_weight_.of(loss);
    auto total = loss.sum();
    if (p_.ignore_index && *p_.ignore_index >= 0 && *p_.ignore_index < classes) {
      total = total - loss[*p_.ignore_index];
    }
    return LossAndAccuracy{total / classes * p_.loss_weight, {}};
  }

 private:
  Params p_;
  ClassWeight class_weight_;
};

SEG_REGISTER(Loss, TverskyLoss);

}  // namespace seg
