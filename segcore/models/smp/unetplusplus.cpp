#include <map>

#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/smp/segmentation_model.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct UnetPlusPlusParams : UpDecoderParams {
  std::optional<std::string> decoder_attention_type;
};

/// Blocks x_d_l: of depth d from the shortest path, at level l from the coarsest.
class UnetPlusPlusDecoder final : public Decoder {
 public:
  /// \param center  convolutions in the state dict, as in the library, that no map goes through.
  UnetPlusPlusDecoder(const UnetPlusPlusParams& p, const std::vector<int64_t>& encoder_channels,
                      bool center)
      : levels_(p.decoder_channels.size() - 1) {
    const auto c = up_channels(encoder_channels, p.decoder_channels);
    if (center) {
      auto layers = std::make_shared<Sequential>();
      for (int i = 0; i < 2; ++i) layers->push_back(conv_relu(c.in[0], c.in[0], 3, p.norm()));
      leave_untrained(*register_module("center", layers));
    }
    auto blocks = register_module("blocks", std::make_shared<Names>());
    const auto add = [&](size_t depth, size_t level, int64_t in, int64_t skip, int64_t out) {
      blocks_[{depth, level}] = blocks->register_module(
          text("x_", depth, "_", level),
          std::make_shared<UpBlock>(UpBlockOptions{.in_channels = in,
                                                   .skip_channels = skip,
                                                   .out_channels = out,
                                                   .norm = p.norm(),
                                                   .joins = level < levels_,
                                                   .attention = p.decoder_attention_type,
                                                   .interpolation = p.decoder_interpolation}));
    };
    for (size_t level = 0; level < levels_; ++level) {
      const auto joined = static_cast<int64_t>(level) + 1;
      add(0, level, c.in[level], c.skip[level] * joined, c.out[level]);
      for (size_t depth = 1; depth <= level; ++depth) {
        add(depth, level, c.skip[level - 1], c.skip[level] * (joined - static_cast<int64_t>(depth)),
            c.skip[level]);
      }
    }
    add(0, levels_, c.in.back(), 0, c.out.back());
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    // The map at the images' size is not joined.
    const std::vector<torch::Tensor> coarse_first(features.rbegin(), features.rend() - 1);
    std::map<std::pair<size_t, size_t>, torch::Tensor> x;
    for (size_t length = 0; length < levels_; ++length) {
      for (size_t depth = 0; depth + length < levels_; ++depth) {
        const size_t level = depth + length;
        std::vector<torch::Tensor> skips;
        for (size_t other = depth + 1; other <= level; ++other) skips.push_back(x[{other, level}]);
        skips.push_back(coarse_first[level + 1]);
        const auto& from = length == 0 ? coarse_first[depth] : x[{depth, level - 1}];
        x[{depth, level}] = block(depth, level).forward(from, joined_maps(skips));
      }
    }
    return block(0, levels_).forward(x[{0, levels_ - 1}], torch::Tensor());
  }

 private:
  UpBlock& block(size_t depth, size_t level) { return *blocks_.at({depth, level}); }

  size_t levels_;  ///< those that join maps; one more follows
  std::map<std::pair<size_t, size_t>, std::shared_ptr<UpBlock>> blocks_;
};

class UnetPlusPlus final : public SegmentationModel {
 public:
  using Params = UnetPlusPlusParams;
  static Schema<Params> schema() {
    auto schema = model_schema<Params>("U-Net++: every level joins all maps of its size.",
                                       /*min_depth=*/2);
    schema.source("Zhou et al. 2018, arXiv:1807.10165");
    return add_up_decoder_options(schema).optional(
        "decoder_attention_type", &Params::decoder_attention_type,
        "attention in the blocks of the decoder; null: none", one_of({"scse"}));
  }
  explicit UnetPlusPlus(const Params& p) : SegmentationModel(p) {
    require_half_size_map();
    require_halves();
    set_decoder(std::make_shared<UnetPlusPlusDecoder>(p, encoder().out_channels(), p.is_vgg()),
                {.in_channels = p.decoder_channels.back()});
  }
};
SEG_REGISTER(Segmentor, UnetPlusPlus);

}  // namespace seg::smp
