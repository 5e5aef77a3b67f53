#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/smp/segmentation_model.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct PspParams : ModelParams {
  PspParams() { encoder_depth = 3; }
  int64_t psp_out_channels = 512;
  DecoderNorm decoder_use_norm;
  std::optional<DecoderNorm> psp_use_batchnorm;
  double psp_dropout = 0.2;
  int64_t upsampling = 8;
};

/// The encoder's last map beside means of it over 1, 4, 9 and 36 parts.
class PspDecoder final : public Decoder {
 public:
  PspDecoder(const PspParams& p, int64_t in) {
    const NormCfg norm = p.psp_use_batchnorm.value_or(p.decoder_use_norm).cfg;
    auto psp = register_module("psp", std::make_shared<Names>());
    auto blocks = psp->register_module("blocks", std::make_shared<ListOf<Names>>());
    for (const int64_t side : {1, 2, 3, 6}) {
      auto pool = std::make_shared<Sequential>();
      pool->push_back(std::make_shared<Lambda>([side](const torch::Tensor& x) {
        return at::adaptive_avg_pool2d(x, {side, side});
      }));
      // One value a channel of an image has no statistics.
      pool->push_back(conv_relu(in, in / 4, 1, side == 1 ? NormCfg() : norm));
      pools_.push_back(blocks->push_back(std::make_shared<Names>())->register_module("pool", pool));
    }
    conv_ = register_module("conv", conv_relu(2 * in, p.psp_out_channels, 1, norm));
    dropout_ = register_module("dropout", std::make_shared<Dropout2d>(p.psp_dropout));
  }
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto& x = features.back();
    std::vector<torch::Tensor> maps;
    for (const auto& pool : pools_) {
      maps.push_back(resize(pool->forward(x), map_size(x), /*align_corners=*/true));
    }
    maps.push_back(x);
    return dropout_->forward(conv_->forward(joined_maps(maps)));
  }

 private:
  std::vector<std::shared_ptr<Sequential>> pools_;
  std::shared_ptr<Sequential> conv_;
  std::shared_ptr<Dropout2d> dropout_;
};

class PSPNet final : public SegmentationModel {
 public:
  using Params = PspParams;
  static Schema<Params> schema() {
    return model_schema<Params>("Pyramid pooling over the encoder's last map.")
        .source("Zhao et al. 2017, arXiv:1612.01105")
        .optional("psp_out_channels", &Params::psp_out_channels, "width of the decoder's map",
                  at_least(1))
        .optional("decoder_use_norm", &Params::decoder_use_norm,
                  "norm of the decoder: batchnorm (true), identity (false), instancenorm, or a "
                  "mapping with its options")
        .optional("psp_use_batchnorm", &Params::psp_use_batchnorm,
                  "the older name of decoder_use_norm, which it replaces")
        .optional("psp_dropout", &Params::psp_dropout,
                  "probability of a map to be zeroed before the head", in_range(0, 1))
        .optional("upsampling", &Params::upsampling, "enlargement at the end", at_least(1));
  }
  explicit PSPNet(const Params& p) : SegmentationModel(p) {
    set_decoder(std::make_shared<PspDecoder>(p, encoder().out_channels().back()),
                {.in_channels = p.psp_out_channels, .upsampling = p.upsampling});
  }
};
SEG_REGISTER(Segmentor, PSPNet);

}  // namespace seg::smp
