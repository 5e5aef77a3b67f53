/// Building blocks of the decoders of segmentation_models_pytorch.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg::smp {

/// The option `decoder_use_norm`: true or "batchnorm", false or "identity", "instancenorm", or one
/// of these as `type` of a mapping with the options of PyTorch's layer.
struct DecoderNorm {
  NormCfg cfg = norm_cfg_of("{type: BN}");
  std::string shown = "batchnorm";  ///< as it was written
};

/// Maps of an encoder in, one map out.
class Decoder : public BaseModule {
 public:
  /// \param features  what Encoder::forward gives, finest first.
  virtual torch::Tensor forward(const std::vector<torch::Tensor>& features) = 0;

 protected:
  /// Convolutions by Kaiming's uniform of the fan in, norms to 1.
  Decoder();
  /// \param init_cfg  nothing: as PyTorch's layers are made.
  explicit Decoder(InitCfg init_cfg) : BaseModule(std::move(init_cfg)) {}
};

/// A module without a forward pass, for the names of its children in the library.
class Names final : public BaseModule {};

std::shared_ptr<Layer> make_relu();
/// Averages a map to one value a channel, [N, C, 1, 1].
std::shared_ptr<Layer> make_global_pool();

/// Convolution, norm, ReLU; the map keeps its size. Without a norm the convolution has a bias.
std::shared_ptr<Sequential> conv_relu(int64_t in, int64_t out, int64_t kernel_size,
                                      const NormCfg& norm);

/// Pools a map and computes a factor between 0 and 1 for each channel: two convolutions, children
/// "1" and "3".
std::shared_ptr<Sequential> channel_gate(int64_t channels, int64_t reduced);

/// The option `decoder_attention_type`: "scse" squeezes and excites in channels and in space
/// (Roy et al. 2018, arXiv:1808.08127); nothing: the map is unchanged.
std::shared_ptr<Layer> make_attention(const std::optional<std::string>& type, int64_t channels);

/// Resizes, joins with a skip connection, convolves twice: the block of U-Net and U-Net++.
struct UpBlockOptions {
  int64_t in_channels = 0, skip_channels = 0, out_channels = 0;
  NormCfg norm;
  bool joins = true;  ///< with a skip connection, which may have no channels
  std::optional<std::string> attention;
  std::string interpolation = "nearest";
};

class UpBlock final : public BaseModule {
 public:
  explicit UpBlock(const UpBlockOptions& options);
  /// \param x     [N, in_channels, h, w]
  /// \param skip  [N, skip_channels, h', w'], undefined where the block does not join
  /// \param size  of the result; nothing: twice that of x.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& skip,
                        const std::optional<Size2>& size = std::nullopt);

 private:
  std::string interpolation_;
  std::shared_ptr<Layer> conv1_, attention1_, conv2_, attention2_;
};

/// Widths of the blocks of a decoder in the shape of a U-Net, coarsest first.
struct UpChannels {
  std::vector<int64_t> in, skip, out;
};
UpChannels up_channels(const std::vector<int64_t>& encoder_channels,
                       const std::vector<int64_t>& decoder_channels);

/// The values of options `decoder_interpolation`, and of `activation`.
const std::vector<std::string>& interpolation_modes();
const std::vector<std::string>& output_activations();
/// The function that `activation` names, over the channels of [N, C, ...].
torch::Tensor output_activation(const std::optional<std::string>& name, const torch::Tensor& x);

}  // namespace seg::smp

namespace seg {

template <>
struct Convert<smp::DecoderNorm> {
  static TypeDoc type();
  static std::optional<smp::DecoderNorm> from(const Config&, const std::string& path, Diagnostics&);
  static std::string show(const smp::DecoderNorm& value) { return value.shown; }
};

}  // namespace seg
