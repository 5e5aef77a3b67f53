#include <limits>

#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"
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
    const auto x = full_precision(logits);
    return (p_.use_sigmoid ? binary(x, labels, weight, ignore_index)
                           : softmax(x, labels, weight, ignore_index)) *
           p_.loss_weight;
  }

  std::optional<LossAndAccuracy> of_small(const torch::Tensor& small, const torch::Tensor& labels,
                                          const torch::Tensor& weight, int64_t ignore_index,
                                          bool align_corners) override {
    if (p_.use_sigmoid) return std::nullopt;
    const auto x = full_precision(small);
    check_labels(labels, x.size(1), ignore_index);
    const auto class_weight = class_weight_.of(x);
    const auto sums =
        resize_cross_entropy(x, labels, class_weight, weight, ignore_index, align_corners);
    const auto right = sums.counts[0], valid = sums.counts[1];
    const auto loss = mean_of(sums.loss, labels.numel(), [&]() -> torch::Tensor {
      if (!class_weight.defined()) return valid.to(x.scalar_type());
      if (p_.avg_non_ignore) return sums.weight;
      const auto ignored = labels.numel() - valid;
      const bool has_weight = ignore_index >= 0 && ignore_index < x.size(1);
      return sums.weight + (has_weight ? ignored * class_weight[ignore_index] : ignored);
    });
    return LossAndAccuracy{loss * p_.loss_weight, accuracy_percent(right, valid, x.scalar_type())};
  }

  torch::Tensor per_pixel(const torch::Tensor& small, const torch::Tensor& labels,
                          int64_t ignore_index, bool align_corners) override {
    const auto x = full_precision(small);
    if (p_.use_sigmoid) {
      const auto full = resize(x, map_size(labels), align_corners);
      return binary_pixels(full, labels, ignore_index) * p_.loss_weight;
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
  torch::Tensor softmax(const torch::Tensor& x, const torch::Tensor& labels,
                        const torch::Tensor& weight, int64_t ignore_index) const {
    const int64_t classes = x.size(1);
    check_labels(labels, classes, ignore_index);
    const auto class_weight = class_weight_.of(x);
    torch::Tensor sum;
    if (weight.defined()) {
      const auto loss =
          at::cross_entropy_loss(x, labels, class_weight, at::Reduction::None, ignore_index);
      sum = (loss * weight).sum();
    } else {
      sum = at::cross_entropy_loss(x, labels, class_weight, at::Reduction::Sum, ignore_index);
    }
    return mean_of(sum, labels.numel(), [&]() -> torch::Tensor {
      const auto valid = labels != ignore_index;
      if (!class_weight.defined()) return valid.sum().to(x.scalar_type());
      const auto counted = p_.avg_non_ignore ? valid : (labels >= 0) & (labels < classes);
      const auto total =
          class_weight.index_select(0, labels.masked_select(counted)).sum();  // weight of all
      return p_.avg_non_ignore ? total : total + (labels.numel() - counted.sum());
    });
  }

  /// \param pixels  of the labels.
  /// \param total  computes what a mean is over, where it is not over all pixels.
  template <class Total>
  torch::Tensor mean_of(const torch::Tensor& sum, int64_t pixels, const Total& total) const {
    if (p_.reduction == "sum") return sum;
    if (p_.reduction == "none") return sum / pixels;
    if (!class_weight_ && !p_.avg_non_ignore) return sum / (pixels + kEps);
    return sum / (total() + kEps);
  }

  /// The sum over the classes of the binary losses of each pixel, 0 where ignored; [N, H, W].
  ///
  /// Without one-hot labels: all classes as if absent, and the labelled one corrected.
  torch::Tensor binary_pixels(const torch::Tensor& x, const torch::Tensor& labels,
                              int64_t ignore_index) const {
    const bool single = x.size(1) == 1;
    check_labels(labels, single ? 2 : x.size(1), ignore_index, /*below_zero_ignored=*/true);
    const auto valid = (labels >= 0) & (labels != ignore_index);
    const auto foreground = single ? labels == 1 : valid;
    const auto channel = single ? at::zeros_like(labels) : labels;
    const auto chosen = at_labels(x, channel, valid);  // [N, H, W]
    auto correction = -chosen;                         // log(1 - p) - log(p), of logits
    if (class_weight_) {
      const auto pos_weight =
          class_weight_.of(x).index_select(0, channel.masked_fill(~valid, 0).reshape({-1}));
      correction =
          at::log_sigmoid(-chosen) - pos_weight.view(labels.sizes()) * at::log_sigmoid(chosen);
    }
    const auto absent = -at::log_sigmoid(-x).sum(1);
    return (absent + correction.masked_fill(~foreground, 0)).masked_fill(~valid, 0);
  }

  torch::Tensor binary(const torch::Tensor& x, const torch::Tensor& labels,
                       const torch::Tensor& weight, int64_t ignore_index) const {
    auto loss = binary_pixels(x, labels, ignore_index);
    if (weight.defined()) loss = loss * weight;
    const auto sum = loss.sum();
    if (p_.reduction == "sum") return sum;
    if (p_.reduction == "none" || !p_.avg_non_ignore) return sum / x.numel();
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
