#include <array>
#include <utility>

#include "segcore/models/backbones/resnet.hpp"
#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct ResNetVariant {
  std::string name;
  std::string summary;
  std::array<int64_t, 4> blocks;
  bool bottleneck = true;
  int64_t groups = 1, width_per_group = 64;
  std::vector<std::pair<std::string, std::string>> smp_revisions;  ///< by the name of the weights

  int64_t expansion() const { return bottleneck ? ResBottleneck::kExpansion : 1; }
};

std::vector<ResNetVariant> resnet_variants() {
  return {
      {.name = "resnet18",
       .summary = "ResNet-18.",
       .blocks = {2, 2, 2, 2},
       .bottleneck = false,
       .smp_revisions = {{"imagenet", "3f2325ff978283d47aa6a1d6878ca20565622683"},
                         {"ssl", "d600d5116aac2e6e595f99f40612074c723c00b2"},
                         {"swsl", "0e3a35d4d8e344088c14a96eee502a88ac70eae1"}}},
      {.name = "resnet34",
       .summary = "ResNet-34.",
       .blocks = {3, 4, 6, 3},
       .bottleneck = false,
       .smp_revisions = {{"imagenet", "7a57b34f723329ff020b3f8bc41771163c519d0c"}}},
      {.name = "resnet50",
       .summary = "ResNet-50.",
       .blocks = {3, 4, 6, 3},
       .smp_revisions = {{"imagenet", "00cb74e366966d59cd9a35af57e618af9f88efe9"},
                         {"ssl", "d07daf5b4377f3700c6ac61906b0aafbc4eca46b"},
                         {"swsl", "b9520cce124f91c6fe7eee45721a2c7954f0d8c0"}}},
      {.name = "resnet101",
       .summary = "ResNet-101.",
       .blocks = {3, 4, 23, 3},
       .smp_revisions = {{"imagenet", "cd7c15e8c51da86ae6a084515fdb962d0c94e7d1"}}},
      {.name = "resnet152",
       .summary = "ResNet-152.",
       .blocks = {3, 8, 36, 3},
       .smp_revisions = {{"imagenet", "951dd835e9d086628e447b484584c8983f9e1dd0"}}},
      {.name = "resnext50_32x4d",
       .summary = "ResNeXt-50 of 32 groups 4 wide.",
       .blocks = {3, 4, 6, 3},
       .groups = 32,
       .width_per_group = 4,
       .smp_revisions = {{"imagenet", "329793c85d62fd340ae42ae39fb905a63df872e7"},
                         {"ssl", "9b67cff77d060c7044493a58c24d1007c1eb06c3"},
                         {"swsl", "52e6e49da61b8e26ca691e1aef2cbb952884057d"}}},
      {.name = "resnext101_32x4d",
       .summary = "ResNeXt-101 of 32 groups 4 wide.",
       .blocks = {3, 4, 23, 3},
       .groups = 32,
       .width_per_group = 4,
       .smp_revisions = {{"ssl", "b39796c8459084d13523b7016c3ef13a2e9e472b"},
                         {"swsl", "3f8355b4892a31f001a832b49b2b01484d48516a"}}},
      {.name = "resnext101_32x8d",
       .summary = "ResNeXt-101 of 32 groups 8 wide.",
       .blocks = {3, 4, 23, 3},
       .groups = 32,
       .width_per_group = 8,
       .smp_revisions = {{"imagenet", "221af6198d03a4ee88992f78a1ee81b46a52d339"},
                         {"instagram", "44cd927aa6e64673ffe9d31230bad44abc18b823"},
                         {"ssl", "723a95ddeed335c9488c37c6cbef13d779ac8f97"},
                         {"swsl", "58cf0bb65f91365470398080d9588b187d1777c4"}}},
      {.name = "resnext101_32x16d",
       .summary = "ResNeXt-101 of 32 groups 16 wide.",
       .blocks = {3, 4, 23, 3},
       .groups = 32,
       .width_per_group = 16,
       .smp_revisions = {{"instagram", "64e8e320eeae6501185b0627b2429a68e52d050c"},
                         {"ssl", "1283fe03fbb6aa2599b2df24095255acb93c3d5c"},
                         {"swsl", "30ba61bbd4d6af0d955c513dbb4f557b84eb094f"}}},
      {.name = "resnext101_32x32d",
       .summary = "ResNeXt-101 of 32 groups 32 wide.",
       .blocks = {3, 4, 23, 3},
       .groups = 32,
       .width_per_group = 32,
       .smp_revisions = {{"instagram", "c9405de121fdaa275a89de470fb19409e3eeaa86"}}},
      {.name = "resnext101_32x48d",
       .summary = "ResNeXt-101 of 32 groups 48 wide.",
       .blocks = {3, 4, 23, 3},
       .groups = 32,
       .width_per_group = 48,
       .smp_revisions = {{"instagram", "53e61a962b824ad7027409821f9ac3e3336dd024"}}},
  };
}

