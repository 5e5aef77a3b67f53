#include "segcore/models/encoders/encoder.hpp"

#include <algorithm>
#include <cctype>
#include <utility>

#include "segcore/models/encoders/published.hpp"
#include "segcore/models/weights/load_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

bool is_weights_file(const std::string& weights) {
  return weights.find('/') != std::string::npos || weights.ends_with(".pth") ||
         weights.ends_with(".pt") || weights.ends_with(".safetensors");
}

std::string small_letters(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

std::string published_address(const std::string& model, const std::string& weights,
                              const std::vector<EncoderWeights>& published,
                              const std::string& option) {
  if (is_weights_file(weights)) return weights;
  std::vector<std::string> known;
  for (const auto& p : published) {
    if (small_letters(p.name) == small_letters(weights))
      return p.address;  // torchvision writes capitals
    known.push_back(p.name);
  }
  throw OptionError(
      option, text("unknown weights '", weights, "' of ", model, ".", did_you_mean(weights, known),
                   known.empty() ? "" : " Known: ", join(known, ", "),
                   known.empty() ? " Take " : "; ", "a file of weights; or null for random ones"));
}

Encoder::Encoder(EncoderFacts facts, const EncoderOptions& options)
    : BaseModule(init_cfg_of(facts.init)), facts_(std::move(facts)), options_(options) {
  const auto deepest = static_cast<int64_t>(facts_.channels.size());
  const int64_t shallowest = facts_.channels.front() > 0 ? 1 : 2;
  if (options_.depth < shallowest || options_.depth > deepest) {
    throw OptionError("encoder_depth", text("must be between ", shallowest, " and ", deepest,
                                            " for ", facts_.name, ", got ", options_.depth));
  }
  if (options_.output_stride != 32 && !facts_.dilates) {
    throw OptionError(
        "encoder_name",
        text(facts_.name, " cannot be dilated to the output stride ", options_.output_stride,
             " that this model asks of its encoder. Take a resnet or mobilenet_v2"));
  }
  if (options_.drop_path_rate > 0 && !facts_.drops_paths) {
    throw OptionError("drop_path_rate", text(facts_.name, " has no stochastic depth"));
  }
  if (options_.weights) {
    const auto address =
        published_address(facts_.name, *options_.weights, facts_.published, "encoder_weights");
    init_cfg_->values.push_back(pretrained_from(address));
  }
}

std::vector<FeatureInfo> Encoder::maps() const {
  std::vector<FeatureInfo> out{
      {.channels = facts_.image_channels > 0 ? facts_.image_channels : options_.in_channels,
       .stride = 1}};
  for (int64_t i = 1; i <= options_.depth; ++i) {
    out.push_back({.channels = facts_.channels[static_cast<size_t>(i - 1)],
                   .stride = std::min(int64_t{1} << i, options_.output_stride)});
  }
  return out;
}

std::vector<int64_t> Encoder::out_channels() const {
  std::vector<int64_t> out;
  for (const auto& map : maps()) out.push_back(map.channels);
  return out;
}

int64_t Encoder::output_stride() const { return maps().back().stride; }

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
  if (options_.in_channels != 3 && first_conv_) {
    torch::NoGradGuard no_grad;
    first_conv_->reset_parameters();
  }
}

LayerOrder Encoder::layer_order(const std::string& prefix) const {
  auto stages = layers();
  for (auto& stage : stages) {
    for (auto& name : stage.embedding) name = prefix + name;
    for (auto& name : stage.after) name = prefix + name;
    stage.blocks = prefix + stage.blocks;
  }
  return LayerOrder(std::move(stages));
}

std::vector<torch::Tensor> Encoder::outputs_of(const std::vector<std::string>& names,
                                               const torch::Tensor& /*images*/) {
  throw Error(
      text(facts_.name, " does not give outputs of its layers by name (", join(names, ", "), ")"));
}

void Encoder::adapt_pretrained(Value& state) const {
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
    if (std::ranges::any_of(facts_.classifier,
                            [&](const std::string& head) { return name.starts_with(head); })) {
      continue;
    }
    if (name != first_conv_name_ || !value.is_tensor()) {
      kept.set(name, value);
      continue;
    }
    auto weight = value.as_tensor();
    const int64_t bands = options_.in_channels;
    if (weight.dim() == 4 && weight.size(1) == 3 && bands != 3) {
      weight = stem_for_bands(weight, bands);
    }
    kept.set(name, Value(weight));
  }
  state = kept;
}

torch::Tensor empty_half(const torch::Tensor& images, const torch::Tensor& like) {
  return torch::zeros({images.size(0), 0, (images.size(2) + 1) / 2, (images.size(3) + 1) / 2},
                      like.options());
}

void leave_untrained(torch::nn::Module& module) {
  for (auto& parameter : module.parameters()) parameter.set_requires_grad(false);
}

}  // namespace seg
