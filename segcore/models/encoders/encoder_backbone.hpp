/// Encoders as backbones, for MMSegmentation's necks and heads.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "registry/schema.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/encoders/encoder.hpp"

namespace seg {

/// The values of `output_stride`.
inline Check<int64_t> output_strides() {
  return {[](const int64_t& v) {
            return v == 8 || v == 16 || v == 32 ? std::string()
                                                : text("must be 8, 16 or 32, got ", v);
          },
          {}};
}

/// The chosen maps of an encoder.
class EncoderBackbone : public Backbone {
 public:
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto maps = encoder_->forward(images);
    std::vector<torch::Tensor> out;
    for (const size_t i : given_) out.push_back(maps[i]);
    return out;
  }
  std::vector<FeatureInfo> features() const override {
    const auto maps = encoder_->maps();
    std::vector<FeatureInfo> out;
    for (const size_t i : given_) out.push_back(maps[i]);
    return out;
  }
  LayerOrder layer_order() const override { return encoder_->layer_order(child_); }

 protected:
  /// \param given  which of the encoder's maps.
  /// \param child  what precedes the encoder's names: "timm_model.".
  EncoderBackbone(InitCfg init_cfg, std::shared_ptr<Encoder> encoder, std::vector<size_t> given,
                  std::string child)
      : Backbone(std::move(init_cfg)),
        encoder_(std::move(encoder)),
        given_(std::move(given)),
        child_(std::move(child)) {}
  Encoder& encoder() const { return *encoder_; }

 private:
  std::shared_ptr<Encoder> encoder_;
  std::vector<size_t> given_;
  std::string child_;
};

}  // namespace seg
