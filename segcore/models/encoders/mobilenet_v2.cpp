#include <algorithm>
#include <array>

#include "segcore/models/backbones/mobilenet.hpp"
#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct MobileConv {
  int64_t in, out, kernel, stride = 1, dilation = 1, groups = 1;
};

std::shared_ptr<Conv2d> mobile_conv(const MobileConv& c) {
  return std::make_shared<Conv2d>(ConvOptions{.in_channels = c.in,
                                              .out_channels = c.out,
                                              .kernel_size = c.kernel,
                                              .stride = c.stride,
                                              .padding = c.kernel / 2 * c.dilation,
                                              .dilation = c.dilation,
                                              .groups = c.groups,
                                              .bias = false});
}

/// Convolution, batch norm and ReLU6.
std::shared_ptr<Sequential> mobile_block(const std::shared_ptr<Conv2d>& conv) {
  auto out = std::make_shared<Sequential>();
  out->push_back(conv);
  out->push_back(norm_cfg_of("{type: BN}")->build(conv->options.out_channels));
  out->push_back(std::make_shared<Lambda>([](torch::Tensor x) { return at::hardtanh_(x, 0, 6); }));
  return out;
}

/// Widens, convolves each channel alone, narrows, under torchvision's names.
class TorchInvertedResidual final : public Layer {
 public:
  TorchInvertedResidual(int64_t in, int64_t out, int64_t expand_ratio, int64_t stride,
                        int64_t dilation)
      : shortcut_(stride == 1 && in == out), conv_(std::make_shared<Sequential>()) {
    const int64_t hidden = in * expand_ratio;
    if (expand_ratio != 1) conv_->push_back(mobile_block(mobile_conv({in, hidden, 1})));
    conv_->push_back(mobile_block(
        mobile_conv({hidden, hidden, 3, dilation > 1 ? 1 : stride, dilation, /*groups=*/hidden})));
    conv_->push_back(mobile_conv({hidden, out, 1}));
    conv_->push_back(norm_cfg_of("{type: BN}")->build(out));
    register_module("conv", conv_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto out = conv_->forward(x);
    return shortcut_ ? x + out : out;
  }

 private:
  bool shortcut_;
  std::shared_ptr<Sequential> conv_;
};

/// MobileNetV2 with torchvision's names, up to the last convolution.
class TorchMobileNetV2 final : public ChainEncoder {
 public:
  TorchMobileNetV2(const std::string& name, std::vector<EncoderWeights> published,
                   const EncoderOptions& options)
      : ChainEncoder(
            {.name = name, .channels = {16, 24, 32, 96, 1280}, .published = std::move(published)},
            options) {
    run_one_level_more();
    const auto first = mobile_conv({in_channels(), kMobileNetV2Stem, 3, 2});
    set_first_conv("features.0.0.weight", first);
    push(mobile_block(first));
    int64_t in = kMobileNetV2Stem, stride = 2;
    for (const auto& stage : kMobileNetV2Stages) {
      stride *= stage.stride;
      for (int64_t b = 0; b < stage.blocks; ++b) {
        push(std::make_shared<TorchInvertedResidual>(in, stage.channels, stage.expand_ratio,
                                                     b == 0 ? stage.stride : 1,
                                                     dilation_of(stride)));
        in = stage.channels;
      }
    }
    push(mobile_block(mobile_conv({in, 1280, 1})));
  }

 private:
  static constexpr std::array<int64_t, 5> kEnds{1, 3, 6, 13, 18};  ///< the layer of each map
  void push(const std::shared_ptr<Layer>& layer) {
    add(text("features.", count_), layer);
    if (std::ranges::count(kEnds, count_++) > 0) end_level();
  }

  int64_t count_ = 0;
};

std::vector<EncoderEntry> mobilenet_v2_encoders() {
  const auto entry = [](const std::string& name, const EncoderWeights& weights) {
    return EncoderEntry{.name = name,
                        .summary = "MobileNetV2.",
                        .source = "Sandler et al. 2018, arXiv:1801.04381",
                        .build = [name, weights](const EncoderOptions& options) {
                          return std::make_shared<TorchMobileNetV2>(
                              name, std::vector<EncoderWeights>{weights}, options);
                        }};
  };
  const std::string name = "mobilenet_v2";
  return {entry(name, smp_weights(name, "imagenet", "e67aa804e17f7b404b629127eabbd224c4e0690b")),
          entry("tv-" + name, torchvision_weights(name, "7ebf99e0"))};
}
SEG_REGISTER_ENCODERS(mobilenet_v2_encoders);

}  // namespace
}  // namespace seg
