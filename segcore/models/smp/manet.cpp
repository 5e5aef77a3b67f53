#include <algorithm>

#include "segcore/models/nn/resize.hpp"
#include "segcore/models/smp/segmentation_model.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct MAnetParams : UpDecoderParams {
  int64_t decoder_pab_channels = 64;
};

/// Position-wise attention: each position adds what all others weigh for it.
class PositionAttention final : public Layer {
 public:
  PositionAttention(int64_t channels, int64_t pab_channels) {
    const auto conv = [&](const char* name, int64_t out, int64_t kernel_size) {
      return register_module(name,
                             std::make_shared<Conv2d>(ConvOptions{.in_channels = channels,
                                                                  .out_channels = out,
                                                                  .kernel_size = kernel_size,
                                                                  .padding = kernel_size / 2}));
    };
    top_ = conv("top_conv", pab_channels, 1);
    center_ = conv("center_conv", pab_channels, 1);
    bottom_ = conv("bottom_conv", channels, 3);
    out_ = conv("out_conv", channels, 3);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto top = top_->forward(x).flatten(2);                        // [N, P, h*w]
    const auto center = center_->forward(x).flatten(2).transpose(1, 2);  // [N, h*w, P]
    const auto bottom = bottom_->forward(x).flatten(2).transpose(1, 2);  // [N, h*w, C]
    auto weights = at::matmul(center, top);                              // [N, h*w, h*w]
    // Over all pairs of positions at once, as the library has it.
    weights = weights.flatten(1).softmax(1).view_as(weights);
    // Positions and channels are not swapped back: again as the library has it.
    const auto attended = at::matmul(weights, bottom).reshape(x.sizes());  // [N, C, h, w]
    return out_->forward(x + attended);
  }

 private:
  std::shared_ptr<Conv2d> top_, center_, bottom_, out_;
};

/// Multi-scale fusion attention: a map and the encoder's, weighed by channels of both.
class FusionAttentionBlock final : public BaseModule {
 public:
  explicit FusionAttentionBlock(const UpBlockOptions& o)
      : fuses_(o.skip_channels > 0), interpolation_(o.interpolation) {
    int64_t joined = o.in_channels;
    if (fuses_) {
      high_ = std::make_shared<Sequential>();
      high_->push_back(conv_relu(o.in_channels, o.in_channels, 3, o.norm));
      high_->push_back(conv_relu(o.in_channels, o.skip_channels, 1, o.norm));
      register_module("hl_conv", high_);
      const int64_t reduced = std::max<int64_t>(1, o.skip_channels / 16);
      low_gate_ = register_module("SE_ll", channel_gate(o.skip_channels, reduced));
      high_gate_ = register_module("SE_hl", channel_gate(o.skip_channels, reduced));
      joined = 2 * o.skip_channels;
    }
    conv1_ = register_module("conv1", conv_relu(joined, o.out_channels, 3, o.norm));
    conv2_ = register_module("conv2", conv_relu(o.out_channels, o.out_channels, 3, o.norm));
  }
  /// \param skip  undefined where the block has no skip channels: then it only enlarges.
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& skip) {
    if (fuses_) x = high_->forward(x);
    x = resize_by(x, 2, /*align_corners=*/false, interpolation_);
    if (fuses_) {
      x = at::cat({x * (high_gate_->forward(x) + low_gate_->forward(skip)), skip}, 1);
    }
    return conv2_->forward(conv1_->forward(x));
  }

 private:
  bool fuses_;
  std::string interpolation_;
  std::shared_ptr<Sequential> high_, low_gate_, high_gate_, conv1_, conv2_;
};

class MAnetDecoder final : public Decoder {
 public:
  MAnetDecoder(const MAnetParams& p, const std::vector<int64_t>& encoder_channels) {
    const auto c = up_channels(encoder_channels, p.decoder_channels);
    center_ = register_module("center",
                              std::make_shared<PositionAttention>(c.in[0], p.decoder_pab_channels));
    blocks_ = register_module("blocks", std::make_shared<ListOf<FusionAttentionBlock>>());
    for (size_t i = 0; i < c.in.size(); ++i) {
      blocks_->push_back(std::make_shared<FusionAttentionBlock>(
          UpBlockOptions{.in_channels = c.in[i],
                         .skip_channels = c.skip[i],
                         .out_channels = c.out[i],
                         .norm = p.norm(),
                         .attention = std::nullopt,
                         .interpolation = p.decoder_interpolation}));
    }
  }
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    auto x = center_->forward(features.back());
    const size_t last = features.size() - 1;
    for (size_t i = 0; i < blocks_->size(); ++i) {
      const size_t finer = last - i - 1;
      x = (*blocks_)[i].forward(x, finer > 0 ? features[finer] : torch::Tensor());
    }
    return x;
  }

 private:
  std::shared_ptr<PositionAttention> center_;
  std::shared_ptr<ListOf<FusionAttentionBlock>> blocks_;
};

class MAnet final : public SegmentationModel {
 public:
  using Params = MAnetParams;
  static Schema<Params> schema() {
    auto schema = model_schema<Params>(
        "Multi-scale attention net: attention over positions, then "
        "over channels of two scales.");
    schema.source("Fan et al. 2020, doi:10.1109/ACCESS.2020.3025372");
    return add_up_decoder_options(schema).optional(
        "decoder_pab_channels", &Params::decoder_pab_channels,
        "width of the attention over positions", at_least(1));
  }
  explicit MAnet(const Params& p) : SegmentationModel(p) {
    require_halves();
    set_decoder(std::make_shared<MAnetDecoder>(p, encoder().out_channels()),
                {.in_channels = p.decoder_channels.back()});
  }
};
SEG_REGISTER(Segmentor, MAnet);

}  // namespace seg::smp
