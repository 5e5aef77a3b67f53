#include <utility>

#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// A convolution of each channel alone, then one of 1x1: children `conv1`, `pointwise`.
class XceptionSeparable final : public Layer {
 public:
  XceptionSeparable(int64_t in, int64_t out)
      : conv1_(register_module("conv1", std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                                             .out_channels = in,
                                                                             .kernel_size = 3,
                                                                             .padding = 1,
                                                                             .groups = in,
                                                                             .bias = false}))),
        pointwise_(register_module("pointwise",
                                   std::make_shared<Conv2d>(ConvOptions{
                                       .in_channels = in, .out_channels = out, .bias = false}))) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    return pointwise_->forward(conv1_->forward(x));
  }

 private:
  std::shared_ptr<Conv2d> conv1_, pointwise_;
};

struct XceptionBlockOptions {
  int64_t in = 0;
  std::vector<int64_t> widths;  ///< of the separable convolutions
  int64_t stride = 1;
  bool relu_first = true;
};

/// Separable convolutions and a shortcut: children `skip`, `skipbn`, `rep`.
class XceptionBlock final : public Layer {
 public:
  explicit XceptionBlock(const XceptionBlockOptions& o) : rep_(std::make_shared<Sequential>()) {
    const auto norm = Spec<Norm>::of("{type: BN}");
    const int64_t out = o.widths.back();
    if (out != o.in || o.stride != 1) {
      skip_ = register_module(
          "skip",
          std::make_shared<Conv2d>(ConvOptions{
              .in_channels = o.in, .out_channels = out, .stride = o.stride, .bias = false}));
      skipbn_ = register_module("skipbn", norm.build(out));
    }
    int64_t width = o.in;
    for (const int64_t next : o.widths) {
      // Not in place: the first takes what the shortcut takes too.
      if (o.relu_first || rep_->size() > 0) {
        rep_->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); }));
      }
      rep_->push_back(std::make_shared<XceptionSeparable>(std::exchange(width, next), next));
      rep_->push_back(norm.build(next));
    }
    if (o.stride != 1) {
      rep_->push_back(std::make_shared<Lambda>([stride = o.stride](const torch::Tensor& x) {
        return at::max_pool2d(x, /*kernel_size=*/3, stride, /*padding=*/1);
      }));
    }
    register_module("rep", rep_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return rep_->forward(x) + (skip_ ? skipbn_->forward(skip_->forward(x)) : x);
  }

 private:
  std::shared_ptr<Conv2d> skip_;  ///< may be null
  std::shared_ptr<Norm> skipbn_;  ///< may be null
  std::shared_ptr<Sequential> rep_;
};

/// Xception. timm gives activated maps; segmentation_models_pytorch gives them before the
/// activation, and pads the first convolutions so that they have exact shares of the images' size.
class Xception final : public ChainEncoder {
 public:
  Xception(const std::string& name, bool of_smp, std::vector<EncoderWeights> published,
           const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = {64, 128, 256, 728, 2048},
                      .published = std::move(published),
                      .classifier = {"fc.", "last_linear."},
                      .dilates = false,
                      .halves = of_smp,
                      .init = of_smp ? EncoderFacts::kPyTorchInit : EncoderFacts::kKaimingInit},
                     options) {
    std::function<torch::Tensor(const torch::Tensor&)> activated;
    if (!of_smp) activated = [](const torch::Tensor& x) { return x.relu(); };
    const int64_t padding = of_smp ? 1 : 0;
    set_first_conv("conv1.weight", add_stem_conv(1, in_channels(), 32, /*stride=*/2, padding));
    add_stem_conv(2, 32, 64, /*stride=*/1, padding);
    end_level();
    add_block(1, {.in = 64, .widths = {128, 128}, .stride = 2, .relu_first = false});
    end_level(activated);
    add_block(2, {.in = 128, .widths = {256, 256}, .stride = 2});
    end_level(activated);
    add_block(3, {.in = 256, .widths = {728, 728}, .stride = 2});
    for (int number = 4; number < 12; ++number) {
      add_block(number, {.in = 728, .widths = {728, 728, 728}});
    }
    end_level(activated);
    add_block(12, {.in = 728, .widths = {728, 1024}, .stride = 2});
    add("conv3", std::make_shared<XceptionSeparable>(1024, 1536));
    add_norm(3, 1536);
    add_relu(3);
    add("conv4", std::make_shared<XceptionSeparable>(1536, 2048));
    add_norm(4, 2048);
    end_level(activated);
  }

 private:
  std::shared_ptr<Conv2d> add_stem_conv(int number, int64_t in, int64_t out, int64_t stride,
                                        int64_t padding) {
    auto conv = add(text("conv", number), std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                                               .out_channels = out,
                                                                               .kernel_size = 3,
                                                                               .stride = stride,
                                                                               .padding = padding,
                                                                               .bias = false}));
    add_norm(number, out);
    add_relu(number);
    return conv;
  }
  void add_norm(int number, int64_t channels) {
    add(text("bn", number), Spec<Norm>::of("{type: BN}").build(channels));
  }
  void add_relu(int number) {
    add(text("relu", number), [](const torch::Tensor& x) { return x.relu_(); });
  }
  void add_block(int number, const XceptionBlockOptions& o) {
    add(text("block", number), std::make_shared<XceptionBlock>(o));
  }
};

std::vector<EncoderEntry> xception_encoders() {
  const auto entry = [](const std::string& name, bool of_smp,
                        const std::vector<EncoderWeights>& published) {
    return EncoderEntry{.name = name,
                        .summary = "Xception.",
                        .source = "Chollet 2016, arXiv:1610.02357",
                        .build = [name, of_smp, published](const EncoderOptions& options) {
                          return std::make_shared<Xception>(name, of_smp, published, options);
                        }};
  };
  const std::string timm_address =
      "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/"
      "xception-43020ad28.pth";
  return {entry("xception", /*of_smp=*/true,
                {smp_weights("xception", "imagenet", "01cfaf27c11353b1f0c578e7e26d2c000ea91049")}),
          entry("tu-legacy_xception", /*of_smp=*/false,
                {{"imagenet", timm_address}, {"tf_in1k", timm_address}})};
}
SEG_REGISTER_ENCODERS(xception_encoders);

}  // namespace
}  // namespace seg
