#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_choice.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/models/nn/kept_constant.hpp"
#include "segcore/ops/resize_class_sums/resize_class_sums.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct JaccardLossParams {
  bool use_sigmoid = false;
  ClassChoice classes = std::string("all");
  bool per_image = false;
  double smooth = 1.0;
  double eps = 1e-7;
  bool log_loss = false;
  std::string reduction = "mean";
  ClassWeightOption class_weight;
  double loss_weight = 1.0;
  std::optional<int64_t> ignore_index;
  std::string loss_name = "loss_jaccard";
};

/// One minus the soft intersection over union of each class.
class JaccardLoss final : public Loss {
 public:
  using Params = JaccardLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Soft intersection over union of probabilities and labels.")
        .source("Rahman and Wang 2016, doi:10.1007/978-3-319-50835-1_22")
        .optional("use_sigmoid", &Params::use_sigmoid,
                  "sigmoid instead of softmax; a single channel always takes it")
        .optional("classes", &Params::classes,
                  "classes whose losses count: all, those present in the labels, or a list")
        .optional("per_image", &Params::per_image, "one overlap per image instead of one per batch")
        .optional("smooth", &Params::smooth, "added above and below the quotient", at_least(0))
        .optional("eps", &Params::eps, "least denominator", at_least(0))
        .optional("log_loss", &Params::log_loss, "negative logarithm of the overlap instead")
        .optional("reduction", &Params::reduction, "how classes and images become one number",
                  known_reduction())
        .optional("class_weight", &Params::class_weight, "weight of each class")
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("ignore_index", &Params::ignore_index, "label without loss; null: the head's")
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it")
        .validate(
            [](const Params& p, Problems& problems) { check_class_choice(p.classes, problems); });
  }
  explicit JaccardLoss(const Params& p) : p_(p), class_weight_(p.class_weight) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  ClassWeight* class_weight() override { return &class_weight_; }
  void check_channels(int64_t channels) const override {
    class_weight_.check(channels);
    check_class_choice(p_.classes, channels);
  }

  torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                        const torch::Tensor&, int64_t head_ignore_index) override {
    check_shapes(logits, labels);
    return of_small(logits, labels, {}, head_ignore_index, /*align_corners=*/false)->loss;
  }

  std::optional<LossAndAccuracy> of_small(const torch::Tensor& small, const torch::Tensor& labels,
                                          const torch::Tensor&, int64_t head_ignore_index,
                                          bool align_corners) override {
    const int64_t ignore_index = p_.ignore_index.value_or(head_ignore_index);
    const bool single = small.size(1) == 1;
    check_labels(labels, single ? 2 : small.size(1), ignore_index);
    const auto sums =
        resize_class_sums(small, single ? channel_labels(labels, ignore_index) : labels,
                          {.activation = p_.use_sigmoid || single ? LogitActivation::kSigmoid
                                                                  : LogitActivation::kSoftmax,
                           .ignore_index = single ? -1 : ignore_index,
                           .align_corners = align_corners});
    const auto loss = combine(sums.hit, sums.mass, sums.present.to(sums.hit.scalar_type()));
    return LossAndAccuracy{loss * p_.loss_weight, {}};
  }

 private:
  /// \param hit, predicted, present  [N, C]: sums of p * y, p, y.
  torch::Tensor combine(torch::Tensor hit, torch::Tensor predicted, torch::Tensor present) const {
    if (!p_.per_image) {
      hit = hit.sum(0, true);  // [1, C]
      predicted = predicted.sum(0, true);
      present = present.sum(0, true);
    }
    const auto overlap =
        (hit + p_.smooth) / (predicted + present - hit + p_.smooth).clamp_min(p_.eps);
    auto loss = p_.log_loss ? -overlap.clamp_min(p_.eps).log() : 1 - overlap;
    if (class_weight_) loss = loss * class_weight_.of(loss);
    if (const auto* list = std::get_if<std::vector<int64_t>>(&p_.classes)) {
      const auto places =
          classes_.of({list->begin(), list->end()}, loss.options().dtype(at::kLong));
      return reduce_loss(loss.index_select(1, places), {}, p_.reduction);
    }
    if (std::get<std::string>(p_.classes) == "all") return reduce_loss(loss, {}, p_.reduction);
    const auto chosen = (present > 0).to(loss.scalar_type());
    const auto sum = (loss * chosen).sum();
    return p_.reduction == "sum" ? sum : sum / chosen.sum().clamp_min(1);
  }

  Params p_;
  ClassWeight class_weight_;
  KeptConstant classes_;  ///< a list of them
};

SEG_REGISTER(Loss, JaccardLoss);

}  // namespace seg
