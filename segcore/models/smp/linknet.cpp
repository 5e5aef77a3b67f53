#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/smp/segmentation_model.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct LinknetParams : ModelParams {
  DecoderNorm decoder_use_norm;
  std::optional<DecoderNorm> decoder_use_batchnorm;
};

/// Upwards by transposed convolutions, adding the encoder's map of each size.
class LinknetDecoder final : public Decoder {
 public:
  static constexpr int64_t kOutChannels = 32;
  LinknetDecoder(const NormCfg& norm, const std::vector<int64_t>& encoder_channels) {
    const auto blocks = register_module("blocks", std::make_shared<ListOf<Names>>());
    for (size_t i = encoder_channels.size() - 1; i >= 1; --i) {
      const int64_t in = encoder_channels[i], middle = in / 4;
      auto up = std::make_shared<Sequential>();
      up->push_back(std::make_shared<ConvTranspose2d>(middle, middle, /*kernel_size=*/4,
                                                      /*stride=*/2, /*padding=*/1));
      up->push_back(norm ? std::shared_ptr<Layer>(norm->build(middle))
                         : std::make_shared<Identity>());
      up->push_back(make_relu());
      auto block = std::make_shared<Sequential>();
      block->push_back(conv_relu(in, middle, 1, norm));
      block->push_back(up);
      block->push_back(conv_relu(middle, i > 1 ? encoder_channels[i - 1] : kOutChannels, 1, norm));
      auto named = std::make_shared<Names>();
      blocks_.push_back(named->register_module("block", block));
      blocks->push_back(named);
    }
  }
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    auto x = features.back();
    size_t finer = features.size() - 1;
    for (const auto& block : blocks_) {
      x = block->forward(x);
      if (--finer > 0) x = x + features[finer];
    }
    return x;
  }

 private:
  std::vector<std::shared_ptr<Sequential>> blocks_;
};

class Linknet final : public SegmentationModel {
 public:
  using Params = LinknetParams;
  static Schema<Params> schema() {
    return model_schema<Params>("LinkNet: sums instead of joins, narrow blocks.")
        .source("Chaurasia and Culurciello 2017, arXiv:1707.03718")
        .optional("decoder_use_norm", &Params::decoder_use_norm,
                  "norm of the decoder: batchnorm (true), identity (false), instancenorm, or a "
                  "mapping with its options")
        .optional("decoder_use_batchnorm", &Params::decoder_use_batchnorm,
                  "the older name of decoder_use_norm, which it replaces");
  }
  explicit Linknet(const Params& p) : SegmentationModel(p) {
    require_half_size_map();
    require_halves();
    const NormCfg norm = p.decoder_use_batchnorm.value_or(p.decoder_use_norm).cfg;
    set_decoder(std::make_shared<LinknetDecoder>(norm, encoder().out_channels()),
                {.in_channels = LinknetDecoder::kOutChannels, .kernel_size = 1});
  }
};
SEG_REGISTER(Segmentor, Linknet);

}  // namespace seg::smp
