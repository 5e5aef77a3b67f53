#include "segcore/models/loss.hpp"
#include "segcore/models/losses/pixels.hpp"
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
    auto probs = full_precision(logits);
    if (p_.activate) probs = activate(probs, p_.use_sigmoid);
    const int64_t classes = probs.size(1);
    // Negative labels are class 0, as MMSegmentation clamps them.
    const auto safe = labels.clamp_min(0);
    const bool single = classes == 1;
    auto labelled = single ? labels == 1 : safe < classes;
    const bool drops = p_.ignore_index && *p_.ignore_index >= 0 && *p_.ignore_index < classes;
    if (drops) labelled = labelled & (safe != *p_.ignore_index);
    const auto overlap = at_labels(probs, single ? at::zeros_like(labels) : safe, labelled)
                             .masked_fill(~labelled, 0)
                             .sum({1, 2});
    const auto present = labelled.sum({1, 2}).to(probs.scalar_type());  // [N]
    if (drops) {
      probs =
          at::cat({probs.slice(1, 0, *p_.ignore_index), probs.slice(1, *p_.ignore_index + 1)}, 1);
    }
    const auto mass = p_.naive_dice ? probs.sum({1, 2, 3}) : probs.square().sum({1, 2, 3});
    const auto dice = p_.naive_dice ? (2 * overlap + p_.eps) / (mass + present + p_.eps)
                                    : 2 * overlap / (mass + p_.eps + present + p_.eps);
    return reduce_loss(1 - dice, {}, p_.reduction) * p_.loss_weight;
  }

 private:
  Params p_;
};

SEG_REGISTER(Loss, DiceLoss);

}  // namespace seg
