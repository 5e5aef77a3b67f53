#include "segcore/testing/reference_encoder.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "segcore/io/weights.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/testing/reference_model.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"

namespace seg::reference {

using nlohmann::json;

namespace {

bool begins_with_one(const std::string& name, const std::vector<std::string>& beginnings) {
  return std::ranges::any_of(beginnings, [&](const auto& b) { return name.starts_with(b); });
}

/// Whether the maps of an encoder have the widths of those of a fixture.
bool gives(const Encoder& encoder, const json& features) {
  std::vector<int64_t> given, expected;
  for (const auto& map : encoder.maps()) {
    const bool is_image = map.stride == 1 && encoder.facts().image_channels == 0;
    if (map.channels > 0 && !is_image) given.push_back(map.channels);
  }
  for (const auto& map : features) {
    const auto shape = map.at("shape").get<std::vector<int64_t>>();
    expected.push_back(shape.size() == 4 ? shape[1] : 0);
  }
  return given == expected;
}

}  // namespace

std::string encoder_name(const json& fixture) {
  // Models for segmentation and those of other kinds have classes or a configuration.
  if (fixture.contains("model") || fixture.contains("classes")) return "";
  const std::string source = fixture.at("source");
  std::string name = fixture.at("config");
  if (fixture.value("/options/block_args/attn_layer"_json_pointer, "") == "cbam") {
    name = "cbam_" + name;
  }
  if (source.starts_with("timm")) return "tu-" + name;
  if (source.starts_with("torchvision")) return "tv-" + name;
  if (source.starts_with("ultralytics")) return name.substr(0, name.find(" backbone"));
  if (source.starts_with("pretrainedmodels")) return name;
  return "";
}

std::shared_ptr<Encoder> fixture_encoder(const json& fixture) {
  EncoderOptions options{.in_channels = fixture.at("input").at(1)};
  if (fixture.contains("/options/img_size"_json_pointer)) {
    const auto& size = fixture.at("options").at("img_size");
    options.img_size = Size2(size.at(0).get<int64_t>(), size.at(1).get<int64_t>());
  }
  return build_deepest_encoder(encoder_name(fixture), options);
}

void compare_encoder_state(Comparer& compare, const json& fixture, const Encoder& encoder) {
  const Value own = state_dict(encoder);
  const auto& items = own.as_dict();
  auto next = items.begin();
  Value whole = Value::dict();
  for (const auto& row : fixture.at("state").at("rows")) {
    const std::string name = row[0];
    if (begins_with_one(name, encoder.facts().classifier)) {
      const bool counter = row[2] == "int64";
      const auto like = torch::zeros(row[1].get<std::vector<int64_t>>(),
                                     counter ? torch::kLong : torch::kFloat32);
      const auto filled = weight_values(name, like, fixture.value("gain", 1.0));
      whole.set(name, Value(counter ? like : filled.to(torch::kFloat32)));
    } else if (next != items.end()) {
      whole.set(next->first.as_string(), next->second);
      ++next;
    }
  }
  for (; next != items.end(); ++next) whole.set(next->first.as_string(), next->second);
  compare_state(compare, fixture.at("state"), whole);
}

std::vector<torch::Tensor> fixture_maps(const json& fixture, Encoder& encoder,
                                        const torch::Tensor& x) {
  const auto& expected = fixture.at("features");
  // One pass, whichever way: in training each moves the running statistics.
  if (!expected.front().contains("name") || gives(encoder, expected)) {
    auto maps = encoder.forward(x);
    std::erase_if(maps, [&](const torch::Tensor& t) { return t.numel() == 0 || t.is_same(x); });
    // A fixture without names is of the last ones.
    maps.erase(maps.begin(), maps.end() - static_cast<std::ptrdiff_t>(expected.size()));
    return maps;
  }
  std::vector<std::string> names;
  for (const auto& map : expected) names.push_back(map.at("name"));
  return encoder.outputs_of(names, x);
}

void compare_features(Comparer& compare, const json& fixture, torch::nn::Module& module,
                      const std::function<std::vector<torch::Tensor>()>& features,
                      const std::vector<std::string>& classifier) {
  module.eval();
  {
    const torch::NoGradGuard no_grad;
    compare.tensors("features", features());
  }
  if (!fixture.contains("losses")) return;
  const auto before = copied_buffers(module);
  module.train();
  module.zero_grad();
  torch::Tensor loss = torch::zeros({}, torch::kFloat64);
  const auto maps = features();
  for (size_t k = 0; k < maps.size(); ++k) {
    const auto weight = uniform(text("output.", k), maps[k].numel()).view(maps[k].sizes());
    loss = loss + (weight.to(maps[k]) * maps[k].square()).mean();
  }
  compare.scalars({"losses"}, fixture.at("losses"), {{"weighted_square", loss.item<double>()}},
                  {1e-6, 1e-4}, 0);
  loss.backward();
  compare_gradients_and_buffers(compare, fixture, module, before, classifier);
}

Value state_without_annealing(Segmentor& model) {
  constexpr const char* kShares = "attn_mask_probs";
  {
    const torch::NoGradGuard no_grad;
    model.named_buffers()[kShares].fill_(1);
  }
  Value out = Value::dict();
  const Value whole = state_dict(model);
  for (const auto& [key, value] : whole.as_dict()) {
    if (key.as_string() != kShares) out.set(key.as_string(), value);
  }
  return out;
}

void compare_queries(Comparer& compare, const json& fixture, Segmentor& model,
                     const torch::Tensor& x) {
  // In training, DINOv3's positions are stretched by numbers of a generator that has no formula.
  json expected = fixture;
  const auto rescale = fixture.value("options", json::object()).value("pos_embed_rescale", json(2));
  if (fixture.at("config") == "EomtDinov3" && !rescale.is_null()) expected.erase("losses");
  compare_features(compare, expected, model,
                   [&] {
                     auto out = model.extract_feat(x);
                     if (!model.is_training()) out.back() = resize(out.back(), map_size(x));
                     return out;
                   },
                   {});
  const torch::NoGradGuard no_grad;
  model.eval();
  compare.tensor("logits", model.encode_decode(x));
}

}  // namespace seg::reference