/// ResNet and ResNeXt, whose tensors all libraries name alike.
class ResNetEncoder final : public ChainEncoder {
 public:
  ResNetEncoder(const ResNetVariant& v, const std::string& name,
                std::vector<EncoderWeights> published, const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = {64, 64 * v.expansion(), 128 * v.expansion(), 256 * v.expansion(),
                                   512 * v.expansion()},
                      .published = std::move(published)},
                     options) {
    const auto norm = Spec<Norm>::of("{type: BN}");
    set_first_conv("conv1.weight",
                   add("conv1", std::make_shared<Conv2d>(ConvOptions{.in_channels = in_channels(),
                                                                     .out_channels = 64,
                                                                     .kernel_size = 7,
                                                                     .stride = 2,
                                                                     .padding = 3,
                                                                     .bias = false})));
    add("bn1", norm.build(64));
    add("relu", [](const torch::Tensor& x) { return x.relu(); });
    end_level();
    add("maxpool", [](const torch::Tensor& x) {
      return at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
    });
    int64_t width = 64;
    for (size_t i = 0; i < v.blocks.size(); ++i) {
      add(text("layer", i + 1), stage(v, i, width, norm));
      end_level();
    }
  }

 private:
  std::shared_ptr<Sequential> stage(const ResNetVariant& v, size_t i, int64_t& width,
                                    const Spec<Norm>& norm) const {
    const int64_t dilation = dilation_of(int64_t{4} << i);
    ResBlockOptions o{.in_channels = width,
                      .planes = int64_t{64} << i,
                      .dilation = dilation,
                      .second_dilation = dilation,
                      .norm_cfg = norm};
    const ResBottleneck::Middle middle{.width = o.planes * v.width_per_group / 64 * v.groups,
                                       .groups = v.groups};
    auto out = std::make_shared<Sequential>();
    for (int64_t b = 0; b < v.blocks[i]; ++b) {
      o.stride = b == 0 && i > 0 && dilation == 1 ? 2 : 1;
      o.downsample = b == 0 && (i > 0 || o.in_channels != o.planes * v.expansion());
      if (v.bottleneck) {
        out->push_back(std::make_shared<ResBottleneck>(o, middle));
      } else {
        out->push_back(std::make_shared<ResBasicBlock>(o));
      }
      o.in_channels = width = o.planes * v.expansion();
    }
    return out;
  }
};

std::vector<EncoderEntry> resnet_encoders() {
  std::vector<EncoderEntry> out;
  for (const auto& v : resnet_variants()) {
    std::vector<EncoderWeights> published;
    for (const auto& [weights, revision] : v.smp_revisions) {
      published.push_back(smp_weights(v.name, weights, revision));
    }
    out.push_back(
        {.name = v.name,
         .summary = v.summary,
         .source = "He et al. 2015, arXiv:1512.03385; ResNeXt: Xie et al. 2016, arXiv:1611.05431",
         .build = [v, published](const EncoderOptions& options) {
           return std::make_shared<ResNetEncoder>(v, v.name, published, options);
         }});
  }
  return out;
}
SEG_REGISTER_ENCODERS(resnet_encoders);

}  // namespace
}  // namespace seg
