#include <array>

#include "segcore/models/backbones/resnet.hpp"
#include "segcore/models/smp/encoder.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct ResNetKind {
  const char* name;
  const char* title;
  std::array<int64_t, 4> blocks;
  bool bottleneck = true;
  int64_t groups = 1, width_per_group = 64;
  std::array<EncoderWeights, 4> published{};
};

/// ResNet and ResNeXt with torchvision's names.
class ResNetEncoder : public Encoder {
 public:
  static constexpr const char* kSource =
      "He et al. 2015, arXiv:1512.03385; ResNeXt: Xie et al. 2016, arXiv:1611.05431";
  static std::string summary(const ResNetKind& kind) { return kind.title; }

  ResNetEncoder(const ResNetKind& kind, const EncoderOptions& options)
      : Encoder(kind.name, options, widths(kind), published(kind)) {
    conv1_ = std::make_shared<Conv2d>(ConvOptions{.in_channels = in_channels(),
                                                  .out_channels = 64,
                                                  .kernel_size = 7,
                                                  .stride = 2,
                                                  .padding = 3,
                                                  .bias = false});
    set_first_conv("conv1.weight", register_module("conv1", conv1_));
    const auto norm = Spec<Norm>::of("{type: BN}");
    norm1_ = register_norm(*this, norm, 64, "1");
    const int64_t expansion = kind.bottleneck ? ResBottleneck::kExpansion : 1;
    int64_t width = 64;
    for (size_t i = 0; i < kind.blocks.size(); ++i) {
      const int64_t dilation = dilation_of(int64_t{4} << i);
      ResBlockOptions o{.in_channels = width,
                        .planes = int64_t{64} << i,
                        .dilation = dilation,
                        .second_dilation = dilation,
                        .norm_cfg = norm};
      const ResBottleneck::Middle middle{
          .width = o.planes * kind.width_per_group / 64 * kind.groups, .groups = kind.groups};
      auto layer = std::make_shared<Sequential>();
      for (int64_t b = 0; b < kind.blocks[i]; ++b) {
        o.stride = b == 0 && i > 0 && dilation == 1 ? 2 : 1;
        o.downsample = b == 0 && (i > 0 || o.in_channels != o.planes * expansion);
        if (kind.bottleneck) {
          layer->push_back(std::make_shared<ResBottleneck>(o, middle));
        } else {
          layer->push_back(std::make_shared<ResBasicBlock>(o));
        }
        o.in_channels = width = o.planes * expansion;
      }
      layers_.push_back(register_module(text("layer", i + 1), layer));
      if (static_cast<int64_t>(i) + 2 > depth()) leave_untrained(*layer);
    }
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out{images};
    out.push_back(norm1_->forward(conv1_->forward(images)).relu_());
    for (int64_t i = 2; i <= depth(); ++i) {
      auto x = out.back();
      if (i == 2) x = at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
      out.push_back(layers_[static_cast<size_t>(i - 2)]->forward(x));
    }
    return out;
  }

 private:
  static std::vector<int64_t> widths(const ResNetKind& kind) {
    if (!kind.bottleneck) return {3, 64, 64, 128, 256, 512};
    return {3, 64, 256, 512, 1024, 2048};
  }
  static std::vector<EncoderWeights> published(const ResNetKind& kind) {
    std::vector<EncoderWeights> out;
    for (const auto& weights : kind.published) {
      if (weights.name) out.push_back(weights);
    }
    return out;
  }

  std::shared_ptr<Conv2d> conv1_;
  std::shared_ptr<Norm> norm1_;
  std::vector<std::shared_ptr<Sequential>> layers_;
};

template <const ResNetKind& kKind>
using ResNetOf = EncoderOf<ResNetEncoder, kKind>;

