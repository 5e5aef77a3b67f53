/// The interface of the encoders of segmentation_models_pytorch: classifiers without their
/// classifier, under torchvision's tensor names.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "segcore/models/nn/base_module.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"

namespace seg::smp {

/// What a model requires of its encoder.
struct EncoderOptions {
  int64_t in_channels = 3;
  int64_t depth = 5;           ///< number of halvings
  int64_t output_stride = 32;  ///< stages beyond it are dilated instead of strided
  /// Published weights by their name ("imagenet"), or a file of weights; nothing: random ones.
  std::optional<std::string> weights;
};

/// Weights that the library publishes for an encoder.
struct EncoderWeights {
  const char* name;      ///< "imagenet"
  const char* revision;  ///< commit of their repository
};

/// Makes maps of 1/2, 1/4, ... of the images' size, and the first one at their own size.
class Encoder : public BaseModule, public AdaptsPretrained {
 public:
  /// \param images  float [N, in_channels, H, W].
  /// \return depth + 1 maps [N, out_channels[i], ceil(H / 2^i), ceil(W / 2^i)], the first the
  ///         images themselves (VGG: what it makes at their size); dilated stages keep the size.
  virtual std::vector<torch::Tensor> forward(const torch::Tensor& images) = 0;
  /// Widths of the depth + 1 maps.
  const std::vector<int64_t>& out_channels() const { return out_channels_; }
  /// Of the last map.
  int64_t output_stride() const;
  /// Kaiming's normal by the fan out; norms to 1; then published weights.
  void init_weights() override;
  /// Leaves out the classifier, and fits the first convolution to in_channels: one band takes the
  /// sum over the three of the weights, others repeat them in order, times 3 / in_channels.
  void adapt_pretrained(Value& state) const override;
  std::vector<std::string> python_names() const override { return {name_}; }
  /// What a model registers as its encoder.
  virtual std::shared_ptr<BaseModule> module() {
    return std::static_pointer_cast<BaseModule>(shared_from_this());
  }

 protected:
  /// \param name          as `encoder_name` has it.
  /// \param out_channels  widths of all six maps, for three bands.
  /// \throws OptionError where it lacks the depth or the weights.
  Encoder(std::string name, const EncoderOptions& options, std::vector<int64_t> out_channels,
          const std::vector<EncoderWeights>& published);
  int64_t depth() const { return options_.depth; }
  int64_t in_channels() const { return options_.in_channels; }
  /// Of the convolutions of a stage that would end at this stride; 1: the stage strides.
  int64_t dilation_of(int64_t stage_stride) const;
  /// Encoders register the convolution that sees the images, and its name, with this.
  void set_first_conv(const std::string& name, std::shared_ptr<Conv2d> conv);

 private:
  std::string name_;
  EncoderOptions options_;
  std::vector<int64_t> out_channels_;
  std::string weights_address_;  ///< "" for random weights
  std::string first_conv_name_;
  std::shared_ptr<Conv2d> first_conv_;
};

/// Builds the encoder of a name.
/// \throws OptionError where the encoder lacks the depth, the weights or the dilation.
std::shared_ptr<Encoder> build_encoder(const std::string& name, const EncoderOptions& options);

/// Modules that stay in the state dict but that no map depends on: they are not trained, so that
/// neither an optimiser nor other processes wait for their gradients.
void leave_untrained(torch::nn::Module& module);

/// Registered variant of an encoder class that is made from a constant: E(kKind, options).
template <class E, const auto& kKind>
class EncoderOf final : public E {
 public:
  using Params = NoParams;
  static Schema<Params> schema() { return Schema<Params>(E::summary(kKind)).source(E::kSource); }
  EncoderOf(const Params&, const EncoderOptions& options) : E(kKind, options) {}
};

}  // namespace seg::smp

namespace seg {

/// The option `encoder_name`: a new encoder is a class with SEG_REGISTER_AS(smp::Encoder, X, "x").
template <>
struct Category<smp::Encoder> {
  static constexpr std::string_view name = "encoder";
  using Signature = std::shared_ptr<smp::Encoder>(const smp::EncoderOptions&);
};

}  // namespace seg
