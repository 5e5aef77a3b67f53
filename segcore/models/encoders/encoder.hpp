/// The interface of encoders: networks for the classification of images without their classifier,
/// under the tensor names of the library that published them.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "segcore/models/backbone.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"

namespace seg {

/// What a model requires of its encoder.
struct EncoderOptions {
  int64_t in_channels = 3;
  int64_t depth = 5;           ///< number of halvings
  int64_t output_stride = 32;  ///< stages beyond it are dilated instead of strided
  /// Published weights by their name ("imagenet"), or a file of weights; nothing: random ones.
  std::optional<std::string> weights;
  /// Of the position embeddings of plain transformers; nothing: as published. Others take any size.
  std::optional<Size2> img_size;
  double drop_path_rate = 0;  ///< stochastic depth of the last block, rising from 0 at the first
};

/// Weights that a library publishes for an encoder.
struct EncoderWeights {
  std::string name;     ///< "imagenet"
  std::string address;  ///< of the file
};

/// What an encoder is, for all its options.
struct EncoderFacts {
  std::string name;  ///< as `encoder_name` has it
  /// Widths of the maps at 1/2, 1/4, ... of the images' size; 0: it makes no map of that size.
  std::vector<int64_t> channels;
  int64_t image_channels = 0;  ///< of a map at the images' own size (VGG); 0: it makes none
  std::vector<EncoderWeights> published = {};  ///< the first is the default
  /// Beginnings of the names that weights of the whole classifier have besides, such as "fc.".
  std::vector<std::string> classifier = {"fc.", "classifier."};
  bool dilates = true;  ///< whether its strides can become dilations
  /// Whether each map is half of the one before: not where convolutions do not pad.
  bool halves = true;
  bool drops_paths = false;  ///< whether it has stochastic depth
  /// The `init_cfg` of random weights; kPyTorchInit: as PyTorch makes the layers.
  std::string init = kKaimingInit;

  static constexpr auto kKaimingInit =
      "[{type: Kaiming, layer: Conv2d}, "
      "{type: Constant, val: 1, layer: [_BatchNorm, GroupNorm]}]";
  static constexpr auto kPyTorchInit = "[]";
};

/// Makes maps of 1/2, 1/4, ... of the images' size, and the first one at their own size.
class Encoder : public BaseModule, public AdaptsPretrained {
 public:
  /// \param images  float [N, in_channels, H, W].
  /// \return a map [N, C_i, ~H/s_i, ~W/s_i] for each entry of maps(); one without channels where
  /// the
  ///         encoder makes no map of that size. Usually depth + 1 maps, the first the images
  ///         themselves (VGG: what it makes at their size); dilated stages keep the size.
  virtual std::vector<torch::Tensor> forward(const torch::Tensor& images) = 0;
  /// Widths and strides of what forward gives: strides 1, 2, 4, ..., but for plain transformers.
  virtual std::vector<FeatureInfo> maps() const;
  /// Widths of the maps.
  std::vector<int64_t> out_channels() const;
  /// Of the last map.
  int64_t output_stride() const;
  /// The order of its layers, for learning rates that shrink layer by layer; none where there is no
  /// natural one.
  virtual std::vector<StageNames> layers() const { return {}; }
  /// \param prefix  of the names, where the encoder is a child: "model.".
  LayerOrder layer_order(const std::string& prefix = "") const;
  /// As the facts say, usually Kaiming's normal by the fan out; then published weights.
  void init_weights() override;
  /// Leaves out the classifier, and fits the first convolution to in_channels: one band takes the
  /// sum over the three of the weights, others repeat them in order, times 3 / in_channels.
  void adapt_pretrained(Value& state) const override;
  std::vector<std::string> python_names() const override { return {facts_.name}; }
  const EncoderFacts& facts() const { return facts_; }
  /// Outputs of layers by their names, for models that take other maps (LR-ASPP) and for
  /// comparisons with Python. \throws Error for a name that no layer has.
  virtual std::vector<torch::Tensor> outputs_of(const std::vector<std::string>& names,
                                                const torch::Tensor& images);
  /// What a model registers as its encoder.
  virtual std::shared_ptr<BaseModule> module() {
    return std::static_pointer_cast<BaseModule>(shared_from_this());
  }

 protected:
  /// \throws OptionError where it lacks the depth, the weights, the output stride or the paths.
  Encoder(EncoderFacts facts, const EncoderOptions& options);
  int64_t depth() const { return options_.depth; }
  int64_t in_channels() const { return options_.in_channels; }
  double drop_path_rate() const { return options_.drop_path_rate; }
  /// Of the convolutions of a stage that would end at this stride; 1: the stage strides.
  int64_t dilation_of(int64_t stage_stride) const;
  /// Encoders register the convolution that sees the images, and its name, with this.
  void set_first_conv(const std::string& name, std::shared_ptr<Conv2d> conv);

 private:
  EncoderFacts facts_;
  EncoderOptions options_;
  std::string first_conv_name_;
  std::shared_ptr<Conv2d> first_conv_;
};

/// A map [N, 0, ceil(H / 2), ceil(W / 2)] for encoders that begin at a quarter of the images' size.
torch::Tensor empty_half(const torch::Tensor& images, const torch::Tensor& like);

/// Modules that stay in the state dict but that no map depends on: they are not trained, so that
/// neither an optimiser nor other processes wait for their gradients.
void leave_untrained(torch::nn::Module& module);

}  // namespace seg
