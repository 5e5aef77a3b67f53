/// Normalisation layers, built from a `norm_cfg`. A new one is a class with SEG_REGISTER(Norm, X).
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Normalises over some dimensions and scales each channel.
class Norm : public Layer {
 public:
  /// The name of a ConvModule's child: "bn", "gn", "ln", "in".
  virtual std::string abbreviation() const = 0;
  /// The result plus the residual (undefined: nothing), without what is below zero. In one pass
  /// where the norm can.
  virtual torch::Tensor forward_relu(const torch::Tensor& x, const torch::Tensor& residual = {});
  /// Whether it keeps running statistics of batches, which `norm_eval` freezes.
  virtual bool is_batch_norm() const { return false; }
  torch::Tensor weight;  ///< [channels], or undefined
  torch::Tensor bias;    ///< [channels], or undefined

 protected:
  void register_affine(int64_t channels, bool requires_grad);
};

template <>
struct Category<Norm> {
  static constexpr std::string_view name = "norm";
  using Signature = std::shared_ptr<Norm>(int64_t channels);
};

/// The option `norm_cfg`; null for none.
using NormCfg = std::optional<Spec<Norm>>;

/// norm_cfg_of("{type: LN, eps: 1e-6}"), for defaults.
NormCfg norm_cfg_of(const std::string& yaml);

/// Builds a norm and registers it as child `<abbreviation><postfix>` of `parent` ("bn1").
std::shared_ptr<Norm> register_norm(torch::nn::Module& parent, const Spec<Norm>& cfg,
                                    int64_t channels, const std::string& postfix = "");

/// Whether a module is a norm, which `norm_decay_mult` selects.
bool is_norm(const torch::nn::Module& module);
/// Puts all batch norms below `root` into evaluation mode (`norm_eval`).
void freeze_batch_norms(torch::nn::Module& root);

}  // namespace seg
