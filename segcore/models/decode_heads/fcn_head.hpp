/// Plain convolutions, and the base of heads that put one module between them.
#pragma once
#include <typeinfo>

#include "segcore/models/decode_heads/head_conv.hpp"

namespace seg {

struct FCNHeadParams : DecodeHeadParams {
  int64_t num_convs = 2;
  int64_t kernel_size = 3;
  bool concat_input = true;
  int64_t dilation = 1;
};

/// Fully convolutional network, Long et al. 2014, arXiv:1411.4038.
class FCNHead : public DecodeHead {
 public:
  using Params = FCNHeadParams;
  /// All options, for heads that derive from this one.
  /// \param with_num_convs  false where the head fixes it.
  static Schema<Params> options(bool with_num_convs = true);
  static Schema<Params> schema();
  FCNHead(const Params& p, const std::vector<FeatureInfo>& inputs);
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override;
  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features) override;

 protected:
  /// Not of heads that derive from it, which may have another loss.
  bool learns_from_output() const override { return typeid(*this) == typeid(FCNHead); }
  /// For heads that fill convs_ and conv_cat_ themselves.
  struct OwnConvs {};
  FCNHead(const Params& p, const std::vector<FeatureInfo>& inputs, OwnConvs)
      : DecodeHead(p, inputs) {}
  std::shared_ptr<Layer> convs_;     ///< a Sequential, or an identity without convolutions
  std::shared_ptr<Layer> conv_cat_;  ///< with concat_input

 private:
  std::shared_ptr<ConvModule> first_;  ///< of convs_; null where there is none
};

/// An FCNHead of two convolutions with a module between them: the base of heads that compute
/// attention over all positions.
class MiddleModuleHead : public FCNHead {
 public:
  using FCNHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override;

 protected:
  /// \param p  whose num_convs has no effect.
  MiddleModuleHead(FCNHeadParams p, const std::vector<FeatureInfo>& inputs);
  virtual torch::Tensor middle(const torch::Tensor& x) = 0;
};

}  // namespace seg
