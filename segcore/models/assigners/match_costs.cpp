#include "segcore/models/assigners/assigner.hpp"
#include "segcore/torch.hpp"

namespace seg {

// --- Classes ------------------------------------------------------------------------------------

struct ClassificationCostParams {
  double weight = 1;
};

class ClassificationCost final : public MatchCost {
 public:
  using Params = ClassificationCostParams;
  static Schema<Params> schema() {
    return Schema<Params>("Minus the probability of the class.")
        .source("DETR, Carion et al. 2020, arXiv:2005.12872")
        .optional("weight", &Params::weight, "factor");
  }
  explicit ClassificationCost(const Params& p) : p_(p) {}
  at::Tensor operator()(const MatchInputs& in) const override {
    return in.scores.softmax(-1).index_select(1, in.labels) * -p_.weight;
  }

 private:
  Params p_;
};
SEG_REGISTER(MatchCost, ClassificationCost);

// --- Masks --------------------------------------------------------------------------------------

namespace {

/// The sum over pixels of `present` where the truth is and of `absent` elsewhere, [Q, G].
at::Tensor cost_of_pixels(const at::Tensor& present, const at::Tensor& absent,
                          const at::Tensor& truth) {
  return at::matmul(present, truth.t()) + at::matmul(absent, (1 - truth).t());
}

}  // namespace

struct FocalLossCostParams {
  double alpha = 0.25;
  double gamma = 2;
  double eps = 1e-12;
  bool binary_input = false;
  double weight = 1;
};

class FocalLossCost final : public MatchCost {
 public:
  using Params = FocalLossCostParams;
  static Schema<Params> schema() {
    return Schema<Params>("Focal loss of masks, or of classes.")
        .source("Lin et al. 2017, arXiv:1708.02002")
        .optional("alpha", &Params::alpha, "weight of foreground", in_range(0, 1))
        .optional("gamma", &Params::gamma, "how fast the weight of easy pixels fades", at_least(0))
        .optional("eps", &Params::eps, "added to probabilities", at_least(0))
        .optional("binary_input", &Params::binary_input, "of masks instead of classes")
        .optional("weight", &Params::weight, "factor");
  }
  explicit FocalLossCost(const Params& p) : p_(p) {}
  at::Tensor operator()(const MatchInputs& in) const override {
    const auto p = (p_.binary_input ? in.masks : in.scores).sigmoid();
    const auto absent = -(1 - p + p_.eps).log() * (1 - p_.alpha) * p.pow(p_.gamma);
    const auto present = -(p + p_.eps).log() * p_.alpha * (1 - p).pow(p_.gamma);
    if (!p_.binary_input) return (present - absent).index_select(1, in.labels) * p_.weight;
    const auto pixels = static_cast<double>(in.masks.size(1));
    return cost_of_pixels(present, absent, in.gt_masks) * (p_.weight / pixels);
  }

 private:
  Params p_;
};
SEG_REGISTER(MatchCost, FocalLossCost);

struct CrossEntropyLossCostParams {
  bool use_sigmoid = true;
  double weight = 1;
};

class CrossEntropyLossCost final : public MatchCost {
 public:
  using Params = CrossEntropyLossCostParams;
  static Schema<Params> schema() {
    return Schema<Params>("Binary cross entropy of masks.")
        .source("Mask2Former, Cheng et al. 2021, arXiv:2112.01527")
        .optional("use_sigmoid", &Params::use_sigmoid, "must be true")
        .optional("weight", &Params::weight, "factor")
        .validate([](const Params& p, Problems& problems) {
          if (!p.use_sigmoid) problems.error("use_sigmoid", "must be true");
        });
  }
  explicit CrossEntropyLossCost(const Params& p) : p_(p) {}
  at::Tensor operator()(const MatchInputs& in) const override {
    const auto pixels = static_cast<double>(in.masks.size(1));
    return cost_of_pixels(-at::log_sigmoid(in.masks), -at::log_sigmoid(-in.masks), in.gt_masks) *
           (p_.weight / pixels);
  }

 private:
  Params p_;
};
SEG_REGISTER(MatchCost, CrossEntropyLossCost);

struct DiceCostParams {
  bool pred_act = false;
  double eps = 1e-3;
  bool naive_dice = true;
  double weight = 1;
};

class DiceCost final : public MatchCost {
 public:
  using Params = DiceCostParams;
  static Schema<Params> schema() {
    return Schema<Params>("One minus the Dice overlap of masks.")
        .source("V-Net, Milletari et al. 2016, arXiv:1606.04797")
        .optional("pred_act", &Params::pred_act, "masks are logits")
        .optional("eps", &Params::eps, "added above and below the quotient", at_least(0))
        .optional("naive_dice", &Params::naive_dice,
                  "the denominator sums probabilities instead of their squares")
        .optional("weight", &Params::weight, "factor");
  }
  explicit DiceCost(const Params& p) : p_(p) {}
  at::Tensor operator()(const MatchInputs& in) const override {
    const auto masks = p_.pred_act ? in.masks.sigmoid() : in.masks;
    const auto overlap = 2 * at::matmul(masks, in.gt_masks.t());
    const auto mass = [&](const at::Tensor& x) { return (p_.naive_dice ? x : x.square()).sum(1); };
    const auto both = mass(masks).unsqueeze(1) + mass(in.gt_masks).unsqueeze(0);
    return (1 - (overlap + p_.eps) / (both + p_.eps)) * p_.weight;
  }

 private:
  Params p_;
};
SEG_REGISTER(MatchCost, DiceCost);

}  // namespace seg
