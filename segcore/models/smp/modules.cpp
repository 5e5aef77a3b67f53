#include "segcore/models/smp/modules.hpp"

#include <algorithm>
#include <cctype>

#include "segcore/models/encoders/encoder.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {

Decoder::Decoder()
    : BaseModule(init_cfg_of(
          "[{type: Kaiming, mode: fan_in, nonlinearity: relu, distribution: uniform, layer: "
          "Conv2d}, {type: Constant, val: 1, layer: [BatchNorm2d, GroupNorm, InstanceNorm2d]}]")) {}

std::shared_ptr<Layer> make_relu() {
  return std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu_(); });
}

std::shared_ptr<Layer> make_global_pool() {
  return std::make_shared<Lambda>([](const torch::Tensor& x) {
    return at::adaptive_avg_pool2d(x, {1, 1});
  });
}

std::shared_ptr<Sequential> conv_relu(int64_t in, int64_t out, int64_t kernel_size,
                                      const NormCfg& norm) {
  auto layers = std::make_shared<Sequential>();
  layers->push_back(std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                         .out_channels = out,
                                                         .kernel_size = kernel_size,
                                                         .padding = kernel_size / 2,
                                                         .bias = !norm}));
  if (norm) layers->push_back(norm->build(out));
  layers->push_back(make_relu());
  return layers;
}

std::shared_ptr<Sequential> channel_gate(int64_t channels, int64_t reduced) {
  const auto conv = [](int64_t in, int64_t out) {
    return std::make_shared<Conv2d>(ConvOptions{.in_channels = in, .out_channels = out});
  };
  return std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
      make_global_pool(), conv(channels, reduced), make_relu(), conv(reduced, channels),
      std::make_shared<Lambda>([](const torch::Tensor& x) { return x.sigmoid(); })});
}

namespace {

class ScseModule final : public Layer {
 public:
  explicit ScseModule(int64_t channels)
      : channel_(register_module("cSE", channel_gate(channels, channels / 16))),
        space_(std::make_shared<Sequential>()) {
    space_->push_back(
        std::make_shared<Conv2d>(ConvOptions{.in_channels = channels, .out_channels = 1}));
    register_module("sSE", space_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return x * channel_->forward(x) + x * space_->forward(x).sigmoid();
  }

 private:
  std::shared_ptr<Sequential> channel_, space_;
};

}  // namespace

std::shared_ptr<Layer> make_attention(const std::optional<std::string>& type, int64_t channels) {
  if (!type) return std::make_shared<Identity>();
  SEG_CHECK(*type == "scse", "no attention is called '", *type, "'");
  if (channels < 16) {
    throw OptionError("decoder_attention_type",
                      text("scse divides channels by 16, and a map of the decoder has only ",
                           channels, ": widen decoder_channels"));
  }
  auto out = std::make_shared<Sequential>();
  out->push_back("attention", std::make_shared<ScseModule>(channels));
  return out;
}

UpBlock::UpBlock(const UpBlockOptions& o) : interpolation_(o.interpolation) {
  const int64_t joined = o.in_channels + o.skip_channels;
  conv1_ = register_module("conv1", conv_relu(joined, o.out_channels, 3, o.norm));
  attention1_ = register_module("attention1", make_attention(o.attention, joined));
  conv2_ = register_module("conv2", conv_relu(o.out_channels, o.out_channels, 3, o.norm));
  attention2_ = register_module("attention2", make_attention(o.attention, o.out_channels));
  if (!o.joins) leave_untrained(*attention1_);
}

torch::Tensor UpBlock::forward(const torch::Tensor& input, const torch::Tensor& skip,
                               const std::optional<Size2>& size) {
  auto x = size ? resize(input, *size, /*align_corners=*/false, interpolation_)
                : resize_by(input, 2, /*align_corners=*/false, interpolation_);
  if (skip.defined()) x = attention1_->forward(joined_maps({x, skip}));
  return attention2_->forward(conv2_->forward(conv1_->forward(x)));
}

UpChannels up_channels(const std::vector<int64_t>& encoder_channels,
                       const std::vector<int64_t>& decoder_channels) {
  UpChannels c;
  // The map at the images' size is not joined.
  std::vector<int64_t> coarse_first(encoder_channels.rbegin(), encoder_channels.rend() - 1);
  c.in.assign(1, coarse_first.front());
  c.in.insert(c.in.end(), decoder_channels.begin(), decoder_channels.end() - 1);
  c.skip.assign(coarse_first.begin() + 1, coarse_first.end());
  c.skip.push_back(0);
  c.out = decoder_channels;
  return c;
}

const std::vector<std::string>& interpolation_modes() {
  static const std::vector<std::string> modes{"nearest", "bilinear", "bicubic", "area",
                                              "nearest-exact"};
  return modes;
}

const std::vector<std::string>& output_activations() {
  static const std::vector<std::string> names{"identity", "sigmoid",  "softmax2d",
                                              "softmax",  "tanh",     "logsoftmax",
                                              "argmax",   "argmax2d", "clamp"};
  return names;
}

torch::Tensor output_activation(const std::optional<std::string>& name, const torch::Tensor& x) {
  if (!name || *name == "identity") return x;
  if (*name == "sigmoid") return x.sigmoid();
  if (*name == "softmax2d" || *name == "softmax") return x.softmax(1);
  if (*name == "logsoftmax") return x.log_softmax(1);
  if (*name == "tanh") return x.tanh();
  if (*name == "argmax") return x.argmax();
  if (*name == "argmax2d") return x.argmax(1);
  SEG_CHECK(*name == "clamp", "no activation is called '", *name, "'");
  return x.clamp(0, 1);
}

}  // namespace seg::smp

