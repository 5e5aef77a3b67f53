#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/models/nn/resize.hpp"
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
    auto sum = pixels(logits, labels, ignore_index);
    if (weight.defined()) sum = sum * weight;
    sum = sum.sum() * p_.loss_weight;
    return p_.reduction == "sum" ? sum : sum / logits.numel();
  }

  torch::Tensor per_pixel(const torch::Tensor& small, const torch::Tensor& labels,
                          int64_t ignore_index, bool align_corners) override {
    const auto logits = resize(full_precision(small), map_size(labels), align_corners);
    return pixels(logits, labels, ignore_index) * p_.loss_weight;
  }

 private:
  /// Sum over the classes, 0 where ignored; [N, H, W]. Without one-hot labels: all classes as if
  /// absent, then the labelled one exchanged.
  torch::Tensor pixels(const torch::Tensor& logits, const torch::Tensor& labels,
                       int64_t ignore_index) const {
    check_shapes(logits, labels);
    const auto x = full_precision(logits);
    const int64_t classes = x.size(1);
    check_labels(labels, classes + 1, ignore_index);
    const auto valid = labels != ignore_index;
    const auto present = classes == 1 ? labels == 1 : valid & (labels < classes);
    const auto channel = (classes == 1 ? at::zeros_like(labels) : labels).masked_fill(~present, 0);
    const auto class_weight = class_weight_.of(x);

    auto absent = absent_loss(x) * (1 - alpha_map(x));  // [N, C, H, W]
    if (class_weight.defined()) absent = absent * class_weight.view({-1, 1, 1});
    const auto chosen = at_labels(x, channel, present);  // [N, H, W]
    auto exchange = absent_loss(-chosen) * alpha_at(x, channel);
    if (class_weight.defined()) {
      exchange = exchange * class_weight.index_select(0, channel.reshape({-1})).view_as(chosen);
    }
    exchange = exchange - at_labels(absent, channel, present);
    return (absent.sum(1) + exchange.masked_fill(~present, 0)).masked_fill(~valid, 0);
  }

  /// sigmoid(x)^gamma * -log(1 - sigmoid(x)).
  torch::Tensor absent_loss(const torch::Tensor& x) const {
    return -x.sigmoid().pow(p_.gamma) * at::log_sigmoid(-x);
  }
  torch::Tensor alpha_map(const torch::Tensor& x) const {
    if (const auto* one = std::get_if<double>(&p_.alpha)) return at::full({}, *one, x.options());
    const auto& many = std::get<std::vector<double>>(p_.alpha);
    return at::tensor(many, at::kDouble).to(x.device(), x.scalar_type()).view({-1, 1, 1});
  }
  torch::Tensor alpha_at(const torch::Tensor& x, const torch::Tensor& channel) const {
    const auto alpha = alpha_map(x);
    if (alpha.dim() == 0) return alpha;
    return alpha.view(-1).index_select(0, channel.reshape({-1})).view_as(channel);
  }

  Params p_;
  ClassWeight class_weight_;
};

SEG_REGISTER(Loss, FocalLoss);

}  // namespace seg
