#include <algorithm>

#include "segcore/models/encoders/encoder_backbone.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct SmpEncoderParams {
  std::string name;
  int64_t depth = 5;
  std::optional<std::string> weights;
  int64_t in_channels = 3;
  int64_t output_stride = 32;
  std::vector<int64_t> out_indices{2, 3, 4, 5};
  std::optional<Size2> img_size;
  InitCfg init_cfg;
};

/// An encoder of segmentation_models_pytorch as a backbone.
///
/// The encoder's children are its own, so that their tensors keep the encoder's names.
class SmpEncoder final : public EncoderBackbone, public AdaptsPretrained {
 public:
  using Params = SmpEncoderParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("An encoder by its name, for any neck and head.")
        .required("name", &P::name, "the network, as encoder_name has it",
                  one_of(EncoderTable::instance().names()))
        .optional("depth", &P::depth, "halvings of the image", at_least(1))
        .optional("weights", &P::weights,
                  "published weights by name (imagenet), or a file; null: random ones")
        .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
        .optional("output_stride", &P::output_stride,
                  "stride that the encoder ends at: later stages are dilated", output_strides())
        .optional("out_indices", &P::out_indices,
                  "which maps are given, finest first; map i has the stride 2^i", at_least(0))
        .optional("img_size", &P::img_size,
                  "image size of the position embeddings of plain transformers; null: as published")
        .optional("init_cfg", &P::init_cfg, "initialisation; null: as the library's")
        .validate([](const P& p, Problems& problems) {
          if (p.out_indices.empty()) {
            problems.error("out_indices", "must not be empty");
            return;
          }
          if (!std::is_sorted(p.out_indices.begin(), p.out_indices.end())) {
            problems.error("out_indices", "must ascend");
          }
          const int64_t last = p.out_indices.back();
          if (last > p.depth) {
            problems.error("out_indices", text("there is no map ", last, " at depth ", p.depth));
          } else if (last < p.depth) {
            problems.error("depth", text("is ", p.depth, ", but the last map that is given is ",
                                         last, ": the layers after it would not be trained"));
          }
        });
  }

  explicit SmpEncoder(const Params& p)
      : EncoderBackbone(p.init_cfg, build(p), {p.out_indices.begin(), p.out_indices.end()},
                        p.name.starts_with("tu-") ? "model." : "") {
    const auto maps = static_cast<int64_t>(encoder().maps().size());
    for (const int64_t i : p.out_indices) {
      if (i < maps && encoder().maps()[static_cast<size_t>(i)].channels > 0) continue;
      throw OptionError("out_indices", text(p.name, " gives no map ", i));
    }
    for (const auto& child : encoder().named_children()) {
      register_module(child.key(), child.value());
    }
    for (const auto& rule : encoder().pretrained_rules()) {
      if (!init_cfg_) init_cfg_.emplace();
      init_cfg_->values.push_back(rule);
    }
  }

  void train(bool on = true) override {
    Backbone::train(on);
    encoder().train(on);
  }
  void init_weights() override {
    encoder().init_weights();
    apply_init_cfg();
  }
  void adapt_pretrained(Value& state) const override { encoder().adapt_pretrained(state); }
  std::vector<std::string> python_names() const override { return encoder().python_names(); }

 private:
  static std::shared_ptr<Encoder> build(const Params& p) {
    try {
      return build_encoder(p.name, {.in_channels = p.in_channels,
                                    .depth = p.depth,
                                    .output_stride = p.output_stride,
                                    .weights = p.weights,
                                    .img_size = p.img_size});
    } catch (const OptionError& e) {
      // The encoder's errors name the options of the library's models.
      throw OptionError(e.option() == "encoder_weights" ? "weights" : "name", e.what());
    }
  }
};
SEG_REGISTER(Backbone, SmpEncoder);

}  // namespace seg
