#include <array>
#include <utility>

#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/nn/conv_module.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct AlignedXceptionBlock {
  std::array<int64_t, 3> widths;
  int64_t stride;
};

struct AlignedXceptionVariant {
  const char* name;
  const char* summary;
  std::vector<AlignedXceptionBlock> entry;
  int64_t middle_blocks;
  const char* timm_tags;
};

std::vector<AlignedXceptionVariant> aligned_xceptions() {
  const AlignedXceptionBlock b128{{128, 128, 128}, 2}, b256{{256, 256, 256}, 2},
      b728{{728, 728, 728}, 2};
  return {{"xception41", "Aligned Xception-41.", {b128, b256, b728}, 8, "tf_in1k"},
          {"xception65", "Aligned Xception-65.", {b128, b256, b728}, 16, "ra3_in1k tf_in1k"},
          {"xception71",
           "Aligned Xception-71.",
           {b128, {b256.widths, 1}, b256, {b728.widths, 1}, b728},
           16,
           "tf_in1k"}};
}

const char* const kAlignedNorm = "{type: BN, eps: 0.001}";

/// A convolution of each channel alone, then one of 1x1: children `conv_dw`, `bn_dw`, `conv_pw`,
/// `bn_pw`.
class AlignedSeparable final : public Layer {
 public:
  struct Options {
    int64_t in, out, stride, dilation;
    bool relus;  ///< after each convolution
  };
  explicit AlignedSeparable(const Options& o) : relus_(o.relus) {
    const auto norm = Spec<Norm>::of(kAlignedNorm);
    conv_dw_ =
        register_module("conv_dw", std::make_shared<Conv2d>(ConvOptions{.in_channels = o.in,
                                                                        .out_channels = o.in,
                                                                        .kernel_size = 3,
                                                                        .stride = o.stride,
                                                                        .padding = o.dilation,
                                                                        .dilation = o.dilation,
                                                                        .groups = o.in,
                                                                        .bias = false}));
    bn_dw_ = register_module("bn_dw", norm.build(o.in));
    conv_pw_ =
        register_module("conv_pw", std::make_shared<Conv2d>(ConvOptions{
                                       .in_channels = o.in, .out_channels = o.out, .bias = false}));
    bn_pw_ = register_module("bn_pw", norm.build(o.out));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto depthwise = bn_dw_->forward(conv_dw_->forward(x));
    const auto out = bn_pw_->forward(conv_pw_->forward(relus_ ? depthwise.relu() : depthwise));
    return relus_ ? out.relu() : out;
  }

 private:
  bool relus_;
  std::shared_ptr<Conv2d> conv_dw_, conv_pw_;
  std::shared_ptr<Norm> bn_dw_, bn_pw_;
};

/// A convolution and its norm: children `conv`, `bn`.
class AlignedUnit final : public Layer {
 public:
  AlignedUnit(const ConvOptions& conv, bool relu)
      : relu_(relu),
        conv_(register_module("conv", std::make_shared<Conv2d>(conv))),
        bn_(register_module("bn", Spec<Norm>::of(kAlignedNorm).build(conv.out_channels))) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto out = bn_->forward(conv_->forward(x));
    return relu_ ? out.relu() : out;
  }

 private:
  bool relu_;
  std::shared_ptr<Conv2d> conv_;
  std::shared_ptr<Norm> bn_;
};

/// Three separable convolutions; the last strides. The inner map is what it takes. Children
/// `shortcut`, `stack`.
class AlignedBlock final : public LayerWithInnerMap {
 public:
  struct Options {
    int64_t in;
    std::array<int64_t, 3> widths;
    int64_t stride = 1, dilation = 1;
    bool last = false;  ///< without a shortcut, and with ReLUs behind the convolutions
    double drop_path_rate = 0;
  };
  explicit AlignedBlock(const Options& o) : last_(o.last) {
    const int64_t out = o.widths.back();
    if (!last_ && (out != o.in || o.stride != 1)) {
      const ConvOptions conv{
          .in_channels = o.in, .out_channels = out, .stride = o.stride, .bias = false};
      shortcut_ = register_module("shortcut", std::make_shared<AlignedUnit>(conv, /*relu=*/false));
    }
    const auto stack = register_module("stack", std::make_shared<Stack>());
    int64_t in = o.in;
    for (size_t i = 0; i < convs_.size(); ++i) {
      convs_[i] = stack->register_module(
          text("conv", i + 1), std::make_shared<AlignedSeparable>(AlignedSeparable::Options{
                                   .in = in,
                                   .out = o.widths[i],
                                   .stride = i + 1 < convs_.size() ? 1 : o.stride,
                                   .dilation = o.dilation,
                                   .relus = last_}));
      in = o.widths[i];
    }
    if (!last_ && o.drop_path_rate > 0) {
      drop_path_ = register_module("drop_path", std::make_shared<DropPath>(o.drop_path_rate));
    }
  }

