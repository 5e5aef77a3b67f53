#include <algorithm>

#include "segcore/models/nn/resize.hpp"
#include "segcore/models/smp/segmentation_model.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct FpnParams : ModelParams {
  int64_t decoder_pyramid_channels = 256;
  int64_t decoder_segmentation_channels = 128;
  std::string decoder_merge_policy = "add";
  double decoder_dropout = 0.2;
  std::string decoder_interpolation = "nearest";
  int64_t upsampling = 4;
};

/// A pyramid of the four coarsest maps, each brought to the size of the finest and merged.
class FpnDecoder final : public Decoder {
 public:
  FpnDecoder(const FpnParams& p, const std::vector<int64_t>& encoder_channels)
      : interpolation_(p.decoder_interpolation), joins_(p.decoder_merge_policy == "cat") {
    const auto lateral = [&](size_t from_last) {
      return std::make_shared<Conv2d>(
          ConvOptions{.in_channels = encoder_channels[encoder_channels.size() - 1 - from_last],
                      .out_channels = p.decoder_pyramid_channels});
    };
    lateral_.push_back(register_module("p5", lateral(0)));
    for (size_t i = 1; i < 4; ++i) {
      auto block = register_module(text("p", 5 - i), std::make_shared<Names>());
      lateral_.push_back(block->register_module("skip_conv", lateral(i)));
    }
    auto list = register_module("seg_blocks", std::make_shared<ListOf<Names>>());
    for (int64_t upsamples = 3; upsamples >= 0; --upsamples) {
      seg_blocks_.push_back(list->push_back(std::make_shared<Names>())
                                ->register_module("block", segmentation_block(p, upsamples)));
    }
    dropout_ = register_module("dropout", std::make_shared<Dropout2d>(p.decoder_dropout));
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    torch::Tensor level;
    std::vector<torch::Tensor> maps;
    for (size_t i = 0; i < lateral_.size(); ++i) {
      const auto own = lateral_[i]->forward(features[features.size() - 1 - i]);
      level = i == 0 ? own : own + resize_by(level, 2, /*align_corners=*/false, interpolation_);
      maps.push_back(seg_blocks_[i]->forward(level));
    }
    return dropout_->forward(joins_ ? at::cat(maps, 1) : at::stack(maps).sum(0));
  }

 private:
  /// Repeats convolution, group norm, ReLU and doubling; for no doubling, once without it.
  static std::shared_ptr<Sequential> segmentation_block(const FpnParams& p, int64_t upsamples) {
    auto out = std::make_shared<Sequential>();
    int64_t in = p.decoder_pyramid_channels;
    const int64_t width = p.decoder_segmentation_channels;
    for (int64_t i = 0; i < std::max<int64_t>(upsamples, 1); ++i) {
      auto block = std::make_shared<Sequential>();
      block->push_back("block",
                       std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
                           std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                                .out_channels = width,
                                                                .kernel_size = 3,
                                                                .padding = 1,
                                                                .bias = false}),
                           norm_cfg_of("{type: GN, num_groups: 32}")->build(width), make_relu()}));
      if (upsamples > 0) {
        block->push_back("upsample", std::make_shared<Lambda>([](const torch::Tensor& x) {
                           return resize_by(x, 2, /*align_corners=*/true);
                         }));
      }
      out->push_back(block);
      in = width;
    }
    return out;
  }

  std::string interpolation_;
  bool joins_;
  std::vector<std::shared_ptr<Conv2d>> lateral_;
  std::vector<std::shared_ptr<Sequential>> seg_blocks_;
  std::shared_ptr<Dropout2d> dropout_;
};

class FPN final : public SegmentationModel {
 public:
  using Params = FpnParams;
  static Schema<Params> schema() {
    return model_schema<Params>("Feature pyramid with a segmentation branch on each level.",
                                /*min_depth=*/3)
        .source("Kirillov et al. 2019, arXiv:1901.02446; Lin et al. 2016, arXiv:1612.03144")
        .optional("decoder_pyramid_channels", &Params::decoder_pyramid_channels,
                  "width of the pyramid", at_least(1))
        .optional("decoder_segmentation_channels", &Params::decoder_segmentation_channels,
                  "width of the branches, a multiple of 32", at_least(1))
        .optional("decoder_merge_policy", &Params::decoder_merge_policy,
                  "how branches are merged: by their sum or side by side", one_of({"add", "cat"}))
        .optional("decoder_dropout", &Params::decoder_dropout,
                  "probability of a map to be zeroed before the head", in_range(0, 1))
        .optional("decoder_interpolation", &Params::decoder_interpolation,
                  "how levels of the pyramid are enlarged", one_of(interpolation_modes()))
        .optional("upsampling", &Params::upsampling, "enlargement at the end", at_least(1))
        .validate([](const Params& p, Problems& problems) {
          if (p.decoder_segmentation_channels % 32 != 0) {
            problems.error("decoder_segmentation_channels",
                           text("must be a multiple of the 32 groups of the norm, got ",
                                p.decoder_segmentation_channels));
          }
        });
  }
  explicit FPN(const Params& p) : SegmentationModel(p) {
    if (p.encoder_depth < 5) require_half_size_map();
    require_halves();
    const int64_t width = p.decoder_segmentation_channels;
    set_decoder(std::make_shared<FpnDecoder>(p, encoder().out_channels()),
                {.in_channels = p.decoder_merge_policy == "cat" ? 4 * width : width,
                 .kernel_size = 1,
                 .upsampling = p.upsampling});
  }
};
SEG_REGISTER(Segmentor, FPN);

}  // namespace seg::smp
