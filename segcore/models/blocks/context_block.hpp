/// The global context block.
#pragma once
#include "segcore/models/blocks/plugin.hpp"
#include "segcore/models/nn/conv.hpp"

namespace seg {

struct ContextBlockOptions {
  double ratio = 0.25;
  std::string pooling_type = "att";  ///< "att" or "avg"
  std::vector<std::string> fusion_types{"channel_add"};
};

/// Pools a map, convolves the result twice, and adds it to each channel or multiplies them with it:
/// children `conv_mask`, `channel_add_conv`, `channel_mul_conv`.
///
/// GCNet, Cao et al. 2019, arXiv:1904.11492.
class ContextBlock final : public PluginLayer {
 public:
  struct Params : ContextBlockOptions, PluginParams {};
  static Schema<Params> schema();
  ContextBlock(const Params& p, int64_t in_channels) : ContextBlock(in_channels, p) {
    postfix_ = p.postfix;
  }
  ContextBlock(int64_t in_channels, const ContextBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;
  void init_weights() override;
  std::string child_name() const override { return "context_block" + postfix_; }

 private:
  std::string postfix_;
  std::shared_ptr<Conv2d> conv_mask_;  ///< null for average pooling
  std::shared_ptr<Sequential> channel_add_conv_, channel_mul_conv_;
};

}  // namespace seg
