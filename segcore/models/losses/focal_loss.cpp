#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/models/nn/kept_constant.hpp"
#include "segcore/ops/resize_focal_loss/resize_focal_loss.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct FocalLossParams {
  bool use_sigmoid = true;
  double gamma = 2.0;
  std::variant<double, std::vector<double>> alpha = 0.5;
  std::string reduction = "mean";
  ClassWeightOption class_weight;
  double loss_weight = 1.0;
  std::string loss_name = "loss_focal";
};

/// Binary cross entropy of each class, with less weight for easy pixels.
///
/// With C channels label C is background: no class is present. The mean is over all classes of all
/// pixels, ignored ones included, as in MMSegmentation.
class FocalLoss final : public Loss {
 public:
  using Params = FocalLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Binary cross entropy with less weight for easy pixels.")
        .source("Lin et al. 2017, arXiv:1708.02002")
        .optional("use_sigmoid", &Params::use_sigmoid, "must be true: one sigmoid per class")
        .optional("gamma", &Params::gamma, "how fast the weight of easy pixels fades", at_least(0))
        .optional("alpha", &Params::alpha,
                  "weight of foreground against background (1 - alpha): one, or one per class")
        .optional("reduction", &Params::reduction, "how pixels become one number",
                  known_reduction())
        .optional("class_weight", &Params::class_weight, "weight of each class")
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it")
        .validate([](const Params& p, Problems& problems) {
          if (!p.use_sigmoid) {
            problems.error("use_sigmoid", "must be true: there is no focal loss of a softmax");
          }
        });
  }
  explicit FocalLoss(const Params& p) : p_(p), class_weight_(p.class_weight) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  ClassWeight* class_weight() override { return &class_weight_; }
  bool has_per_pixel() const override { return true; }
  void check_channels(int64_t channels) const override {
    class_weight_.check(channels);
    const auto* alpha = std::get_if<std::vector<double>>(&p_.alpha);
    if (alpha && static_cast<int64_t>(alpha->size()) != channels) {
      throw OptionError("alpha", text("has ", alpha->size(), " values, but the head's logits have ",
                                      channels, channels == 1 ? " channel" : " channels"));
    }
  }

  torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                        const torch::Tensor& weight, int64_t ignore_index) override {
    check_shapes(logits, labels);
    return of_small(logits, labels, weight, ignore_index, /*align_corners=*/false)->loss;
  }

  std::optional<LossAndAccuracy> of_small(const torch::Tensor& small, const torch::Tensor& labels,
                                          const torch::Tensor& weight, int64_t ignore_index,
                                          bool align_corners) override {
    const auto truth = focal_labels(labels, small.size(1), ignore_index);
    const auto sum =
        resize_focal_loss(small, truth, weight, options(small, ignore_index, align_corners)) *
        p_.loss_weight;
    const int64_t count = labels.numel() * small.size(1);
    return LossAndAccuracy{p_.reduction == "sum" ? sum : sum / count, {}};
  }

  torch::Tensor per_pixel(const torch::Tensor& small, const torch::Tensor& labels,
                          int64_t ignore_index, bool align_corners) override {
    const auto truth = focal_labels(labels, small.size(1), ignore_index);
    return resize_pixel_focal_loss(small, truth, options(small, ignore_index, align_corners)) *
           p_.loss_weight;
  }

 private:
  static torch::Tensor focal_labels(const torch::Tensor& labels, int64_t channels,
                                    int64_t ignore_index) {
    check_labels(labels, channels + 1, ignore_index);
    return channels == 1 ? channel_labels(labels, ignore_index) : labels;
  }
  FocalOptions options(const torch::Tensor& small, int64_t ignore_index, bool align_corners) const {
    const auto like = small.new_empty({small.size(1)}, wide_type(small));
    const auto* one = std::get_if<double>(&p_.alpha);
    auto present = one ? at::full_like(like, *one)
                       : alpha_.of(std::get<std::vector<double>>(p_.alpha), like.options());
    auto absent = 1 - present;
    if (class_weight_) {
      present = present * class_weight_.of(like);
      absent = absent * class_weight_.of(like);
    }
    return {absent, present, p_.gamma, small.size(1) == 1 ? -1 : ignore_index, align_corners};
  }

  Params p_;
  ClassWeight class_weight_;
  KeptConstant alpha_;  ///< a list of them
};

SEG_REGISTER(Loss, FocalLoss);

}  // namespace seg
