/// Plain convolutions, and the base of heads that put one module between them.
#pragma once
#include "segcore/models/decode_head.hpp"
#include "segcore/models/layers/conv_module.hpp"

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
  /// All options, for heads that derive from this one; num_convs and dilation on request.
  static Schema<Params> options(bool with_num_convs = true);
  static Schema<Params> schema();
  FCNHead(const Params& p, const std::vector<FeatureInfo>& inputs);
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override;

 protected:
  /// A ConvModule with the head's types, padded to keep the size.
  std::shared_ptr<ConvModule> conv(int64_t in, int64_t out, int64_t kernel_size,
                                   int64_t dilation = 1) const;
  /// The map before the classifier.
  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features);

  std::shared_ptr<Layer> convs_;          ///< a Sequential, or an identity without convolutions
  std::shared_ptr<ConvModule> conv_cat_;  ///< with concat_input
};

}  // namespace seg
