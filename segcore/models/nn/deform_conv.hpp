/// Convolutions that learn where to look.
#pragma once
#include "segcore/models/nn/conv.hpp"

namespace seg {

struct DeformConvParams {
  int64_t deform_groups = 1;
};

/// A convolution whose taps are moved by offsets that a convolution of the same size, the child
/// `conv_offset`, computes from the input. It begins with offsets of 0, as a plain convolution.
///
/// Dai et al. 2017, arXiv:1703.06211; names and order of the channels as mmcv 2.1's DCN.
class DeformConv2d : public Conv2d {
 public:
  using Params = DeformConvParams;
  static Schema<Params> schema();
  /// \throws OptionError for a bias, which it has not.
  DeformConv2d(const Params& p, const ConvOptions& o);
  torch::Tensor forward(const torch::Tensor& x) override;
  /// Keeps the rules of the network for the weights, and the offsets at 0.
  void init_weights() override;
  std::vector<std::string> python_names() const override {
    return {"DeformConv2dPack", "DeformConv2d"};
  }

 protected:
  /// \param numbers  that `conv_offset` gives for each tap.
  DeformConv2d(const Params& p, const ConvOptions& o, int64_t numbers);
  static Schema<Params> schema_of(const std::string& summary, const std::string& source);
  /// \param factors  of the taps; undefined: 1.
  torch::Tensor convolve(const torch::Tensor& x, const torch::Tensor& offsets,
                         const torch::Tensor& factors);

  std::shared_ptr<Conv2d> conv_offset_;

 private:
  int64_t deform_groups_;
};

/// The same with a factor for each tap, which `conv_offset` computes beside its offsets. It begins
/// as a convolution with half of its weights: offsets 0, factors sigmoid(0).
///
/// Zhu et al. 2018, arXiv:1811.11168; names and order of the channels as mmcv 2.1's DCNv2.
class ModulatedDeformConv2d final : public DeformConv2d {
 public:
  static Schema<Params> schema();
  ModulatedDeformConv2d(const Params& p, const ConvOptions& o);
  torch::Tensor forward(const torch::Tensor& x) override;
  std::vector<std::string> python_names() const override {
    return {"ModulatedDeformConv2dPack", "ModulatedDeformConv2d"};
  }
};

/// The values of a map at places between its pixels; 0 outside.
/// \param x        float [N, C, H, W].
/// \param offsets  float [N, groups * 2 * taps, H', W']: y and x of each tap, in pixels.
/// \param factors  float [N, groups * taps, H', W'], or undefined.
/// \return [N, C, taps, H', W'].
torch::Tensor deformed_taps(const torch::Tensor& x, const torch::Tensor& offsets,
                            const torch::Tensor& factors, const ConvOptions& conv,
                            int64_t deform_groups);

}  // namespace seg
