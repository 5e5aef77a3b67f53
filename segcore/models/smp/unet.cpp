#include "segcore/models/smp/segmentation_model.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct UnetParams : UpDecoderParams {
  std::optional<std::string> decoder_attention_type;
};

/// Upwards from the coarsest map, each joined with the encoder's of its size.
class UnetDecoder final : public Decoder {
 public:
  /// \param center  two more convolutions of the coarsest map.
  UnetDecoder(const UnetParams& p, const std::vector<int64_t>& encoder_channels, bool center) {
    const auto c = up_channels(encoder_channels, p.decoder_channels);
    if (center) {
      center_ = std::make_shared<Sequential>();
      for (int i = 0; i < 2; ++i) center_->push_back(conv_relu(c.in[0], c.in[0], 3, p.norm()));
      register_module("center", center_);
    }
    for (size_t i = 0; i < c.in.size(); ++i) {
      blocks_.push_back(
          std::make_shared<UpBlock>(UpBlockOptions{.in_channels = c.in[i],
                                                   .skip_channels = c.skip[i],
                                                   .out_channels = c.out[i],
                                                   .norm = p.norm(),
                                                   .joins = i + 1 < c.in.size(),
                                                   .attention = p.decoder_attention_type,
                                                   .interpolation = p.decoder_interpolation}));
    }
    auto list = register_module("blocks", std::make_shared<ListOf<UpBlock>>());
    for (const auto& block : blocks_) list->push_back(block);
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    auto x = features.back();
    if (center_) x = center_->forward(x);
    const size_t last = features.size() - 1;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const auto& finer = features[last - i - 1];
      const bool joined = last - i - 1 > 0;
      x = blocks_[i]->forward(x, joined ? finer : torch::Tensor(), map_size(finer));
    }
    return x;
  }

 private:
  std::shared_ptr<Sequential> center_;  ///< may be null
  std::vector<std::shared_ptr<UpBlock>> blocks_;
};

class Unet final : public SegmentationModel {
 public:
  using Params = UnetParams;
  static Schema<Params> schema() {
    auto schema = model_schema<Params>("U-Net over an encoder of segmentation_models_pytorch.");
    schema.source("Ronneberger et al. 2015, arXiv:1505.04597");
    return add_up_decoder_options(schema).optional(
        "decoder_attention_type", &Params::decoder_attention_type,
        "attention in the blocks of the decoder; null: none", one_of({"scse"}));
  }
  explicit Unet(const Params& p) : SegmentationModel(p) {
    set_decoder(std::make_shared<UnetDecoder>(p, encoder().out_channels(), p.is_vgg()),
                {.in_channels = p.decoder_channels.back()});
  }

 protected:
  bool needs_whole_strides() const override { return false; }
};
SEG_REGISTER(Segmentor, Unet);

}  // namespace seg::smp