namespace seg {
namespace {

constexpr const char* kNormLayerOfPython =
    "normalises the last dimension, which in a decoder's map is its width (the library fails on it "
    "at the first image). Write batchnorm, instancenorm or identity";

/// The name of our norm, "" for none; nothing where an error was reported.
std::optional<std::string> decoder_norm_type(const Config& c, const std::string& name,
                                             const std::string& path, Diagnostics& problems) {
  if (name == "batchnorm") return "BN";
  if (name == "identity") return "";
  if (name == "instancenorm") return "IN";
  const std::vector<std::string> known{"batchnorm", "identity", "instancenorm"};
  if (name == "layernorm") {
    problems.error(c.origin, path, text("layernorm ", kNormLayerOfPython));
  } else if (name == "inplace") {
    problems.error(c.origin, path,
                   "inplace is a layer of the package inplace_abn, which is not here. Write "
                   "batchnorm, which gives the same where its weights are positive");
  } else {
    problems.error(c.origin, path,
                   text("unknown norm '", name, "'.", did_you_mean(name, known),
                        " Known: ", join(known, ", ")));
  }
  return std::nullopt;
}

}  // namespace

TypeDoc Convert<smp::DecoderNorm>::type() {
  return {.kind = TypeDoc::Kind::kOneOf,
          .name = "bool or string or mapping with 'type'",
          .items = {Convert<bool>::type(),
                    Convert<std::string>::type(),
                    {.kind = TypeDoc::Kind::kMap,
                     .name = "mapping with 'type'",
                     .items = {Convert<Config>::type()}}}};
}

std::optional<smp::DecoderNorm> Convert<smp::DecoderNorm>::from(const Config& c,
                                                                const std::string& path,
                                                                Diagnostics& problems) {
  smp::DecoderNorm out;
  if (c.kind == Config::Kind::kBool || c.kind == Config::Kind::kString) {
    out.shown = c.scalar;
    std::string name = c.scalar;
    if (c.kind == Config::Kind::kBool) {
      name = *Convert<bool>::from(c, path, problems) ? "batchnorm" : "identity";
    }
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char letter) { return std::tolower(letter); });
    const auto norm = decoder_norm_type(c, name, path, problems);
    if (!norm) return std::nullopt;
    out.cfg = norm->empty() ? NormCfg() : norm_cfg_of("{type: " + *norm + "}");
    return out;
  }
  const auto* type = c.find("type");
  if (!type || !type->value.is_scalar()) {
    detail::wrong_type(c, path, Convert::type().name, problems);
    return std::nullopt;
  }
  out.shown = dump_flow(c);
  const auto norm = decoder_norm_type(type->value, type->value.scalar, path + ".type", problems);
  if (!norm) return std::nullopt;
  out.cfg = std::nullopt;
  if (norm->empty()) return out;
  Config ours = c;
  ours.set("type", Config::of(*norm));
  auto spec = Spec<Norm>::parse(ours, path, problems);
  if (!spec) return std::nullopt;
  out.cfg = std::move(*spec);
  return out;
}

}  // namespace seg
