#include <algorithm>

#include "segcore/models/backbone.hpp"
#include "segcore/models/smp/encoder.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct SmpEncoderParams {
  std::string name;
  int64_t depth = 5;
  std::optional<std::string> weights;
  int64_t in_channels = 3;
  int64_t output_stride = 32;
  std::vector<int64_t> out_indices{2, 3, 4, 5};
  InitCfg init_cfg;
};

/// An encoder of segmentation_models_pytorch as a backbone.
///
/// The encoder's children are its own, so that their tensors keep the encoder's names.
class SmpEncoder final : public Backbone, public AdaptsPretrained {
 public:
  using Params = SmpEncoderParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("An encoder of segmentation_models_pytorch, for any neck and head.")
        .source("segmentation_models_pytorch 0.6.0, Iakubovskii 2019")
        .required("name", &P::name, "the network, as encoder_name has it in the library",
                  one_of(Registry<smp::Encoder>::instance().names()))
        .optional("depth", &P::depth, "halvings of the image", in_range(1, 5))
        .optional("weights", &P::weights,
                  "published weights by name (imagenet), or a file; null: random ones")
        .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
        .optional("output_stride", &P::output_stride,
                  "stride that the encoder ends at: later stages are dilated", one_of_strides())
        .optional("out_indices", &P::out_indices,
                  "which maps are given, finest first; map i has the stride 2^i", at_least(0))
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
      : Backbone(p.init_cfg), encoder_(build(p)), out_indices_(p.out_indices) {
    for (const auto& child : encoder_->named_children()) {
      register_module(child.key(), child.value());
    }
    for (const auto& rule : encoder_->pretrained_rules()) {
      if (!init_cfg_) init_cfg_.emplace();
      init_cfg_->values.push_back(rule);
    }
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto maps = encoder_->forward(images);
    std::vector<torch::Tensor> out;
    for (const int64_t i : out_indices_) out.push_back(maps[static_cast<size_t>(i)]);
    return out;
  }
  std::vector<FeatureInfo> features() const override {
    std::vector<FeatureInfo> out;
    for (const int64_t i : out_indices_) {
      out.push_back({.channels = encoder_->out_channels()[static_cast<size_t>(i)],
                     .stride = std::min(int64_t{1} << i, encoder_->output_stride())});
    }
    return out;
  }
  void train(bool on = true) override {
    Backbone::train(on);
    encoder_->train(on);
  }
  void init_weights() override {
    encoder_->init_weights();
    apply_init_cfg();
  }
  void adapt_pretrained(Value& state) const override { encoder_->adapt_pretrained(state); }
  std::vector<std::string> python_names() const override { return encoder_->python_names(); }

 private:
  static Check<int64_t> one_of_strides() {
    return {[](const int64_t& v) {
              return v == 8 || v == 16 || v == 32 ? std::string()
                                                  : text("must be 8, 16 or 32, got ", v);
            },
            {}};
  }
  static std::shared_ptr<smp::Encoder> build(const Params& p) {
    try {
      return smp::build_encoder(p.name, {.in_channels = p.in_channels,
                                         .depth = p.depth,
                                         .output_stride = p.output_stride,
                                         .weights = p.weights});
    } catch (const OptionError& e) {
      // The encoder's errors name the options of the library's models.
      throw OptionError(e.option() == "encoder_weights" ? "weights" : "name", e.what());
    }
  }

  std::shared_ptr<smp::Encoder> encoder_;
  std::vector<int64_t> out_indices_;
};
SEG_REGISTER(Backbone, SmpEncoder);

}  // namespace seg
