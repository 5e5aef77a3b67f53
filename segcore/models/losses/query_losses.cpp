#include <limits>

#include "segcore/models/losses/query_loss.hpp"
#include "segcore/models/nn/kept_constant.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// The options that all losses of queries have.
struct QueryLossParams {
  double loss_weight = 1;
  std::string reduction = "mean";

  static Schema<QueryLossParams> schema() {
    using P = QueryLossParams;
    return Schema<P>("")
        .optional("loss_weight", &P::loss_weight, "factor of this loss")
        .optional("reduction", &P::reduction, "must be mean", one_of({"mean"}))
        .accepted("avg_non_ignore", "no query is ignored")
        .accepted("ignore_index", "no query is ignored")
        .accepted("loss_name", "the head names its losses");
  }
};

namespace {

/// Added to every divisor to keep it above zero, as in mmdet.
constexpr double kQueryLossEps = std::numeric_limits<float>::epsilon();

/// The mean over all pixels of `count` masks.
/// \param losses  [M, P]
at::Tensor mean_of_masks(const at::Tensor& losses, double count) {
  return losses.sum() / (count * static_cast<double>(losses.size(1)) + kQueryLossEps);
}

}  // namespace

// --- Classes ------------------------------------------------------------------------------------

struct QueryCrossEntropyParams : QueryLossParams {
  bool use_sigmoid = false;
  std::optional<std::vector<double>> class_weight;
};

/// Cross entropy over the classes and "no object": a mean over queries, with the weights of their
/// classes.
class QueryCrossEntropy final : public QueryClassLoss {
 public:
  using Params = QueryCrossEntropyParams;
  static Schema<Params> schema() {
    return Schema<Params>("Cross entropy of a softmax over the classes and \"no object\".")
        .optional("use_sigmoid", &Params::use_sigmoid, "must be false")
        .optional("class_weight", &Params::class_weight,
                  "weight of each class and, last, of queries that match nothing")
        .include(QueryLossParams::schema())
        .validate([](const Params& p, Problems& problems) {
          if (p.use_sigmoid) problems.error("use_sigmoid", "must be false: a query has one class");
        });
  }
  explicit QueryCrossEntropy(const Params& p) : p_(p) {}

  at::Tensor operator()(const at::Tensor& given, const at::Tensor& labels) const override {
    const auto scores = full_precision(given);
    const auto weight = p_.class_weight ? class_weight_.of(*p_.class_weight, scores.options())
                                        : at::ones({scores.size(1)}, scores.options());
    return at::cross_entropy_loss(scores, labels, weight, at::Reduction::Sum) /
           (weight.index_select(0, labels).sum() + kQueryLossEps) * p_.loss_weight;
  }

  std::string problem_with(int64_t num_classes) const override {
    if (!p_.class_weight || p_.class_weight->size() == static_cast<size_t>(num_classes) + 1) {
      return {};
    }
    return text("class_weight has ", p_.class_weight->size(), " values, but there are ",
                num_classes, " classes and one for nothing");
  }

 private:
  Params p_;
  KeptConstant class_weight_;
};
SEG_REGISTER_AS(QueryClassLoss, QueryCrossEntropy, "CrossEntropyLoss");

// --- Masks --------------------------------------------------------------------------------------

struct MaskCrossEntropyParams : QueryLossParams {
  bool use_sigmoid = false;
};

class MaskCrossEntropy final : public MaskLoss {
 public:
  using Params = MaskCrossEntropyParams;
  static Schema<Params> schema() {
    return Schema<Params>("Binary cross entropy of the pixels of masks.")
        .source("Mask2Former, Cheng et al. 2021, arXiv:2112.01527")
        .optional("use_sigmoid", &Params::use_sigmoid, "must be true")
        .include(QueryLossParams::schema())
        .validate([](const Params& p, Problems& problems) {
          if (!p.use_sigmoid) {
            problems.error("use_sigmoid", "must be true: each pixel is a binary problem");
          }
        });
  }
  explicit MaskCrossEntropy(const Params& p) : p_(p) {}
  at::Tensor operator()(const at::Tensor& logits, const at::Tensor& truth,
                        double count) const override {
    const auto losses = at::binary_cross_entropy_with_logits(full_precision(logits), truth, {}, {},
                                                             at::Reduction::None);
    return mean_of_masks(losses, count) * p_.loss_weight;
  }
  bool measures_overlap() const override { return false; }

