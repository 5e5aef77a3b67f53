#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_choice.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct LovaszLossParams {
  std::string loss_type = "multi_class";
  ClassChoice classes = std::string("present");
  bool per_image = false;
  std::string reduction = "mean";
  ClassWeightOption class_weight;
  double loss_weight = 1.0;
  std::string loss_name = "loss_lovasz";
};

/// The Lovasz extension of the Jaccard index: a convex surrogate of the mIoU.
class LovaszLoss final : public Loss {
 public:
  using Params = LovaszLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Surrogate of the intersection over union (Lovasz extension).")
        .source("Berman et al. 2018, arXiv:1705.08790")
        .optional("loss_type", &Params::loss_type,
                  "hinge of one channel, or errors of a softmax over the classes",
                  one_of({"binary", "multi_class"}))
        .optional("classes", &Params::classes,
                  "classes whose losses are averaged: all, those present in the labels, or a list")
        .optional("per_image", &Params::per_image, "one loss per image instead of one per batch")
        .optional("reduction", &Params::reduction, "how images become one number, if per_image",
                  known_reduction())
        .optional("class_weight", &Params::class_weight, "weight of each class")
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it")
        .validate([](const Params& p, Problems& problems) {
          check_class_choice(p.classes, problems);
          if (!p.per_image && p.reduction != "none" && problems.given("reduction")) {
            problems.warn("reduction", "has no effect unless per_image is true");
          }
        });
  }
  explicit LovaszLoss(const Params& p) : p_(p), class_weight_(p.class_weight) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  ClassWeight* class_weight() override { return &class_weight_; }
  void check_channels(int64_t channels) const override {
    if (p_.loss_type == "binary") {
      if (channels == 1) return;
      throw OptionError("loss_type", text("binary needs logits of 1 channel, got ", channels));
    }
    check_softmax(channels, "loss_type", "loss_type: binary");
    class_weight_.check(channels);
    check_class_choice(p_.classes, channels);
  }

  torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                        const torch::Tensor&, int64_t ignore_index) override {
    check_shapes(logits, labels);
    const bool binary = p_.loss_type == "binary";
    auto x = full_precision(logits);
    if (!binary) x = x.softmax(1);
    check_labels(labels, binary ? 2 : x.size(1), ignore_index);
    std::vector<torch::Tensor> losses;
    const int64_t parts = p_.per_image ? x.size(0) : 1;
    for (int64_t i = 0; i < parts; ++i) {
      const auto part = p_.per_image ? x.narrow(0, i, 1) : x;
      const auto truth = (p_.per_image ? labels.narrow(0, i, 1) : labels).reshape({-1});
      const auto valid = (truth != ignore_index).nonzero().squeeze(1);
      const auto kept = truth.index_select(0, valid);
      if (kept.numel() == 0) {
        losses.push_back(part.sum() * 0);
        continue;
      }
      const auto flat =
          part.permute({1, 0, 2, 3}).flatten(1).index_select(1, valid);  // [C, pixels]
      losses.push_back(binary ? hinge(flat[0], kept) : multi_class(flat, kept));
    }
    return reduce_loss(at::stack(losses), {}, p_.per_image ? p_.reduction : "mean") *
           p_.loss_weight;
  }

 private:
  /// The derivative of the extension with respect to errors sorted in falling order (algorithm 1).
  static torch::Tensor gradient(const torch::Tensor& sorted_truth) {
    const auto total = sorted_truth.sum();
    const auto rest = total - sorted_truth.cumsum(0);
    const auto united = total + (1 - sorted_truth).cumsum(0);
    auto jaccard = 1 - rest / united;
    return at::cat({jaccard.slice(0, 0, 1), jaccard.slice(0, 1) - jaccard.slice(0, 0, -1)});
  }

  static torch::Tensor hinge(const torch::Tensor& logits, const torch::Tensor& labels) {
    const auto truth = labels.to(logits.scalar_type());
    const auto [errors, order] = (1 - logits * (2 * truth - 1)).sort(0, /*descending=*/true);
    return errors.relu().dot(gradient(truth.index_select(0, order)));
  }

  /// \param probs  float [C, pixels]
  torch::Tensor multi_class(const torch::Tensor& probs, const torch::Tensor& labels) const {
    const int64_t channels = probs.size(0);
    std::vector<int64_t> chosen;
    if (const auto* list = std::get_if<std::vector<int64_t>>(&p_.classes)) {
      chosen = *list;
    } else {
      torch::Tensor counts;
      if (std::get<std::string>(p_.classes) == "present") {
        counts = at::bincount(labels, {}, channels).cpu();
      }
      for (int64_t c = 0; c < channels; ++c) {
        if (!counts.defined() || counts[c].item<int64_t>() > 0) chosen.push_back(c);
      }
    }
    const auto class_weight = class_weight_.of(probs);
    std::vector<torch::Tensor> losses;
    for (const int64_t c : chosen) {
      const auto truth = (labels == c).to(probs.scalar_type());
      const auto [errors, order] = (truth - probs[c]).abs().sort(0, /*descending=*/true);
      auto loss = errors.dot(gradient(truth.index_select(0, order)));
      if (class_weight.defined()) loss = loss * class_weight[c];
      losses.push_back(loss);
    }
    return at::stack(losses).mean();
  }

  Params p_;
  ClassWeight class_weight_;
};

SEG_REGISTER(Loss, LovaszLoss);

}  // namespace seg
