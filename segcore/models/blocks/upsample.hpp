/// Layers that enlarge feature maps, built from an `upsample_cfg`.
#pragma once
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

/// Options that a decoder sets for its upsampling layers.
struct UpsampleOptions {
  int64_t in_channels = 0, out_channels = 0;
  bool with_cp = false;
  NormCfg norm_cfg;
  ActCfg act_cfg = relu_cfg();
};

class UpsampleLayer : public Layer {};

template <>
struct Category<UpsampleLayer> {
  static constexpr std::string_view name = "upsampling layer";
  using Signature = std::shared_ptr<UpsampleLayer>(const UpsampleOptions&);
};

/// torch.nn.ConvTranspose2d with its initial values.
class ConvTranspose2d final : public Layer {
 public:
  ConvTranspose2d(int64_t in, int64_t out, int64_t kernel_size, int64_t stride, int64_t padding,
                  int64_t output_padding = 0, bool bias = true);
  torch::Tensor forward(const torch::Tensor& x) override;
  std::vector<std::string> python_names() const override {
    return {"ConvTranspose2d", "_ConvTransposeNd", "_ConvNd"};
  }

 private:
  int64_t stride_, padding_, output_padding_;
  torch::Tensor weight_, bias_;
};

/// Arguments of mmseg's Upsample: a size, or a factor.
struct InterpolateParams {
  std::optional<Size2> size;
  std::optional<double> scale_factor;
  std::string mode = "nearest";
  std::optional<bool> align_corners;
  static Schema<InterpolateParams> schema();
};

/// Resizes a map to the given size, or to floor(side * scale_factor).
std::shared_ptr<Layer> make_interpolation(const InterpolateParams& p);

}  // namespace seg