constexpr ResNetKind kResNet18{
    .name = "resnet18",
    .title = "ResNet-18.",
    .blocks = {2, 2, 2, 2},
    .bottleneck = false,
    .published = {{{"imagenet", "3f2325ff978283d47aa6a1d6878ca20565622683"},
                   {"ssl", "d600d5116aac2e6e595f99f40612074c723c00b2"},
                   {"swsl", "0e3a35d4d8e344088c14a96eee502a88ac70eae1"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNet18>, "resnet18");

constexpr ResNetKind kResNet34{
    .name = "resnet34",
    .title = "ResNet-34.",
    .blocks = {3, 4, 6, 3},
    .bottleneck = false,
    .published = {{{"imagenet", "7a57b34f723329ff020b3f8bc41771163c519d0c"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNet34>, "resnet34");

constexpr ResNetKind kResNet50{
    .name = "resnet50",
    .title = "ResNet-50.",
    .blocks = {3, 4, 6, 3},
    .published = {{{"imagenet", "00cb74e366966d59cd9a35af57e618af9f88efe9"},
                   {"ssl", "d07daf5b4377f3700c6ac61906b0aafbc4eca46b"},
                   {"swsl", "b9520cce124f91c6fe7eee45721a2c7954f0d8c0"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNet50>, "resnet50");

constexpr ResNetKind kResNet101{
    .name = "resnet101",
    .title = "ResNet-101.",
    .blocks = {3, 4, 23, 3},
    .published = {{{"imagenet", "cd7c15e8c51da86ae6a084515fdb962d0c94e7d1"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNet101>, "resnet101");

constexpr ResNetKind kResNet152{
    .name = "resnet152",
    .title = "ResNet-152.",
    .blocks = {3, 8, 36, 3},
    .published = {{{"imagenet", "951dd835e9d086628e447b484584c8983f9e1dd0"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNet152>, "resnet152");

constexpr ResNetKind kResNeXt50x32x4d{
    .name = "resnext50_32x4d",
    .title = "ResNeXt-50 of 32 groups 4 wide.",
    .blocks = {3, 4, 6, 3},
    .groups = 32,
    .width_per_group = 4,
    .published = {{{"imagenet", "329793c85d62fd340ae42ae39fb905a63df872e7"},
                   {"ssl", "9b67cff77d060c7044493a58c24d1007c1eb06c3"},
                   {"swsl", "52e6e49da61b8e26ca691e1aef2cbb952884057d"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNeXt50x32x4d>, "resnext50_32x4d");

constexpr ResNetKind kResNeXt101x32x4d{
    .name = "resnext101_32x4d",
    .title = "ResNeXt-101 of 32 groups 4 wide.",
    .blocks = {3, 4, 23, 3},
    .groups = 32,
    .width_per_group = 4,
    .published = {{{"ssl", "b39796c8459084d13523b7016c3ef13a2e9e472b"},
                   {"swsl", "3f8355b4892a31f001a832b49b2b01484d48516a"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNeXt101x32x4d>, "resnext101_32x4d");

constexpr ResNetKind kResNeXt101x32x8d{
    .name = "resnext101_32x8d",
    .title = "ResNeXt-101 of 32 groups 8 wide.",
    .blocks = {3, 4, 23, 3},
    .groups = 32,
    .width_per_group = 8,
    .published = {{{"imagenet", "221af6198d03a4ee88992f78a1ee81b46a52d339"},
                   {"instagram", "44cd927aa6e64673ffe9d31230bad44abc18b823"},
                   {"ssl", "723a95ddeed335c9488c37c6cbef13d779ac8f97"},
                   {"swsl", "58cf0bb65f91365470398080d9588b187d1777c4"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNeXt101x32x8d>, "resnext101_32x8d");

constexpr ResNetKind kResNeXt101x32x16d{
    .name = "resnext101_32x16d",
    .title = "ResNeXt-101 of 32 groups 16 wide.",
    .blocks = {3, 4, 23, 3},
    .groups = 32,
    .width_per_group = 16,
    .published = {{{"instagram", "64e8e320eeae6501185b0627b2429a68e52d050c"},
                   {"ssl", "1283fe03fbb6aa2599b2df24095255acb93c3d5c"},
                   {"swsl", "30ba61bbd4d6af0d955c513dbb4f557b84eb094f"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNeXt101x32x16d>, "resnext101_32x16d");

constexpr ResNetKind kResNeXt101x32x32d{
    .name = "resnext101_32x32d",
    .title = "ResNeXt-101 of 32 groups 32 wide.",
    .blocks = {3, 4, 23, 3},
    .groups = 32,
    .width_per_group = 32,
    .published = {{{"instagram", "c9405de121fdaa275a89de470fb19409e3eeaa86"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNeXt101x32x32d>, "resnext101_32x32d");

constexpr ResNetKind kResNeXt101x32x48d{
    .name = "resnext101_32x48d",
    .title = "ResNeXt-101 of 32 groups 48 wide.",
    .blocks = {3, 4, 23, 3},
    .groups = 32,
    .width_per_group = 48,
    .published = {{{"instagram", "53e61a962b824ad7027409821f9ac3e3336dd024"}}}};
SEG_REGISTER_AS(Encoder, ResNetOf<kResNeXt101x32x48d>, "resnext101_32x48d");

}  // namespace seg::smp
