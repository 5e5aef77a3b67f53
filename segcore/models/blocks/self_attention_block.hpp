/// Attention between the positions of two maps.
#pragma once
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

struct SelfAttentionOptions {
  int64_t key_in_channels = 0, query_in_channels = 0;
  int64_t channels = 0;  ///< of keys and queries
  int64_t out_channels = 0;
  bool share_key_query = false;
  std::shared_ptr<Layer> query_downsample, key_downsample;  ///< may be null
  int64_t key_query_num_convs = 1, value_out_num_convs = 1;
  bool key_query_norm = false, value_out_norm = false;
  bool matmul_norm = true;  ///< scores are divided by the root of `channels`
  bool with_out = true;
  ConvCfg conv_cfg;
  NormCfg norm_cfg;
  ActCfg act_cfg = relu_cfg();
};

/// Scaled dot-product attention; children `key_project`, `query_project`, `value_project`,
/// `out_project`.
///
/// OCNet, Yuan and Wang 2018, arXiv:1809.00916.
class SelfAttentionBlock : public BaseModule {
 public:
  explicit SelfAttentionBlock(const SelfAttentionOptions& options);
  /// \param query  [N, query_in_channels, H, W]
  /// \param key  [N, key_in_channels, h, w]
  /// \return [N, out_channels, H, W], of the size of the downsampled query
  torch::Tensor forward(const torch::Tensor& query, const torch::Tensor& key);
  void init_weights() override;

 private:
  std::shared_ptr<Layer> project(int64_t in, int64_t out, int64_t count, bool norm) const;

  SelfAttentionOptions o_;
  std::shared_ptr<Layer> key_project_, query_project_, value_project_, out_project_;
};

}  // namespace seg
