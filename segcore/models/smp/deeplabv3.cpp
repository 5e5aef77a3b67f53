#include "segcore/io/weights.hpp"
#include "segcore/models/blocks/deeplab_aspp.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/smp/segmentation_model.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct DeepLabParams : DilatedModelParams {
  int64_t decoder_channels = 256;
  std::vector<int64_t> decoder_atrous_rates{12, 24, 36};
  bool decoder_aspp_separable = false;
  double decoder_aspp_dropout = 0.5;
};

struct DeepLabV3Params : DeepLabParams {
  DeepLabV3Params() { encoder_output_stride = 8; }
  std::optional<int64_t> upsampling;
};

struct DeepLabV3PlusParams : DeepLabParams {
  DeepLabV3PlusParams() { decoder_aspp_separable = true; }
  int64_t upsampling = 4;
};

namespace {

std::shared_ptr<DeepLabAspp> decoder_aspp(const DeepLabParams& p, int64_t in) {
  return std::make_shared<DeepLabAspp>(DeepLabAsppOptions{.in = in,
                                                          .out = p.decoder_channels,
                                                          .rates = p.decoder_atrous_rates,
                                                          .separable = p.decoder_aspp_separable,
                                                          .dropout = p.decoder_aspp_dropout});
}

}  // namespace

class DeepLabV3Decoder final : public Decoder {
 public:
  DeepLabV3Decoder(const DeepLabParams& p, int64_t in) : Decoder(InitCfg()) {
    const int64_t width = p.decoder_channels;
    aspp_ = register_module("aspp", decoder_aspp(p, in));
    conv_ = register_module("conv", deeplab_conv(width, width, 3));
    norm_ = register_module("bn", Spec<Norm>::of("{type: BN}").build(width));
  }
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return norm_->forward(conv_->forward(aspp_->forward(features.back()))).relu_();
  }

 private:
  std::shared_ptr<Layer> aspp_, conv_, norm_;
};

/// Joins the pyramid with the encoder's map of 1/4.
class DeepLabV3PlusDecoder final : public Decoder {
 public:
  DeepLabV3PlusDecoder(const DeepLabV3PlusParams& p, const std::vector<int64_t>& encoder_channels)
      : Decoder(InitCfg()), scale_(p.encoder_output_stride == 16 && p.encoder_depth > 3 ? 4 : 2) {
    constexpr int64_t kFine = 48;  // section 3.1 of the paper
    const int64_t width = p.decoder_channels;
    aspp_ = std::make_shared<Sequential>();
    aspp_->push_back(decoder_aspp(p, encoder_channels.back()));
    aspp_->push_back(deeplab_separable(width, width));
    aspp_->push_back(Spec<Norm>::of("{type: BN}").build(width));
    aspp_->push_back(make_relu());
    register_module("aspp", aspp_);
    fine_ = register_module("block1",
                            deeplab_block(deeplab_conv(encoder_channels[2], kFine, 1), kFine));
    joined_ =
        register_module("block2", deeplab_block(deeplab_separable(kFine + width, width), width));
  }
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto coarse = resize_by(aspp_->forward(features.back()), scale_, /*align_corners=*/true);
    return joined_->forward(joined_maps({coarse, fine_->forward(features[2])}));
  }

 private:
  double scale_;
  std::shared_ptr<Sequential> aspp_, fine_, joined_;
};

namespace {

template <class P>
Schema<P> deeplab_schema(const std::string& summary, int64_t min_depth) {
  return model_schema<P>(summary, min_depth)
      .optional("encoder_output_stride", &P::encoder_output_stride,
                "stride that the encoder ends at: later stages are dilated", one_of_two(8, 16))
      .optional("decoder_channels", &P::decoder_channels, "width of the decoder", at_least(1))
      .optional("decoder_atrous_rates", &P::decoder_atrous_rates,
                "dilations of the three convolutions of the pyramid", at_least(1))
      .optional("decoder_aspp_separable", &P::decoder_aspp_separable,
                "the pyramid's convolutions are separable")
      .optional("decoder_aspp_dropout", &P::decoder_aspp_dropout,
                "probability of a value to be zeroed after the pyramid", in_range(0, 1))
      .validate([](const P& p, Problems& problems) {
        if (p.decoder_atrous_rates.size() != 3) {
          problems.error("decoder_atrous_rates",
                         text("needs 3 values, got ", p.decoder_atrous_rates.size()));
        }
      });
}

}  // namespace

class DeepLabV3 final : public SegmentationModel, public ChangesBeforeLoad {
 public:
  using Params = DeepLabV3Params;
  static Schema<Params> schema() {
    return deeplab_schema<Params>("Dilated convolutions side by side.", /*min_depth=*/1)
        .source("Chen et al. 2017, arXiv:1706.05587")
        .optional("upsampling", &Params::upsampling,
                  "enlargement at the end; null: to the size of the images", at_least(1));
  }
  explicit DeepLabV3(const Params& p)
      : SegmentationModel(p, p.encoder_output_stride, /*initialised=*/false) {
    const int64_t whole =
        p.encoder_depth <= 3 ? int64_t{1} << p.encoder_depth : p.encoder_output_stride;
    set_decoder(std::make_shared<DeepLabV3Decoder>(p, encoder().out_channels().back()),
                {.in_channels = p.decoder_channels,
                 .kernel_size = 1,
                 .upsampling = p.upsampling.value_or(whole)});
  }

  /// Weights of older versions have the decoder's layers by number.
  void before_load(NamedTensors& weights) override {
    const std::pair<std::string, const char*> numbers[] = {{"decoder.0.", "decoder.aspp."},
                                                           {"decoder.1.", "decoder.conv."},
                                                           {"decoder.2.", "decoder.bn."}};
    for (auto& [name, tensor] : weights) {
      for (const auto& [from, to] : numbers) {
        if (name.starts_with(from)) name = to + name.substr(from.size());
      }
    }
  }
};
SEG_REGISTER(Segmentor, DeepLabV3);

class DeepLabV3Plus final : public SegmentationModel {
 public:
  using Params = DeepLabV3PlusParams;
  static Schema<Params> schema() {
    return deeplab_schema<Params>("DeepLabV3 with a finer map joined.", /*min_depth=*/3)
        .source("Chen et al. 2018, arXiv:1802.02611")
        .optional("upsampling", &Params::upsampling, "enlargement at the end", at_least(1));
  }
  explicit DeepLabV3Plus(const Params& p)
      : SegmentationModel(p, p.encoder_output_stride, /*initialised=*/false) {
    set_decoder(std::make_shared<DeepLabV3PlusDecoder>(p, encoder().out_channels()),
                {.in_channels = p.decoder_channels, .kernel_size = 1, .upsampling = p.upsampling});
  }
};
SEG_REGISTER(Segmentor, DeepLabV3Plus);

}  // namespace seg::smp
