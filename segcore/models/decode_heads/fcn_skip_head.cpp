#include "segcore/models/decode_head.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct FCNSkipHeadParams : DecodeHeadParams {
  FCNSkipHeadParams() {
    channels = 4096;
    dropout_ratio = 0.5;
    align_corners = false;
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{2, 3, 4};
  }
  int64_t kernel_size = 7;
};

/// The heads FCN-32s, FCN-16s and FCN-8s: the fully connected layers of VGG as convolutions, and
/// scores of finer maps that are added on the way up, one for each map but the last of `in_index`.
///
/// The original pads the image by 100 pixels and crops what it adds; here each convolution pads, so
/// that maps keep their size. It enlarges by transposed convolutions that are fixed to bilinear
/// interpolation, which is computed directly.
class FCNSkipHead final : public DecodeHead {
 public:
  using Params = FCNSkipHeadParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("FCN-32s, FCN-16s, FCN-8s: scores of one, two or three maps.")
        .source("Long et al. 2014, arXiv:1411.4038")
        .include(DecodeHead::base_schema(/*channels_required=*/false))
        .optional("kernel_size", &P::kernel_size, "of the first convolution of the coarsest map",
                  at_least(1));
  }
  FCNSkipHead(const Params& p, const std::vector<FeatureInfo>& maps) : DecodeHead(p, maps) {
    remove_conv_seg();
    const int64_t coarsest = inputs().back().channels;
    const auto conv = [](int64_t in, int64_t out, int64_t kernel_size) {
      return std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                  .out_channels = out,
                                                  .kernel_size = kernel_size,
                                                  .padding = kernel_size / 2});
    };
    fc6_ = register_module("fc6", conv(coarsest, p.channels, p.kernel_size));
    fc7_ = register_module("fc7", conv(p.channels, p.channels, 1));
    conv_seg_ = register_module("conv_seg", conv(p.channels, out_channels(), 1));
    scores_ = register_module("scores", std::make_shared<ListOf<Conv2d>>());
    for (size_t i = 0; i + 1 < inputs().size(); ++i) {
      scores_->push_back(conv(inputs()[i].channels, out_channels(), 1));
    }
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto maps = select(features);
    const auto dropped = [this](const torch::Tensor& x) {
      return dropout_ ? dropout_->forward(x) : x;
    };
    auto x = dropped(fc6_->forward(maps.back()).relu());
    auto out = cls_seg(fc7_->forward(x).relu());
    for (size_t i = scores_->size(); i-- > 0;) {
      out = (*scores_)[i].forward(maps[i]) + resize(out, map_size(maps[i]), align_corners());
    }
    return out;
  }

 private:
  std::shared_ptr<Conv2d> fc6_, fc7_;
  std::shared_ptr<ListOf<Conv2d>> scores_;  ///< of the finer maps, finest first
};
SEG_REGISTER(DecodeHead, FCNSkipHead);

}  // namespace seg
