#include <opencv2/imgproc.hpp>

#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/models/losses/pixels.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct HuasdorffDisstanceLossParams {
  std::string reduction = "mean";
  ClassWeightOption class_weight;
  double loss_weight = 1.0;
  std::optional<int64_t> ignore_index = 255;
  std::string loss_name = "loss_huasdorff_disstance";
};

/// Squared errors weighed by the squared distances to the boundaries of the foreground, of labels
/// and of predictions.
///
/// As in MMSegmentation, class 0 is the background, all other classes share one distance map, and
/// the error is taken to the label's number: meant for two classes.
class HuasdorffDisstanceLoss final : public Loss {
 public:
  using Params = HuasdorffDisstanceLossParams;
  static Schema<Params> schema() {
    return Schema<Params>("Errors weighed by their distance to the boundary (Hausdorff distance).")
        .source("Ma et al. 2020, proceedings.mlr.press/v121/ma20b.html")
        .optional("reduction", &Params::reduction, "has no effect: the mean is taken inside",
                  known_reduction())
        .optional("class_weight", &Params::class_weight, "weight of each class")
        .optional("loss_weight", &Params::loss_weight, "factor of this loss")
        .optional("ignore_index", &Params::ignore_index, "label and class that are left out")
        .optional("loss_name", &Params::loss_name, "name in the log; with \"loss\" in it");
  }
  explicit HuasdorffDisstanceLoss(const Params& p) : p_(p), class_weight_(p.class_weight) {}

  const std::string& loss_name() const override { return p_.loss_name; }
  ClassWeight* class_weight() override { return &class_weight_; }
  void check_channels(int64_t channels) const override {
    check_softmax(channels, "type", "{type: DiceLoss}");
    class_weight_.check(channels);
  }

  torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                        const torch::Tensor&, int64_t) override {
    check_shapes(logits, labels);
    const auto probs = full_precision(logits).softmax(1);
    const int64_t classes = probs.size(1);
    auto truth = labels;
    if (p_.ignore_index) truth = labels.masked_fill(labels == *p_.ignore_index, 0);
    const auto weight = squared_distance(truth)
                            .add_(squared_distance(probs.detach().argmax(1)))
                            .to(probs.device(), probs.scalar_type());  // [N, H, W]
    const auto target = truth.to(probs.scalar_type());
    const auto class_weight = class_weight_.of(probs);
    auto total = at::zeros({}, probs.options());
    for (int64_t c = 1; c < classes; ++c) {
      if (p_.ignore_index && c == *p_.ignore_index) continue;
      auto loss = ((probs.select(1, c) - target).square() * weight).mean();
      if (class_weight.defined()) loss = loss * class_weight[c];
      total = total + loss;
    }
    return total / classes * p_.loss_weight;
  }

 private:
  /// Of each pixel of the foreground to the nearest of the background; float [N, H, W] on the CPU.
  /// An image that is all foreground has no boundary and gets 0.
  static torch::Tensor squared_distance(const torch::Tensor& classes) {
    const auto mask = (classes != 0).to(at::kByte).cpu().contiguous();
    auto out = at::zeros(mask.sizes(), at::kFloat);
    const int rows = static_cast<int>(mask.size(1)), columns = static_cast<int>(mask.size(2));
    for (int64_t i = 0; i < mask.size(0); ++i) {
      auto picture = mask[i];
      if (picture.all().item<bool>()) continue;
      const cv::Mat from(rows, columns, CV_8U, picture.data_ptr());
      cv::Mat to(rows, columns, CV_32F, out[i].data_ptr());
      cv::distanceTransform(from, to, cv::DIST_L2, cv::DIST_MASK_PRECISE, CV_32F);
    }
    return out.square_();
  }

  Params p_;
  ClassWeight class_weight_;
};

SEG_REGISTER(Loss, HuasdorffDisstanceLoss);

}  // namespace seg