 private:
  Params p_;
};
SEG_REGISTER_AS(MaskLoss, MaskCrossEntropy, "CrossEntropyLoss");

struct MaskFocalParams : QueryLossParams {
  bool use_sigmoid = true;
  double gamma = 2;
  double alpha = 0.25;
};

class MaskFocal final : public MaskLoss {
 public:
  using Params = MaskFocalParams;
  static Schema<Params> schema() {
    return Schema<Params>("Focal loss of the pixels of masks.")
        .source("Lin et al. 2017, arXiv:1708.02002")
        .optional("use_sigmoid", &Params::use_sigmoid, "has no effect: pixels are binary problems")
        .optional("gamma", &Params::gamma, "how fast the weight of easy pixels fades", at_least(0))
        .optional("alpha", &Params::alpha, "weight of foreground against background (1 - alpha)",
                  in_range(0, 1))
        .include(QueryLossParams::schema());
  }
  explicit MaskFocal(const Params& p) : p_(p) {}
  at::Tensor operator()(const at::Tensor& logits, const at::Tensor& truth,
                        double count) const override {
    const auto x = full_precision(logits);
    const auto p = x.sigmoid();
    const auto wrong = (1 - p) * truth + p * (1 - truth);
    const auto losses =
        at::binary_cross_entropy_with_logits(x, truth, {}, {}, at::Reduction::None) *
        (p_.alpha * truth + (1 - p_.alpha) * (1 - truth)) * wrong.pow(p_.gamma);
    return mean_of_masks(losses, count) * p_.loss_weight;
  }
  bool measures_overlap() const override { return false; }

 private:
  Params p_;
};
SEG_REGISTER_AS(MaskLoss, MaskFocal, "FocalLoss");

struct MaskDiceParams : QueryLossParams {
  bool use_sigmoid = true;
  bool activate = true;
  bool naive_dice = false;
  double eps = 1e-3;
};

class MaskDice final : public MaskLoss {
 public:
  using Params = MaskDiceParams;
  static Schema<Params> schema() {
    return Schema<Params>("One minus the Dice overlap of masks.")
        .source("V-Net, Milletari et al. 2016, arXiv:1606.04797")
        .optional("use_sigmoid", &Params::use_sigmoid, "has no effect: pixels are binary problems")
        .optional("activate", &Params::activate, "masks are logits")
        .optional("naive_dice", &Params::naive_dice,
                  "the denominator sums probabilities instead of their squares")
        .optional("eps", &Params::eps, "keeps the quotient finite", at_least(0))
        .include(QueryLossParams::schema());
  }
  explicit MaskDice(const Params& p) : p_(p) {}
  at::Tensor operator()(const at::Tensor& logits, const at::Tensor& truth,
                        double count) const override {
    const auto x = full_precision(logits);
    const auto p = p_.activate ? x.sigmoid() : x;
    const auto overlap = 2 * (p * truth).sum(1);
    const auto dice = p_.naive_dice
                          ? (overlap + p_.eps) / (p.sum(1) + truth.sum(1) + p_.eps)
                          : overlap / (p.square().sum(1) + truth.square().sum(1) + 2 * p_.eps);
    return (1 - dice).sum() / (count + kQueryLossEps) * p_.loss_weight;
  }
  bool measures_overlap() const override { return true; }

 private:
  Params p_;
};
SEG_REGISTER_AS(MaskLoss, MaskDice, "DiceLoss");

}  // namespace seg
