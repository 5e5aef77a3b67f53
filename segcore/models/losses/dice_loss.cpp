#include "segcore/models/loss.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/ops/resize_class_sums/resize_class_sums.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct DiceLossParams {
  bool use_sigmoid = true;
  bool activate = true;
  std::string reduction = "mean";
  bool naive_dice = false;
  double loss_weight = 1.0;
  std::optional<int64_t> ignore_index = 255;
  double eps = 1e-3;
  std::string loss_name = "loss_dice";
};

/// One minus the Dice overlap of an image's probabilities with its labels, classes and pixels
/// taken together.
///
/// As in MMSegmentation, `ignore_index` drops the class of that number, and ignored pixels have no
/// label but their probabilities still count. A single channel is that of label 1, as for all
/// losses and for predictions; MMSegmentation's Dice loss takes it for that of label 0.
class DiceLoss final : public Loss {
 public:
  using Params = DiceLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Dice overlap of probabilities and labels, per image.")
        .source("V-Net, Milletari et al. 2016, arXiv:1606.04797")
        .optional("use_sigmoid", &Params::use_sigmoid, "sigmoid instead of softmax")
        .optional("activate", &Params::activate, "logits become probabilities here")
        .optional("reduction", &Params::reduction, "how images become one number",
                  known_reduction())
        .optional("naive_dice", &Params::naive_dice,
                  "the denominator sums probabilities instead of their squares")
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("ignore_index", &Params::ignore_index, "class to leave out; null: none")
        .optional("eps", &Params::eps, "keeps the quotient finite", at_least(0))
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it");
  }
  explicit DiceLoss(const Params& p) : p_(p) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  void check_channels(int64_t channels) const override {
    if (channels != 1) return;
    if (p_.activate && !p_.use_sigmoid) {
      check_softmax(channels, "use_sigmoid", "use_sigmoid: true");
    }
    if (p_.ignore_index == 0 || p_.ignore_index == 1) {
      throw OptionError("ignore_index",
                        text("leaves out class ", *p_.ignore_index,
                             ", but logits of 1 channel only tell the classes 0 and 1 apart"));
    }
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
    // Negative labels are class 0, as MMSegmentation clamps them.
    auto truth = classes == 1 ? channel_labels(labels, std::nullopt) : labels.clamp_min(0);
    const bool drops = p_.ignore_index && *p_.ignore_index >= 0 && *p_.ignore_index < classes;
    if (drops) truth = truth.masked_fill(truth == *p_.ignore_index, classes);
    auto sums = resize_class_sums(
        small, truth,
        {.activation = activation(), .squared = !p_.naive_dice, .align_corners = align_corners});
    if (drops) {
      sums.mass = at::cat(
          {sums.mass.slice(1, 0, *p_.ignore_index), sums.mass.slice(1, *p_.ignore_index + 1)}, 1);
    }
    const auto overlap = sums.hit.sum(1), mass = sums.mass.sum(1);  // [N]
    const auto present = sums.present.sum(1).to(mass.scalar_type());
    const auto dice = p_.naive_dice ? (2 * overlap + p_.eps) / (mass + present + p_.eps)
                                    : 2 * overlap / (mass + p_.eps + present + p_.eps);
    return LossAndAccuracy{reduce_loss(1 - dice, {}, p_.reduction) * p_.loss_weight, {}};
  }

 private:
  LogitActivation activation() const {
    if (!p_.activate) return LogitActivation::kNone;
    return p_.use_sigmoid ? LogitActivation::kSigmoid : LogitActivation::kSoftmax;
  }

  Params p_;
};

SEG_REGISTER(Loss, DiceLoss);

}  // namespace seg
