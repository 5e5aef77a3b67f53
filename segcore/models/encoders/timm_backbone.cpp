#include <algorithm>
#include <regex>

#include "segcore/io/weights.hpp"
#include "segcore/models/encoders/encoder_backbone.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// The table's name of a model of timm; tags ("resnet50.a1_in1k") name weights.
std::string table_name(const std::string& model_name) {
  return "tu-" + model_name.substr(0, model_name.find('.'));
}

std::vector<std::string> timm_model_names() {
  std::vector<std::string> out;
  for (const auto& name : EncoderTable::instance().names()) {
    if (name.starts_with("tu-")) out.push_back(name.substr(3));
  }
  return out;
}

Check<std::string> one_of_timm_models() {
  return {[](const std::string& v) {
            if (EncoderTable::instance().find(table_name(v))) return std::string();
            const auto known = timm_model_names();
            return text("no model of timm is called '", v, "' here.", did_you_mean(v, known),
                        " Known: ", join(known, ", "));
          },
          {}};
}

/// The maps that timm counts, by their places among the encoder's: without the images and without
/// those that have no channels.
std::vector<size_t> timm_maps(const Encoder& encoder) {
  const auto maps = encoder.maps();
  std::vector<size_t> out;
  for (size_t i = encoder.facts().image_channels > 0 ? 0 : 1; i < maps.size(); ++i) {
    if (maps[i].channels > 0) out.push_back(i);
  }
  return out;
}

}  // namespace

struct TIMMBackboneParams {
  std::string model_name;
  bool features_only = true;
  bool pretrained = true;
  std::string checkpoint_path;
  int64_t in_channels = 3;
  std::optional<std::vector<int64_t>> out_indices;
  int64_t output_stride = 32;
  std::optional<Size2> img_size;
  double drop_path_rate = 0;
  InitCfg init_cfg;
};

/// A network of timm, as MMSegmentation wraps it: its tensors are below `timm_model`.
class TIMMBackbone final : public EncoderBackbone, public ChangesBeforeLoad {
 public:
  using Params = TIMMBackboneParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("A network of timm by its name.")
        .source("timm 1.0.31, Wightman 2019")
        .required("model_name", &P::model_name,
                  "the network as timm names it; a tag names weights (resnet50.a1_in1k)",
                  one_of_timm_models())
        .optional("features_only", &P::features_only, "give maps; must be true")
        .optional("pretrained", &P::pretrained, "start from the weights that timm publishes")
        .optional("checkpoint_path", &P::checkpoint_path, "a file of weights in their place")
        .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
        .optional("out_indices", &P::out_indices,
                  "which of timm's maps are given, finest first; null: all, and of plain "
                  "transformers the last three",
                  at_least(0))
        .optional("output_stride", &P::output_stride,
                  "stride that the network ends at: later stages are dilated", output_strides())
        .optional("img_size", &P::img_size,
                  "image size of the position embeddings of plain transformers; null: as published")
        .optional("drop_path_rate", &P::drop_path_rate, "stochastic depth of the last block",
                  in_range(0, 1))
        .optional("init_cfg", &P::init_cfg, "initialisation, after the network's own")
        .validate([](const P& p, Problems& problems) {
          if (!p.features_only) {
            problems.error("features_only", "must be true: heads take maps, not classes");
          }
          if (p.out_indices && p.out_indices->empty()) {
            problems.error("out_indices", "must not be empty");
          } else if (p.out_indices &&
                     !std::is_sorted(p.out_indices->begin(), p.out_indices->end())) {
            problems.error("out_indices", "must ascend");
          }
        });
  }

  explicit TIMMBackbone(const Params& p) : TIMMBackbone(p, network(p)) {}

  void init_weights() override {
    encoder().init_weights();
    apply_init_cfg();
  }

  /// timm's own `features_only` writes some names with an underscore: features_0 for features.0.
  void before_load(NamedTensors& weights) override {
    static const std::regex kFlat(R"(^timm_model\.([a-z]+)_(\d+)\.)");
    const auto own = named_parameters();
    for (auto& [name, tensor] : weights) {
      const auto dotted = std::regex_replace(name, kFlat, "timm_model.$1.$2.");
      if (dotted != name && own.find(name) == nullptr) name = dotted;
    }
  }

 private:
  struct Network {
    std::shared_ptr<Encoder> encoder;
    std::vector<size_t> given;
  };
  static constexpr std::ptrdiff_t kMapsOfPlainTransformers = 3;

  TIMMBackbone(const Params& p, const Network& network)
      : EncoderBackbone(p.init_cfg, network.encoder, network.given, "timm_model.") {
    register_module("timm_model", encoder().module());
  }

  /// The network, no deeper than its maps that are given.
  static Network network(const Params& p) {
    EncoderOptions options{.in_channels = p.in_channels,
                           .output_stride = p.output_stride,
                           .weights = weights(p),
                           .img_size = p.img_size,
                           .drop_path_rate = p.drop_path_rate};
    const std::string name = table_name(p.model_name);
    try {
      auto whole = build_deepest_encoder(name, options);
      auto given = given_maps(p, *whole);
      options.depth = static_cast<int64_t>(given.back());
      if (given.back() + 1 == whole->maps().size()) return {std::move(whole), std::move(given)};
      return {build_plain_encoder(name, options), std::move(given)};
    } catch (const OptionError& e) {
      // The encoder's errors name the options of other models.
      const bool other = e.option() == "encoder_weights" || e.option() == "encoder_name";
      throw OptionError(other ? "model_name" : e.option(), e.what());
    }
  }
  static std::optional<std::string> weights(const Params& p) {
    if (!p.checkpoint_path.empty()) return p.checkpoint_path;
    if (!p.pretrained) return std::nullopt;
    const size_t dot = p.model_name.find('.');
    return dot == std::string::npos ? "imagenet" : p.model_name.substr(dot + 1);
  }
  static std::vector<size_t> given_maps(const Params& p, const Encoder& encoder) {
    const auto counted = timm_maps(encoder);
    const auto maps = encoder.maps();
    if (!p.out_indices) {
      const bool plain = maps[counted.front()].stride == maps[counted.back()].stride;
      return {plain ? counted.end() - kMapsOfPlainTransformers : counted.begin(), counted.end()};
    }
    std::vector<size_t> out;
    for (const int64_t i : *p.out_indices) {
      if (i >= static_cast<int64_t>(counted.size())) {
        throw OptionError("out_indices", text("there is no map ", i, ": ", p.model_name, " has ",
                                              counted.size(), ", counted from 0"));
      }
      out.push_back(counted[static_cast<size_t>(i)]);
    }
    return out;
  }
};
SEG_REGISTER(Backbone, TIMMBackbone);

}  // namespace seg
