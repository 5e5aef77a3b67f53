#include "segcore/testing/reference.hpp"

#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "registry/registry.hpp"
#include "registry/yaml.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/json_text.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_encoder.hpp"
#include "segcore/testing/reference_model.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"

namespace seg::reference {

using nlohmann::json;

namespace {

/// Floating point tensors alone: Module::to would turn counters and indices into fractions, too.
void set_precision(torch::nn::Module& model, torch::ScalarType type) {
  torch::NoGradGuard no_grad;
  for (auto& parameter : model.parameters()) parameter.set_data(parameter.to(type));
  for (auto& buffer : model.buffers()) {
    if (buffer.is_floating_point()) buffer.set_data(buffer.to(type));
  }
}

bool is_smp(const json& fixture) {
  return fixture.at("source").get<std::string>().starts_with("segmentation_models_pytorch");
}

/// A model of torchvision for segmentation.
bool is_torchvision(const json& fixture) {
  return fixture.contains("classes") &&
         fixture.at("source").get<std::string>().starts_with("torchvision");
}

/// The options of a type of models, of torchvision's name of a builder: "fcn_resnet50".
json torchvision_model(const json& fixture) {
  const std::string builder = fixture.at("config");
  const size_t end = builder.find('_');
  const std::map<std::string, std::string> types{{"fcn", "TorchvisionFCN"},
                                                 {"deeplabv3", "TorchvisionDeepLabV3"},
                                                 {"lraspp", "TorchvisionLRASPP"}};
  json model = fixture.value("options", json::object());
  const auto type = types.find(builder.substr(0, end));
  model["type"] = type == types.end() ? builder : type->second;
  model["backbone"] = end == std::string::npos ? "" : builder.substr(end + 1);
  model["weights_backbone"] = nullptr;
  model["num_classes"] = fixture.at("classes");
  return model;
}

/// EoMT, the one model of transformers here.
bool is_transformers(const json& fixture) {
  return fixture.at("source").get<std::string>().starts_with("transformers");
}

}  // namespace

Fixture::Fixture(const std::string& path) : path_(path) {
  json parsed = parse_json(read_file_bytes(path), path);
  if (!parsed.is_object()) throw DataError(seg::text(path, ": is no fixture: it is no object"));
  for (const char* key : {"source", "config", "input", "state", "float32_error"}) {
    if (!parsed.contains(key)) {
      throw DataError(seg::text(path, ": is no fixture: it has no '", key, "'"));
    }
  }
  json_ = std::make_shared<const json>(std::move(parsed));
}

Config Fixture::model() const {
  try {
    json model;
    if (json_->contains("model")) {
      model = json_->at("model");
    } else if (is_smp(*json_)) {
      const std::string config = json_->at("config");
      const size_t slash = config.find('/');
      model["type"] = config.substr(0, slash);
      model["encoder_name"] = slash == std::string::npos ? "" : config.substr(slash + 1);
      model["encoder_weights"] = nullptr;
      model["classes"] = json_->at("classes");
      model["in_channels"] = json_->at("input").at(1);
      if (const auto it = json_->find("options"); it != json_->end()) model.update(*it);
    } else if (is_torchvision(*json_)) {
      model = torchvision_model(*json_);
    } else if (is_transformers(*json_)) {
      model = json_->value("options", json::object());
      model["type"] = "EoMT";
      model["encoder"] = json_->at("config") == "EomtDinov3" ? "dinov3" : "dinov2";
    } else {
      throw DataError(seg::text(path_, ": has no 'model', and models of ",
                                json_->at("source").get<std::string>(),
                                " cannot be built from their name"));
    }
    return parse_config(model.dump(), path_);
  } catch (const json::exception& e) {
    throw DataError(seg::text(path_, ": is no fixture: ", e.what()));
  }
}

std::string Fixture::not_there_yet() const {
  if (const std::string name = encoder_name(*json_); !name.empty()) {
    return EncoderTable::instance().find(name) ? ""
                                               : seg::text("no encoder is called '", name, "'");
  }
  if (!json_->contains("model") && !is_smp(*json_) && !is_torchvision(*json_) &&
      !is_transformers(*json_)) {
    return seg::text("models of ", json_->at("source").get<std::string>());
  }
  const Config config = model();
  if (const auto* encoder = config.find("encoder_name");
      encoder && !EncoderTable::instance().find(encoder->value.scalar)) {
    return seg::text("no encoder is called '", encoder->value.scalar, "'");
  }
  Diagnostics problems;
  Spec<Segmentor>::parse(config, "model", problems);
  for (const auto& problem : problems.list()) {
    if (problem.message.starts_with("no ") &&
        problem.message.find(" is called '") != std::string::npos) {
      return problem.message.substr(0, problem.message.find("'.") + 1);
    }
  }
  return {};
}

Comparison Fixture::compare(bool single, const std::optional<Config>& given,
                            c10::Device device) const {
  if (!given && !encoder_name(*json_).empty()) return compare_encoder(single, device);
  Diagnostics problems;
  const auto spec = Spec<Segmentor>::parse(given ? *given : model(), "model", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  const auto model = spec->build();
  try {
    const json& fixture = *json_;
    Comparer compare(fixture, single);
    fill(*model, fixture.value("gain", 1.0));
    const auto state =
        is_transformers(fixture) ? state_without_annealing(*model) : state_dict(*model);
    compare_state(compare, fixture.at("state"), state);
    if (!compare.out.holds()) return std::move(compare.out);
    const auto type = single ? torch::kFloat32 : torch::kFloat64;
    set_precision(*model, type);
    model->to(device);
    set_drop_probability(*model, 0);
    set_random_source(*model, random_numbers);
    const auto shape = fixture.at("input").get<std::vector<int64_t>>();
    const auto x = image(shape).to(device, type);
    if (is_transformers(fixture)) {
      compare_queries(compare, fixture, *model, x);
      return std::move(compare.out);
    }
    const bool smp = is_smp(fixture);
    compare_evaluation(compare, fixture, *model, x, smp);
    if (fixture.contains("losses")) {
      const std::vector<int64_t> size{shape.at(0), shape.at(2), shape.at(3)};
      Targets targets(torch::Tensor(), edges(size).to(device),
                      fixture.value("img_shapes", std::vector<std::array<int64_t, 2>>{}));
      if (spec->facts().estimates_depth) {
        targets.depth = depth(size).to(device, type);
      } else {
        const bool ignored = !fixture.contains("labels");
        targets.labels = labels(size, fixture.at("classes"), ignored).to(device);
      }
      targets.categories = fixture.value("categories", std::vector<int64_t>{});
      compare_training(compare, fixture, *model, x, targets, smp);
    }
    return std::move(compare.out);
  } catch (const json::exception& e) {
    throw DataError(seg::text(path_, ": is no fixture: ", e.what()));
  }
}

Comparison Fixture::compare_encoder(bool single, c10::Device device) const {
  try {
    const json& fixture = *json_;
    Comparer compare(fixture, single);
    const auto encoder = fixture_encoder(fixture);
    fill(*encoder, fixture.value("gain", 1.0));
    compare_encoder_state(compare, fixture, *encoder);
    if (!compare.out.holds()) return std::move(compare.out);
    const auto type = single ? torch::kFloat32 : torch::kFloat64;
    set_precision(*encoder, type);
    encoder->to(device);
    set_drop_probability(*encoder, 0);
    const auto x = image(fixture.at("input").get<std::vector<int64_t>>()).to(device, type);
    compare_features(
        compare, fixture, *encoder, [&] { return fixture_maps(fixture, *encoder, x); },
        encoder->facts().classifier);
    return std::move(compare.out);
  } catch (const json::exception& e) {
    throw DataError(seg::text(path_, ": is no fixture: ", e.what()));
  }
}

}  // namespace seg::reference
