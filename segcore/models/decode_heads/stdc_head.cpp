#include "segcore/models/decode_heads/fcn_head.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct STDCHeadParams : FCNHeadParams {
  double boundary_threshold = 0.1;
};

/// Learns where classes meet: boundaries found in the labels at three resolutions.
class STDCHead final : public FCNHead {
 public:
  using Params = STDCHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Learns the boundaries of the labels.")
        .source("Fan et al. 2021, arXiv:2104.13188")
        .include(FCNHead::options())
        .optional("boundary_threshold", &Params::boundary_threshold,
                  "response of the Laplacian above which a pixel is boundary");
  }
  static DecodeHeadFacts facts(const Params&) { return {}; }
  STDCHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : FCNHead(p, inputs), threshold_(p.boundary_threshold) {
    laplacian_kernel_ = register_buffer(
        "laplacian_kernel",
        torch::tensor({-1.f, -1.f, -1.f, -1.f, 8.f, -1.f, -1.f, -1.f, -1.f}).view({1, 1, 3, 3}));
    fusion_kernel_ = register_parameter(
        "fusion_kernel", torch::tensor({0.6f, 0.3f, 0.1f}).view({1, 3, 1, 1}), false);
  }
  using FCNHead::loss;
  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    return loss_by_feat(forward(features), boundaries(targets.labels));
  }

 private:
  /// 1 on boundaries, int64 [N, H, W]. Ignored pixels are a class like any other, as in
  /// MMSegmentation.
  torch::Tensor boundaries(const torch::Tensor& labels) const {
    const torch::NoGradGuard no_grad;
    const auto x = labels.unsqueeze(1).to(laplacian_kernel_.scalar_type());
    std::vector<torch::Tensor> maps;
    for (const int64_t stride : {1, 2, 4}) {
      auto edge = at::conv2d(x, laplacian_kernel_, {}, stride, /*padding=*/1).clamp_min(0);
      if (stride > 1) edge = resize(edge, map_size(x), false, "nearest");
      maps.push_back((edge > threshold_).to(x.scalar_type()));
    }
    const auto fused = at::conv2d(joined_maps(maps), fusion_kernel_);
    return (fused > threshold_).to(torch::kLong).squeeze(1);
  }

  double threshold_;
  torch::Tensor laplacian_kernel_, fusion_kernel_;
};

SEG_REGISTER(DecodeHead, STDCHead);

}  // namespace seg
