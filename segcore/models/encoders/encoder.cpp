#include "segcore/models/smp/encoder.hpp"

#include <algorithm>

#include "segcore/torch.hpp"

namespace seg::smp {
namespace {

bool is_weights_file(const std::string& weights) {
  return weights.find('/') != std::string::npos || weights.ends_with(".pth") ||
         weights.ends_with(".pt") || weights.ends_with(".safetensors");
}

std::string weights_address(const std::string& encoder, const std::string& weights,
                            const std::vector<EncoderWeights>& published) {
  if (is_weights_file(weights)) return weights;
  std::vector<std::string> known;
  for (const auto& p : published) {
    if (p.name == weights) {
      return text("https://huggingface.co/smp-hub/", encoder, ".", p.name, "/resolve/", p.revision,
                  "/model.safetensors");
    }
    known.emplace_back(p.name);
  }
  throw OptionError(
      "encoder_weights",
      text("unknown weights '", weights, "' of ", encoder, ".", did_you_mean(weights, known),
           " Known: ", join(known, ", "), "; a file of weights; or null for random ones"));
}

}  // namespace

Encoder::Encoder(std::string name, const EncoderOptions& options, std::vector<int64_t> out_channels,
                 const std::vector<EncoderWeights>& published)
    : BaseModule(init_cfg_of("[{type: Kaiming, layer: Conv2d}, "
                             "{type: Constant, val: 1, layer: [_BatchNorm, GroupNorm]}]")),
      name_(std::move(name)),
      options_(options),
      out_channels_(std::move(out_channels)) {
  const auto deepest = static_cast<int64_t>(out_channels_.size()) - 1;
  if (options_.depth < 1 || options_.depth > deepest) {
    throw OptionError("encoder_depth", text("must be between 1 and ", deepest, " for ", name_,
                                            ", got ", options_.depth));
  }
  if (options_.weights) {
    weights_address_ = weights_address(name_, *options_.weights, published);
    init_cfg_->values.push_back(pretrained_from(weights_address_));
  }
  // VGG's first map is its own, of as many channels whatever the images have.
  if (out_channels_[0] == 3) out_channels_[0] = options_.in_channels;
  out_channels_.resize(static_cast<size_t>(options_.depth) + 1);
}

int64_t Encoder::output_stride() const {
  return std::min(options_.output_stride, int64_t{1} << options_.depth);
}

int64_t Encoder::dilation_of(int64_t stage_stride) const {
  return std::max<int64_t>(stage_stride / options_.output_stride, 1);
}

void Encoder::set_first_conv(const std::string& name, std::shared_ptr<Conv2d> conv) {
  first_conv_name_ = name;
  first_conv_ = std::move(conv);
}

void Encoder::init_weights() {
  BaseModule::init_weights();
  // As in the library, which replaces the first convolution for images of other bands.
  if (options_.in_channels != 3) {
    torch::NoGradGuard no_grad;
    first_conv_->reset_parameters();
  }
}

void Encoder::adapt_pretrained(Value& state) const {
  const auto own = named_parameters();
  Value kept = Value::dict();
  bool whole_model = false;
  for (const auto& [key, value] : state.as_dict()) {
    whole_model = whole_model || key.as_string().starts_with("encoder.");
  }
  for (const auto& [key, value] : state.as_dict()) {
    std::string name = key.as_string();
    if (whole_model) {
      if (!name.starts_with("encoder.")) continue;
      name = name.substr(8);
    }
    if (name.starts_with("fc.") || name.starts_with("classifier.")) continue;
    if (name != first_conv_name_ || !value.is_tensor()) {
      kept.set(name, value);
      continue;
    }
    auto weight = value.as_tensor();
    const int64_t bands = options_.in_channels;
    if (weight.dim() == 4 && weight.size(1) == 3 && bands != 3) {
      if (bands == 1) {
        weight = weight.sum(1, /*keepdim=*/true);
      } else {
        const auto source = torch::arange(bands, torch::kLong).remainder(3);
        weight = weight.index_select(1, source) * (3.0 / static_cast<double>(bands));
      }
    }
    kept.set(name, Value(weight));
  }
  state = kept;
}

std::shared_ptr<Encoder> build_encoder(const std::string& name, const EncoderOptions& options) {
  const auto& registry = Registry<Encoder>::instance();
  const auto* entry = registry.find(name);
  SEG_CHECK(entry, "no encoder is called '", name, "'");
  Config none;
  none.kind = Config::Kind::kMap;
  Diagnostics problems;
  const auto params = entry->parse(none, "encoder_name", name, problems);
  if (problems.has_errors()) throw ConfigError(problems);
  return entry->create(params.get(), options);
}

void leave_untrained(torch::nn::Module& module) {
  for (auto& parameter : module.parameters()) parameter.set_requires_grad(false);
}

}  // namespace seg::smp
