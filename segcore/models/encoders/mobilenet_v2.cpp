#include <array>

#include "segcore/models/backbones/mobilenet.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/smp/encoder.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {
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

}  // namespace

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
class MobileNetV2Encoder final : public Encoder {
 public:
  using Params = NoParams;
  static Schema<Params> schema() {
    return Schema<Params>("MobileNetV2.").source("Sandler et al. 2018, arXiv:1801.04381");
  }
  MobileNetV2Encoder(const Params&, const EncoderOptions& options)
      : Encoder("mobilenet_v2", options, {3, 16, 24, 32, 96, 1280},
                {{"imagenet", "e67aa804e17f7b404b629127eabbd224c4e0690b"}}),
        features_(std::make_shared<Sequential>()) {
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
    register_module("features", features_);
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out{images};
    auto x = images;
    const auto used = static_cast<size_t>(depth());
    for (size_t i = 0; i <= kEnds[used - 1]; ++i) {
      x = (*features_)[i]->forward(x);
      if (i == kEnds[out.size() - 1]) out.push_back(x);
    }
    if (is_training() && used < kEnds.size()) {
      // The library runs one stage more than it gives, whose norms count the batch.
      const torch::NoGradGuard no_grad;
      for (size_t i = kEnds[used - 1] + 1; i <= kEnds[used]; ++i) x = (*features_)[i]->forward(x);
    }
    return out;
  }

 private:
  static constexpr std::array<size_t, 5> kEnds{1, 3, 6, 13, 18};  ///< the layer of each map
  void push(const std::shared_ptr<Layer>& layer) {
    if (features_->size() > kEnds[static_cast<size_t>(depth() - 1)]) leave_untrained(*layer);
    features_->push_back(layer);
  }

  std::shared_ptr<Sequential> features_;
};
SEG_REGISTER_AS(Encoder, MobileNetV2Encoder, "mobilenet_v2");

}  // namespace seg::smp
