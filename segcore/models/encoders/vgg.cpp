#include <algorithm>
#include <array>

#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct VggVariant {
  const char* name;
  const char* summary;
  std::array<int64_t, 5> convs;  ///< of each stage
  bool batch_norm;
  const char* smp_revision;
  const char* torchvision_digest;
};

constexpr VggVariant kVggs[] = {
    {"vgg11",
     "VGG-11.",
     {1, 1, 2, 2, 2},
     false,
     "ad8b90e1051c38fdbf399cf5016886a1be357390",
     "8a719046"},
    {"vgg11_bn",
     "VGG-11 with batch norms.",
     {1, 1, 2, 2, 2},
     true,
     "59757f9215032c9f092977092d57d26a9df7fd9c",
     "6002323d"},
    {"vgg13",
     "VGG-13.",
     {2, 2, 2, 2, 2},
     false,
     "1b70ff2580f101a8007a48b51e2b5d1e5925dc42",
     "19584684"},
    {"vgg13_bn",
     "VGG-13 with batch norms.",
     {2, 2, 2, 2, 2},
     true,
     "9be454515193af6612261b7614fe90607e27b143",
     "abd245e5"},
    {"vgg16",
     "VGG-16.",
     {2, 2, 3, 3, 3},
     false,
     "49d74b799006ee252b86e25acd6f1fd8ac9a99c1",
     "397923af"},
    {"vgg16_bn",
     "VGG-16 with batch norms.",
     {2, 2, 3, 3, 3},
     true,
     "2c186d02fb519e93219a99a1c2af6295aef0bf0d",
     "6c64b313"},
    {"vgg19",
     "VGG-19.",
     {2, 2, 4, 4, 4},
     false,
     "2853d00d7bca364dbb98be4d6afa347e5aeec1f6",
     "dcbb9e9d"},
    {"vgg19_bn",
     "VGG-19 with batch norms.",
     {2, 2, 4, 4, 4},
     true,
     "f09a924cb0d201ea6f61601df9559141382271d7",
     "c79401a0"},
};

/// VGG, whose tensors all libraries name alike. It pools between stages: it computes a map at the
/// images' size and cannot be dilated.
class Vgg final : public ChainEncoder {
 public:
  Vgg(const VggVariant& v, const std::string& name, std::vector<EncoderWeights> published,
      const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = {128, 256, 512, 512, 512},
                      .image_channels = 64,
                      .published = std::move(published),
                      .classifier = {"classifier.", "pre_logits.", "head."},
                      .dilates = false},
                     options) {
    const auto norm = Spec<Norm>::of("{type: BN}");
    int64_t in = in_channels();
    for (size_t stage = 0; stage < v.convs.size(); ++stage) {
      const int64_t out = std::min<int64_t>(int64_t{64} << stage, 512);
      for (int64_t i = 0; i < v.convs[stage]; ++i) {
        auto conv = std::make_shared<Conv2d>(
            ConvOptions{.in_channels = in, .out_channels = out, .kernel_size = 3, .padding = 1});
        if (count_ == 0) set_first_conv("features.0.weight", conv);
        add(next(), conv);
        if (v.batch_norm) add(next(), norm.build(out));
        add(next(), [](const torch::Tensor& x) { return x.relu_(); });
        in = out;
      }
      end_level();
      add(next(), [](const torch::Tensor& x) {
        return at::max_pool2d(x, /*kernel_size=*/2, /*stride=*/2);
      });
    }
    end_level();
  }

 private:
  std::string next() { return text("features.", count_++); }
  int64_t count_ = 0;
};

std::vector<EncoderEntry> vgg_encoders() {
  std::vector<EncoderEntry> out;
  const auto add = [&](const VggVariant& v, const std::string& name,
                       const std::vector<EncoderWeights>& published) {
    out.push_back({.name = name,
                   .summary = v.summary,
                   .source = "Simonyan and Zisserman 2014, arXiv:1409.1556",
                   .build = [v, name, published](const EncoderOptions& options) {
                     return std::make_shared<Vgg>(v, name, published, options);
                   }});
  };
  for (const auto& v : kVggs) {
    add(v, v.name, {smp_weights(v.name, "imagenet", v.smp_revision)});
    add(v, text("tu-", v.name), timm_weights(v.name, {"tv_in1k"}));
    add(v, text("tv-", v.name), {torchvision_weights(v.name, v.torchvision_digest)});
  }
  return out;
}
SEG_REGISTER_ENCODERS(vgg_encoders);

}  // namespace
}  // namespace seg
