#include <array>

#include "segcore/models/blocks/batch_norm_act.hpp"
#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/encoders/start_values.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct ShuffleNetVariant {
  const char* name;
  const char* summary;
  std::array<int64_t, 4> channels;  ///< of the three stages and the last convolution
  const char* file;
  const char* digest;
};

constexpr ShuffleNetVariant kShuffleNets[] = {
    {"shufflenet_v2_x0_5",
     "ShuffleNetV2, 0.5 times as wide.",
     {48, 96, 192, 1024},
     "shufflenetv2_x0.5",
     "f707e7126e"},
    {"shufflenet_v2_x1_0", "ShuffleNetV2.", {116, 232, 464, 1024}, "shufflenetv2_x1", "5666bf0f80"},
    {"shufflenet_v2_x1_5",
     "ShuffleNetV2, 1.5 times as wide.",
     {176, 352, 704, 1024},
     "shufflenetv2_x1_5",
     "3c479a10"},
    {"shufflenet_v2_x2_0",
     "ShuffleNetV2, twice as wide.",
     {244, 488, 976, 2048},
     "shufflenetv2_x2_0",
     "8be3c8ee"},
};
constexpr std::array<int64_t, 3> kShuffleNetBlocks{4, 8, 4};
constexpr int64_t kShuffleNetStem = 24;

void push_conv(Sequential& to, const ConvOptions& conv, bool acts) {
  ConvOptions o = conv;
  o.bias = false;
  to.push_back(std::make_shared<Conv2d>(o));
  to.push_back(std::make_shared<BatchNormAct>(BatchNormParams{}, o.out_channels));
  if (acts) to.push_back(std::make_shared<Lambda>([](torch::Tensor x) { return at::relu_(x); }));
}

/// One half of the channels passes, or is halved in size; the other is convolved; then the halves
/// are interleaved. Children `branch1`, `branch2`.
class ShuffleUnit final : public Layer {
 public:
  /// \param halves  whether the unit begins a stage; its stride is then `stride`, which is 1 in
  /// dilated stages.
  ShuffleUnit(int64_t in, int64_t out, bool halves, int64_t stride, int64_t dilation)
      : halves_(halves),
        branch1_(std::make_shared<Sequential>()),
        branch2_(std::make_shared<Sequential>()) {
    const int64_t width = out / 2;
    const auto depthwise = [&](int64_t channels) {
      return ConvOptions{.in_channels = channels,
                         .out_channels = channels,
                         .kernel_size = 3,
                         .stride = stride,
                         .padding = dilation,
                         .dilation = dilation,
                         .groups = channels};
    };
    if (halves) {
      push_conv(*branch1_, depthwise(in), false);
      push_conv(*branch1_, {.in_channels = in, .out_channels = width}, true);
    }
    push_conv(*branch2_, {.in_channels = halves ? in : width, .out_channels = width}, true);
    push_conv(*branch2_, depthwise(width), false);
    push_conv(*branch2_, {.in_channels = width, .out_channels = width}, true);
    register_module("branch1", branch1_);
    register_module("branch2", branch2_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto parts = x.chunk(2, 1);
    const auto out = halves_ ? at::stack({branch1_->forward(x), branch2_->forward(x)}, 2)
                             : at::stack({parts[0], branch2_->forward(parts[1])}, 2);
    return out.flatten(1, 2);
  }

 private:
  bool halves_;
  std::shared_ptr<Sequential> branch1_, branch2_;
};

/// ShuffleNetV2 with torchvision's names.
class ShuffleNetV2 final : public ChainEncoder {
 public:
  ShuffleNetV2(const ShuffleNetVariant& v, const std::string& name, const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = {kShuffleNetStem, kShuffleNetStem, v.channels[0], v.channels[1],
                                   v.channels[3]},
                      .published = {torchvision_weights(v.file, v.digest)},
                      .classifier = {"fc."}},
                     options) {
    auto stem = std::make_shared<Sequential>();
    push_conv(*stem,
              {.in_channels = in_channels(),
               .out_channels = kShuffleNetStem,
               .kernel_size = 3,
               .stride = 2,
               .padding = 1},
              true);
    set_first_conv("conv1.0.weight", std::static_pointer_cast<Conv2d>((*stem)[0]));
    add("conv1", stem);
    end_level();
    add("maxpool", [](const torch::Tensor& x) {
      return at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
    });
    end_level();
    int64_t in = kShuffleNetStem;
    for (size_t i = 0; i < kShuffleNetBlocks.size(); ++i) {
      const int64_t dilation = dilation_of(int64_t{8} << i);
      auto stage = std::make_shared<Sequential>();
      for (int64_t b = 0; b < kShuffleNetBlocks[i]; ++b) {
        stage->push_back(std::make_shared<ShuffleUnit>(in, v.channels[i], b == 0,
                                                       b == 0 && dilation == 1 ? 2 : 1, dilation));
        in = v.channels[i];
      }
      add(text("stage", i + 2), stage);
      if (i < 2) end_level();
    }
    auto last = std::make_shared<Sequential>();
    push_conv(*last, {.in_channels = in, .out_channels = v.channels[3]}, true);
    add("conv5", last);
    end_level();
  }
  /// PyTorch's own values, as torchvision.
  void init_weights() override {
    ChainEncoder::init_weights();
    start_as_torch(*this);
  }
};

std::vector<EncoderEntry> shufflenet_v2_encoders() {
  std::vector<EncoderEntry> out;
  for (const auto& v : kShuffleNets) {
    const auto name = text("tv-", v.name);
    out.push_back({.name = name,
                   .summary = v.summary,
                   .source = "Ma et al. 2018, arXiv:1807.11164",
                   .build = [v, name](const EncoderOptions& options) {
                     return std::make_shared<ShuffleNetV2>(v, name, options);
                   }});
  }
  return out;
}
SEG_REGISTER_ENCODERS(shufflenet_v2_encoders);

}  // namespace
}  // namespace seg
