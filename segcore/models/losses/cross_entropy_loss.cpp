#include <limits>

#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"
#include "segcore/ops/resize_focal_loss/resize_focal_loss.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct CrossEntropyLossParams {
  bool use_sigmoid = false;
  bool use_mask = false;
  std::string reduction = "mean";
  ClassWeightOption class_weight;
  double loss_weight = 1.0;
  std::string loss_name = "loss_ce";
  bool avg_non_ignore = false;
};

/// Cross entropy of a softmax over the classes, or of one sigmoid per class.
///
/// As in MMSegmentation, the mean is over all pixels, ignored ones included, unless
/// `avg_non_ignore`; with class weights each pixel counts in that mean with the weight of its
/// class, an ignored one with 1.
class CrossEntropyLoss final : public Loss {
 public:
  using Params = CrossEntropyLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Cross entropy, of a softmax or of one sigmoid per class.")
        .optional("use_sigmoid", &Params::use_sigmoid,
                  "one binary problem per class instead of a softmax over them")
        .optional("use_mask", &Params::use_mask,
                  "cross entropy of the masks of regions, which segmentation heads do not have")
        .optional("reduction", &Params::reduction, "how pixels become one number",
                  known_reduction())
        .optional("class_weight", &Params::class_weight,
                  "weight of each class: a list, or a .npy, .json or .yaml file with one")
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it")
        .optional("avg_non_ignore", &Params::avg_non_ignore,
                  "the mean is over the pixels that are not ignored, instead of over all")
        .validate([](const Params& p, Problems& problems) {
          if (p.use_sigmoid && p.use_mask) {
            problems.error("use_mask", "cannot be combined with use_sigmoid");
          } else if (p.use_mask) {
            problems.error("use_mask",
                           "needs regions with masks, which heads for semantic segmentation do "
                           "not give. Write use_sigmoid: true for binary cross entropy");
          }
        });
  }
  explicit CrossEntropyLoss(const Params& p) : p_(p), class_weight_(p.class_weight) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  ClassWeight* class_weight() override { return &class_weight_; }
  bool has_per_pixel() const override { return true; }
  void check_channels(int64_t channels) const override {
    if (!p_.use_sigmoid) check_softmax(channels, "use_sigmoid", "use_sigmoid: true");
    class_weight_.check(channels);
  }

  torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                        const torch::Tensor& weight, int64_t ignore_index) override {
    check_shapes(logits, labels);
    return of_small(logits, labels, weight, ignore_index, /*align_corners=*/false)->loss;
  }

  std::optional<LossAndAccuracy> of_small(const torch::Tensor& small, const torch::Tensor& labels,
                                          const torch::Tensor& weight, int64_t ignore_index,
                                          bool align_corners) override {
    const auto x = full_precision(small);
    if (p_.use_sigmoid) {
      const auto loss = binary(x, labels, weight, ignore_index, align_corners);
      return LossAndAccuracy{loss * p_.loss_weight, {}};
    }
    check_labels(labels, x.size(1), ignore_index);
    const auto class_weight = class_weight_.of(x);
    const auto sums =
        resize_cross_entropy(x, labels, class_weight, weight, ignore_index, align_corners);
    const auto loss = reduced(sums, class_weight, labels.numel(), ignore_index) * p_.loss_weight;
    return LossAndAccuracy{loss, accuracy_percent(sums.counts[0], sums.counts[1], x.scalar_type())};
  }

  torch::Tensor per_pixel(const torch::Tensor& small, const torch::Tensor& labels,
                          int64_t ignore_index, bool align_corners) override {
    const auto x = full_precision(small);
    if (p_.use_sigmoid) {
      const auto truth = binary_labels(labels, x.size(1), ignore_index);
      return resize_pixel_focal_loss(x, truth, binary_options(x, ignore_index, align_corners)) *
             p_.loss_weight;
    }
    check_labels(labels, x.size(1), ignore_index);
    auto losses = resize_pixel_cross_entropy(x, labels, ignore_index, align_corners);
    if (class_weight_) {
      const auto index = labels.masked_fill(labels == ignore_index, 0).flatten();
      losses = losses * class_weight_.of(x).index_select(0, index).view_as(losses);
    }
    return losses * p_.loss_weight;
  }

 private:
  /// \param pixels  of the labels, ignored ones included.
  torch::Tensor reduced(const ResizedCrossEntropy& sums, const torch::Tensor& class_weight,
                        int64_t pixels, int64_t ignore_index) const {
    if (p_.reduction == "sum") return sums.loss;
    if (p_.reduction == "none") return sums.loss / pixels;
    const auto valid = sums.counts[1];
    if (!class_weight.defined()) {
      return p_.avg_non_ignore ? sums.loss / (valid.to(sums.loss.scalar_type()) + kEps)
                               : sums.loss / (pixels + kEps);
    }
    auto total = sums.weight;
    if (!p_.avg_non_ignore) {
      const auto ignored = pixels - valid;
      const bool has_weight = ignore_index >= 0 && ignore_index < class_weight.size(0);
      total = total + (has_weight ? ignored * class_weight[ignore_index] : ignored);
    }
    return sums.loss / (total + kEps);
  }

  static torch::Tensor binary_labels(const torch::Tensor& labels, int64_t channels,
                                     int64_t ignore_index) {
    check_labels(labels, channels == 1 ? 2 : channels, ignore_index, /*below_zero_ignored=*/true);
    if (channels > 1) return labels;
    return channel_labels(labels, ignore_index).masked_fill(labels < 0, -1);
  }
  FocalOptions binary_options(const torch::Tensor& x, int64_t ignore_index,
                              bool align_corners) const {
    return {.present_weight = class_weight_.of(x),
            .ignore_index = x.size(1) == 1 ? -1 : ignore_index,
            .align_corners = align_corners};
  }

  torch::Tensor binary(const torch::Tensor& x, const torch::Tensor& labels,
                       const torch::Tensor& weight, int64_t ignore_index,
                       bool align_corners) const {
    auto sum = resize_focal_loss(x, binary_labels(labels, x.size(1), ignore_index), weight,
                                 binary_options(x, ignore_index, align_corners));
    if (p_.reduction == "sum") return sum;
    if (p_.reduction == "none" || !p_.avg_non_ignore) return sum / (labels.numel() * x.size(1));
    const auto valid = (labels >= 0) & (labels != ignore_index);
    return sum / (valid.sum().to(x.scalar_type()) * x.size(1) + kEps);
  }

  /// Keeps a mean over no pixels at zero, as in MMSegmentation.
  static constexpr double kEps = std::numeric_limits<float>::epsilon();
  Params p_;
  ClassWeight class_weight_;
};

SEG_REGISTER(Loss, CrossEntropyLoss);

}  // namespace seg
