#include "segcore/models/nn/resize.hpp"
#include "segcore/models/pixel_sampler.hpp"
#include "segcore/ops/nth_smallest.hpp"
#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct OHEMPixelSamplerParams {
  std::optional<double> thresh;
  int64_t min_kept = 100000;
};

/// Online hard example mining: keeps the pixels whose true class is improbable, or those of the
/// largest loss.
class OHEMPixelSampler final : public PixelSampler {
 public:
  using Params = OHEMPixelSamplerParams;
  static Schema<Params> schema() {
    return Schema<Params>("Learns only from hard pixels (online hard example mining).")
        .source("Shrivastava et al. 2016, arXiv:1604.03540")
        .optional("thresh", &Params::thresh,
                  "pixels whose true class has a probability below this are kept; null: those of "
                  "the largest loss")
        .optional("min_kept", &Params::min_kept, "least number of pixels kept per image",
                  at_least(2));
  }
  explicit OHEMPixelSampler(const Params& p) : p_(p) {}

  bool needs_pixel_losses() const override { return !p_.thresh; }

  at::Tensor sample(const at::Tensor& given, const at::Tensor& labels, int64_t ignore_index,
                    const std::function<at::Tensor()>& pixel_losses,
                    bool align_corners) const override {
    const torch::NoGradGuard no_grad;
    const auto logits = full_precision(given);
    const int64_t kept = p_.min_kept * labels.size(0);
    const auto valid = labels != ignore_index;
    auto weight = at::zeros(labels.sizes(), logits.options());
    if (p_.thresh) {
      const auto probability = probability_of(labels, logits, ignore_index, align_corners);
      auto threshold = at::full({}, *p_.thresh, logits.options());
      const auto counted = probability.masked_select(valid);
      if (counted.numel() > 0) {
        threshold =
            at::maximum(threshold, nth_smallest(counted, std::min(kept, counted.numel() - 1)));
      }
      return weight.masked_fill_(valid & (probability < threshold), 1.0);
    }
    const auto candidates = valid.reshape({-1}).nonzero().squeeze(1);
    const auto losses = pixel_losses().reshape({-1}).index_select(0, candidates);
    const auto order = std::get<1>(losses.sort(/*dim=*/0, /*descending=*/true));
    const auto hardest = candidates.index_select(0, order.slice(0, 0, kept));
    weight.view(-1).index_fill_(0, hardest, 1.0);
    return weight;
  }

 private:
  /// Of the labelled class of each pixel, [N, H, W]; a single channel is that of label 1.
  static at::Tensor probability_of(const at::Tensor& labels, const at::Tensor& logits,
                                   int64_t ignore_index, bool align_corners) {
    if (logits.size(1) > 1) {
      return resize_pixel_cross_entropy(logits, labels, ignore_index, align_corners).neg_().exp_();
    }
    const auto full = resize(logits, map_size(labels), align_corners);
    const auto foreground = full.squeeze(1).sigmoid();
    return at::where(labels == 1, foreground, 1 - foreground);
  }

  Params p_;
};

SEG_REGISTER(PixelSampler, OHEMPixelSampler);

}  // namespace seg
