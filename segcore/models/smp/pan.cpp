#include "segcore/models/nn/resize.hpp"
#include "segcore/models/smp/segmentation_model.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct PanParams : DilatedModelParams {
  int64_t decoder_channels = 32;
  std::string decoder_interpolation = "bilinear";
  std::optional<std::string> upscale_mode;
  int64_t upsampling = 4;
};

/// Convolution with a bias, batch norm and ReLU: children `conv`, `bn`.
class PanConv final : public Layer {
 public:
  PanConv(int64_t in, int64_t out, int64_t kernel_size, bool relu = true) : relu_(relu) {
    conv_ =
        register_module("conv", std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                                     .out_channels = out,
                                                                     .kernel_size = kernel_size,
                                                                     .padding = kernel_size / 2}));
    norm_ = register_norm(*this, Spec<Norm>::of("{type: BN}"), out);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto out = norm_->forward(conv_->forward(x));
    return relu_ ? out.relu_() : out;
  }

 private:
  bool relu_;
  std::shared_ptr<Conv2d> conv_;
  std::shared_ptr<Norm> norm_;
};

/// Feature pyramid attention: the map times a small pyramid of itself, plus its mean.
class PyramidAttention final : public Layer {
 public:
  PyramidAttention(int64_t in, int64_t out) {
    const auto conv = [](int64_t from, int64_t to, int64_t kernel_size) {
      return std::make_shared<PanConv>(from, to, kernel_size);
    };
    const auto row = [&](const char* name, std::initializer_list<std::shared_ptr<Layer>> layers) {
      return register_module(name, std::make_shared<Sequential>(layers));
    };
    const auto half = std::make_shared<Lambda>(
        [](const torch::Tensor& x) { return at::max_pool2d(x, /*kernel_size=*/2, /*stride=*/2); });
    mean_ = row("branch1", {make_global_pool(), conv(in, out, 1)});
    middle_ = row("mid", {conv(in, out, 1)});
    down1_ = row("down1", {half, conv(in, 1, 7)});
    down2_ = row("down2", {half, conv(1, 1, 5)});
    down3_ = row("down3", {half, conv(1, 1, 3), conv(1, 1, 3)});
    conv2_ = register_module("conv2", conv(1, 1, 5));
    conv1_ = register_module("conv1", conv(1, 1, 7));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const Size2 size = map_size(x);
    if (size.h < 8 || size.w < 8) {
      throw DataError(text("PAN halves its encoder's last map three times, and this one has only ",
                           size.h, "x", size.w,
                           ": its images must be 8 times as large as its "
                           "encoder's output stride at least"));
    }
    const auto to = [](const torch::Tensor& map, Size2 wanted) {
      return resize(map, wanted, /*align_corners=*/true);
    };
    const auto mean = to(mean_->forward(x), size);
    const auto one = down1_->forward(x);
    const auto two = down2_->forward(one);
    auto y = to(down3_->forward(two), {size.h / 4, size.w / 4});
    y = to(conv2_->forward(two) + y, {size.h / 2, size.w / 2});
    y = to(y + conv1_->forward(one), size);
    return y * middle_->forward(x) + mean;
  }

 private:
  std::shared_ptr<Sequential> mean_, middle_, down1_, down2_, down3_;
  std::shared_ptr<PanConv> conv2_, conv1_;
};

/// Global attention upsampling: a finer map, its channels weighed by the coarser one's means.
class GlobalAttentionUpsample final : public BaseModule {
 public:
  GlobalAttentionUpsample(int64_t in, int64_t out, std::string interpolation)
      : interpolation_(std::move(interpolation)) {
    gate_ = register_module(
        "conv1", std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
                     make_global_pool(), std::make_shared<PanConv>(out, out, 1, /*relu=*/false)}));
    conv2_ = register_module("conv2", std::make_shared<PanConv>(in, out, 3));
  }
  torch::Tensor forward(const torch::Tensor& fine, const torch::Tensor& coarse) {
    const auto enlarged =
        resize(coarse, map_size(fine), interpolation_ == "bilinear", interpolation_);
    return enlarged + conv2_->forward(fine) * gate_->forward(coarse).sigmoid();
  }

 private:
  std::string interpolation_;
  std::shared_ptr<Sequential> gate_;
  std::shared_ptr<PanConv> conv2_;
};

class PanDecoder final : public Decoder {
 public:
  PanDecoder(const PanParams& p, const std::vector<int64_t>& encoder_channels) {
    pyramid_ = register_module(
        "fpa", std::make_shared<PyramidAttention>(encoder_channels.back(), p.decoder_channels));
    // gau3 joins the map of 1/16, gau1 that of 1/4.
    for (size_t i = encoder_channels.size() - 2; i >= 2; --i) {
      up_.push_back(register_module(text("gau", i - 1),
                                    std::make_shared<GlobalAttentionUpsample>(
                                        encoder_channels[i], p.decoder_channels,
                                        p.upscale_mode.value_or(p.decoder_interpolation))));
    }
  }
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    auto x = pyramid_->forward(features.back());
    for (size_t i = 0; i < up_.size(); ++i) {
      x = up_[i]->forward(features[features.size() - 2 - i], x);
    }
    return x;
  }

 private:
  std::shared_ptr<PyramidAttention> pyramid_;
  std::vector<std::shared_ptr<GlobalAttentionUpsample>> up_;
};

class PAN final : public SegmentationModel {
 public:
  using Params = PanParams;
  static Schema<Params> schema() {
    return model_schema<Params>("Pyramid attention network.", /*min_depth=*/3)
        .source("Li et al. 2018, arXiv:1805.10180")
        .optional("encoder_output_stride", &Params::encoder_output_stride,
                  "16: the encoder's last stage is dilated; 32", one_of_two(16, 32))
        .optional("decoder_channels", &Params::decoder_channels, "width of the decoder",
                  at_least(1))
        .optional("decoder_interpolation", &Params::decoder_interpolation, "how maps are enlarged",
                  one_of(interpolation_modes()))
        .optional("upscale_mode", &Params::upscale_mode,
                  "the older name of decoder_interpolation, which it replaces",
                  one_of(interpolation_modes()))
        .optional("upsampling", &Params::upsampling, "enlargement at the end", at_least(1));
  }
  explicit PAN(const Params& p) : SegmentationModel(p, p.encoder_output_stride) {
    set_decoder(std::make_shared<PanDecoder>(p, encoder().out_channels()),
                {.in_channels = p.decoder_channels, .upsampling = p.upsampling});
  }
};
SEG_REGISTER(Segmentor, PAN);

}  // namespace seg::smp
