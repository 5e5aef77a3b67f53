#include "segcore/models/loss.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct KLDivLossParams {
  double temperature = 1;
  std::string reduction = "mean";
  std::string loss_name = "loss_kld";
};

/// MMSegmentation compares two maps of logits, and hands their softmax to torch's kl_div, which
/// expects logarithms: the loss is t (log t - p) for the target's share t of a class and the
/// prediction's p. A label is a target without doubt, t = 1 for its class, so that -p is left of
/// it.
class KLDivLoss final : public Loss {
 public:
  using Params = KLDivLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Kullback-Leibler divergence as MMSegmentation computes it, from labels.")
        .source("MMSegmentation 1.2, KLDivLoss")
        .optional("temperature", &Params::temperature,
                  "divides the logits; the loss is multiplied by its square")
        .optional("reduction", &Params::reduction,
                  "of the classes and pixels of an image; images are averaged", known_reduction())
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it")
        .validate([](const Params& p, Problems& problems) {
          if (p.temperature == 0) problems.error("temperature", "must not be 0");
        });
  }
  explicit KLDivLoss(const Params& p) : p_(p) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  void check_channels(int64_t channels) const override {
    check_softmax(channels, "type", "{type: CrossEntropyLoss, use_sigmoid: true}");
  }

  torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                        const torch::Tensor& weight, int64_t ignore_index) override {
    check_shapes(logits, labels);
    const int64_t images = logits.size(0), classes = logits.size(1);
    check_labels(labels, classes, ignore_index);
    const auto valid = labels != ignore_index;
    const auto share = (full_precision(logits) / p_.temperature).softmax(1);   // [N, C, H, W]
    auto loss = at_labels(share, labels, valid).masked_fill(~valid, 0).neg();  // [N, H, W]
    if (weight.defined()) loss = loss * weight;
    const int64_t counted = p_.reduction == "sum" ? images : images * classes * labels[0].numel();
    return loss.sum() * (p_.temperature * p_.temperature / static_cast<double>(counted));
  }

 private:
  Params p_;
};

SEG_REGISTER(Loss, KLDivLoss);

}  // namespace seg
