#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ClassifierHeadParams : DecodeHeadParams {
  ClassifierHeadParams() { dropout_ratio = 0; }
  int64_t kernel_size = 1;
  int64_t stride = 1;
};

/// One convolution to the classes, for networks that end in a decoder of their own (SegNet, ENet,
/// U-Nets).
class ClassifierHead final : public DecodeHead {
 public:
  using Params = ClassifierHeadParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("One convolution to the classes.")
        .include(DecodeHead::base_schema(/*channels_required=*/false))
        .optional("kernel_size", &P::kernel_size, "of the convolution", at_least(1))
        .optional(
            "stride", &P::stride,
            "above 1 the convolution is a transposed one, which enlarges the map so many times",
            at_least(1))
        .validate([](const P& p, Problems& problems) {
          if (p.stride == 1 && p.kernel_size % 2 == 0) {
            problems.error("kernel_size", text("must be odd with stride 1, got ", p.kernel_size));
          }
          if (p.stride > 1 && (p.kernel_size < p.stride || (p.kernel_size - p.stride) % 2 != 0)) {
            problems.error("kernel_size", text("must be the stride ", p.stride,
                                               " or an even number more, got ", p.kernel_size));
          }
          if (p.channels != 0) {
            problems.warn("channels", "has no effect: the head has no convolution before the last");
          }
        });
  }
  ClassifierHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : DecodeHead(as_wide_as_input(p, inputs), inputs) {
    if (p.kernel_size == 1 && p.stride == 1) return;
    remove_conv_seg();
    if (p.stride == 1) {
      classifier_ = std::make_shared<Conv2d>(ConvOptions{.in_channels = in_channels(),
                                                         .out_channels = out_channels(),
                                                         .kernel_size = p.kernel_size,
                                                         .padding = p.kernel_size / 2});
    } else {
      classifier_ = std::make_shared<ConvTranspose2d>(in_channels(), out_channels(), p.kernel_size,
                                                      p.stride, (p.kernel_size - p.stride) / 2);
    }
    register_module("conv_seg", classifier_);
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto x = forward_feature(features);
    if (!classifier_) return cls_seg(x);
    return classifier_->forward(dropout_ ? dropout_->forward(x) : x);
  }
  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features) override {
    return select_one(features);
  }

 private:
  /// The base's classifier takes the map as it is.
  static DecodeHeadParams as_wide_as_input(DecodeHeadParams p,
                                           const std::vector<FeatureInfo>& inputs) {
    p.channels = 1;  // until the width is known
    const auto* index = std::get_if<int64_t>(&p.in_index);
    const auto count = static_cast<int64_t>(inputs.size());
    if (index && *index < count && *index >= -count) {
      p.channels = inputs[static_cast<size_t>(*index < 0 ? *index + count : *index)].channels;
    }
    return p;
  }

  std::shared_ptr<Layer> classifier_;  ///< null: the base's 1x1 convolution
};
SEG_REGISTER(DecodeHead, ClassifierHead);

}  // namespace seg
