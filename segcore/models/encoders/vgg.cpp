#include <algorithm>
#include <array>

#include "segcore/models/nn/norm.hpp"
#include "segcore/models/smp/encoder.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

struct VggKind {
  const char* name;
  const char* title;
  std::array<int64_t, 5> convs;  ///< convolutions of each stage
  bool batch_norm;
  EncoderWeights published;
};

/// VGG with torchvision's names. It pools between stages: it computes a map at the images' size
/// and cannot be dilated.
class VggEncoder : public Encoder {
 public:
  static constexpr const char* kSource = "Simonyan and Zisserman 2014, arXiv:1409.1556";
  static std::string summary(const VggKind& kind) { return kind.title; }

  VggEncoder(const VggKind& kind, const EncoderOptions& options)
      : Encoder(kind.name, options, {64, 128, 256, 512, 512, 512}, {kind.published}) {
    if (options.output_stride != 32) {
      throw OptionError("encoder_name", text(kind.name, " cannot be dilated to the output stride ",
                                             options.output_stride,
                                             " that this model asks of its encoder: it pools. "
                                             "Take a resnet or mobilenet_v2"));
    }
    features_ = std::make_shared<Sequential>();
    const auto norm = Spec<Norm>::of("{type: BN}");
    int64_t in = in_channels();
    for (size_t stage = 0; stage < kind.convs.size(); ++stage) {
      const int64_t out = std::min<int64_t>(int64_t{64} << stage, 512);
      for (int64_t i = 0; i < kind.convs[stage]; ++i) {
        auto conv = std::make_shared<Conv2d>(
            ConvOptions{.in_channels = in, .out_channels = out, .kernel_size = 3, .padding = 1});
        if (features_->size() == 0) set_first_conv("features.0.weight", conv);
        push(conv, stage);
        if (kind.batch_norm) push(norm.build(out), stage);
        push(std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu_(); }), stage);
        in = out;
      }
      ends_.push_back(features_->size() - 1);
      push(std::make_shared<Lambda>([](const torch::Tensor& x) {
             return at::max_pool2d(x, /*kernel_size=*/2, /*stride=*/2);
           }),
           stage);
    }
    ends_.push_back(features_->size() - 1);
    register_module("features", features_);
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out;
    auto x = images;
    for (size_t i = 0; i <= ends_[static_cast<size_t>(depth())]; ++i) {
      x = (*features_)[i]->forward(x);
      if (i == ends_[out.size()]) out.push_back(x);
    }
    return out;
  }

 private:
  void push(const std::shared_ptr<Layer>& layer, size_t stage) {
    if (static_cast<int64_t>(stage) > depth()) leave_untrained(*layer);
    features_->push_back(layer);
  }

  std::shared_ptr<Sequential> features_;
  std::vector<size_t> ends_;  ///< the layer whose output is each map
};

template <const VggKind& kKind>
using VggOf = EncoderOf<VggEncoder, kKind>;

constexpr VggKind kVgg11{.name = "vgg11",
                         .title = "VGG-11.",
                         .convs = {1, 1, 2, 2, 2},
                         .batch_norm = false,
                         .published = {"imagenet", "ad8b90e1051c38fdbf399cf5016886a1be357390"}};
SEG_REGISTER_AS(Encoder, VggOf<kVgg11>, "vgg11");

constexpr VggKind kVgg11Bn{.name = "vgg11_bn",
                           .title = "VGG-11 with batch norms.",
                           .convs = {1, 1, 2, 2, 2},
                           .batch_norm = true,
                           .published = {"imagenet", "59757f9215032c9f092977092d57d26a9df7fd9c"}};
SEG_REGISTER_AS(Encoder, VggOf<kVgg11Bn>, "vgg11_bn");

constexpr VggKind kVgg13{.name = "vgg13",
                         .title = "VGG-13.",
                         .convs = {2, 2, 2, 2, 2},
                         .batch_norm = false,
                         .published = {"imagenet", "1b70ff2580f101a8007a48b51e2b5d1e5925dc42"}};
SEG_REGISTER_AS(Encoder, VggOf<kVgg13>, "vgg13");

constexpr VggKind kVgg13Bn{.name = "vgg13_bn",
                           .title = "VGG-13 with batch norms.",
                           .convs = {2, 2, 2, 2, 2},
                           .batch_norm = true,
                           .published = {"imagenet", "9be454515193af6612261b7614fe90607e27b143"}};
SEG_REGISTER_AS(Encoder, VggOf<kVgg13Bn>, "vgg13_bn");

constexpr VggKind kVgg16{.name = "vgg16",
                         .title = "VGG-16.",
                         .convs = {2, 2, 3, 3, 3},
                         .batch_norm = false,
                         .published = {"imagenet", "49d74b799006ee252b86e25acd6f1fd8ac9a99c1"}};
SEG_REGISTER_AS(Encoder, VggOf<kVgg16>, "vgg16");

constexpr VggKind kVgg16Bn{.name = "vgg16_bn",
                           .title = "VGG-16 with batch norms.",
                           .convs = {2, 2, 3, 3, 3},
                           .batch_norm = true,
                           .published = {"imagenet", "2c186d02fb519e93219a99a1c2af6295aef0bf0d"}};
SEG_REGISTER_AS(Encoder, VggOf<kVgg16Bn>, "vgg16_bn");

constexpr VggKind kVgg19{.name = "vgg19",
                         .title = "VGG-19.",
                         .convs = {2, 2, 4, 4, 4},
                         .batch_norm = false,
                         .published = {"imagenet", "2853d00d7bca364dbb98be4d6afa347e5aeec1f6"}};
SEG_REGISTER_AS(Encoder, VggOf<kVgg19>, "vgg19");

constexpr VggKind kVgg19Bn{.name = "vgg19_bn",
                           .title = "VGG-19 with batch norms.",
                           .convs = {2, 2, 4, 4, 4},
                           .batch_norm = true,
                           .published = {"imagenet", "f09a924cb0d201ea6f61601df9559141382271d7"}};
SEG_REGISTER_AS(Encoder, VggOf<kVgg19Bn>, "vgg19_bn");

}  // namespace seg::smp
