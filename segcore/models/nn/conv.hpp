/// Convolutions, built from a `conv_cfg`.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

struct ConvOptions {
  int64_t in_channels = 0, out_channels = 0;
  Size2 kernel_size = 1, stride = 1, padding = 0, dilation = 1;
  int64_t groups = 1;
  bool bias = true;
  std::string padding_mode = "zeros";  ///< "zeros", "reflect", "replicate" or "circular"

  /// Each pixel of the result is made of one of the map, by all channels.
  bool is_pointwise() const {
    return kernel_size == Size2(1) && stride == Size2(1) && padding == Size2(0) && groups == 1;
  }
};

struct NoParams {};

/// torch.nn.Conv2d, and the base of its variants.
class Conv2d : public Layer {
 public:
  using Params = NoParams;
  static Schema<Params> schema();
  explicit Conv2d(ConvOptions o) : Conv2d(std::move(o), 2) {}
  Conv2d(const Params&, const ConvOptions& o) : Conv2d(o, 2) {}
  torch::Tensor forward(const torch::Tensor& x) override;
  /// Fills weight and bias as PyTorch does at construction.
  void reset_parameters();
  std::vector<std::string> python_names() const override { return {"Conv2d", "_ConvNd"}; }

  torch::Tensor weight;  ///< [out_channels, in_channels / groups, kernel h, kernel w]
  torch::Tensor bias;    ///< [out_channels] or undefined
  const ConvOptions options;

 protected:
  Conv2d(ConvOptions o, int64_t spatial_dims);
};

template <>
struct Category<Conv2d> {
  static constexpr std::string_view name = "convolution";
  using Signature = std::shared_ptr<Conv2d>(const ConvOptions&);
};

/// The option `conv_cfg`; null for Conv2d.
using ConvCfg = std::optional<Spec<Conv2d>>;

std::shared_ptr<Conv2d> build_conv(const ConvCfg& cfg, const ConvOptions& options);

/// Normal with the variance 2 / (kernel h * kernel w * out_channels / groups), bias 0: He's rule by
/// the fan out, of one group.
void group_fan_out_init(Conv2d& conv);

/// Pads the two last dimensions at left, right, top and bottom: "zeros", "reflect", "replicate" or
/// "circular".
torch::Tensor pad2d(const torch::Tensor& x, int64_t left, int64_t right, int64_t top,
                    int64_t bottom, const std::string& mode = "zeros", double value = 0);

}  // namespace seg