  Outputs forward_both(const torch::Tensor& x) override {
    Outputs out;
    out.inner = x;
    for (size_t i = 0; i + 1 < convs_.size(); ++i) out.inner = convs_[i]->forward(act(out.inner));
    out.inner = act(out.inner);
    out.last = convs_.back()->forward(out.inner);
    if (last_) return out;
    if (drop_path_) out.last = drop_path_->forward(out.last);
    out.last = out.last + (shortcut_ ? shortcut_->forward(x) : x);
    return out;
  }
  std::vector<std::shared_ptr<torch::nn::Module>> behind_inner_map() const override {
    std::vector<std::shared_ptr<torch::nn::Module>> out{convs_.back()};
    if (shortcut_) out.push_back(shortcut_);
    return out;
  }

 private:
  class Stack final : public BaseModule {};

  torch::Tensor act(const torch::Tensor& x) const { return last_ ? x : x.relu(); }

  bool last_;
  std::shared_ptr<AlignedUnit> shortcut_;  ///< may be null
  std::array<std::shared_ptr<AlignedSeparable>, 3> convs_;
  std::shared_ptr<DropPath> drop_path_;  ///< may be null
};

/// Xception as DeepLabv3+ changed it, under timm's names. All maps but the last are taken inside
/// the blocks that stride; a strided block that is dilated instead keeps the dilation before it.
class AlignedXception final : public ChainEncoder {
 public:
  AlignedXception(const AlignedXceptionVariant& v, const std::string& name,
                  std::vector<EncoderWeights> published, const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = {128, 256, 728, 1024, 2048},
                      .published = std::move(published),
                      .classifier = {"head."},
                      .drops_paths = true,
                      .init = EncoderFacts::kPyTorchInit},
                     options) {
    add_stem();
    auto blocks = v.entry;
    for (int64_t i = 0; i < v.middle_blocks; ++i) blocks.push_back({{728, 728, 728}, 1});
    blocks.push_back({{728, 1024, 1024}, 2});
    const auto rates = drop_path_rates(drop_path_rate(), static_cast<int64_t>(blocks.size()) + 1);
    int64_t in = 64, stride = 2;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const auto& b = blocks[i];
      const bool strides = b.stride > 1 && dilation_of(stride * b.stride) == 1;
      const auto block =
          std::make_shared<AlignedBlock>(AlignedBlock::Options{.in = in,
                                                               .widths = b.widths,
                                                               .stride = strides ? b.stride : 1,
                                                               .dilation = dilation_of(stride),
                                                               .drop_path_rate = rates[i]});
      if (b.stride > 1) {
        add_with_inner_map(text("blocks.", i), block);
      } else {
        add(text("blocks.", i), block);
      }
      in = b.widths.back();
      stride *= b.stride;
    }
    add(text("blocks.", blocks.size()),
        std::make_shared<AlignedBlock>(AlignedBlock::Options{.in = in,
                                                             .widths = {1536, 1536, 2048},
                                                             .dilation = dilation_of(stride),
                                                             .last = true}));
    end_level();
  }

 private:
  void add_stem() {
    const auto conv = [](int64_t in, int64_t out, int64_t stride) {
      return ConvOptions{.in_channels = in,
                         .out_channels = out,
                         .kernel_size = 3,
                         .stride = stride,
                         .padding = 1,
                         .bias = false};
    };
    const auto first =
        add("stem.0", std::make_shared<AlignedUnit>(conv(in_channels(), 32, 2), /*relu=*/true));
    set_first_conv("stem.0.conv.weight",
                   std::static_pointer_cast<Conv2d>(first->named_children()["conv"]));
    add("stem.1", std::make_shared<AlignedUnit>(conv(32, 64, 1), /*relu=*/true));
  }
};

std::vector<EncoderEntry> aligned_xception_encoders() {
  std::vector<EncoderEntry> out;
  for (const auto& v : aligned_xceptions()) {
    const std::string name = text("tu-", v.name);
    const auto published = timm_weights_of_tags(v.name, v.timm_tags);
    out.push_back({.name = name,
                   .summary = v.summary,
                   .source = "Chen et al. 2018, arXiv:1802.02611",
                   .build = [v, name, published](const EncoderOptions& options) {
                     return std::make_shared<AlignedXception>(v, name, published, options);
                   }});
  }
  return out;
}
SEG_REGISTER_ENCODERS(aligned_xception_encoders);

}  // namespace
}  // namespace seg
