/// Attention of every position to every other, add a shortcut.
#pragma once
#include "segcore/models/blocks/plugin.hpp"
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

struct NonLocalOptions {
  int64_t reduction = 2;
  bool use_scale = true;
  ConvCfg conv_cfg;
  NormCfg norm_cfg;
  /// "gaussian", "embedded_gaussian", "dot_product" or "concatenation".
  std::string mode = "embedded_gaussian";
  bool sub_sample = false;  ///< keys and values are pooled by 2
  bool zeros_init = true;
};

/// mmcv's NonLocal2d: children `g`, `conv_out`, `theta`, `phi`, `concat_project`.
///
/// Wang et al. 2017, arXiv:1711.07971.
class NonLocal2d : public PluginLayer {
 public:
  struct Params : NonLocalOptions, PluginParams {};
  static Schema<Params> schema();
  NonLocal2d(const Params& p, int64_t in_channels) : NonLocal2d(in_channels, p) {
    postfix_ = p.postfix;
  }
  NonLocal2d(int64_t in_channels, const NonLocalOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;
  void init_weights() override;
  std::string child_name() const override { return "nonlocal_block" + postfix_; }

 protected:
  struct Parts {
    torch::Tensor value;  ///< [N, h*w, inner]
    torch::Tensor theta, phi;
  };
  /// Weights that no softmax makes, [N, H*W, h*w].
  torch::Tensor plain_weights(const Parts& p);
  Parts parts(const torch::Tensor& x);
  /// Of each position, the values of all weighted, [N, inner, H*W].
  torch::Tensor attend(const Parts& p);

  NonLocalOptions o_;
  int64_t inner_;
  double temperature_ = 1;
  std::shared_ptr<Layer> g_, phi_;
  std::shared_ptr<ConvModule> conv_out_, theta_, concat_project_;

 private:
  std::string postfix_;
};

/// Subtracts means before it compares positions, and adds a term common to all of them.
///
/// Yin et al. 2020, arXiv:2006.06668.
class DisentangledNonLocal2d final : public NonLocal2d {
 public:
  DisentangledNonLocal2d(int64_t in_channels, const NonLocalOptions& options, double temperature);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<Conv2d> conv_mask_;
};

}  // namespace seg
