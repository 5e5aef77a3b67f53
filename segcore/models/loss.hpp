/// The interface of losses on logits.
#pragma once
#include <torch/nn/module.h>

#include <string>

#include "registry/registry.hpp"

namespace seg {

/// A training objective of a decode head.
class Loss : public torch::nn::Module {
 public:
  /// \param logits  float [N, C, H, W], already at the size of the labels.
  /// \param labels  int64 [N, H, W].
  /// \param weight  float [N, H, W] of a pixel sampler, or undefined.
  /// \param ignore_index  label without loss.
  /// \return a scalar, times the loss's own weight.
  virtual torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                                const torch::Tensor& weight, int64_t ignore_index) = 0;
  /// Name in the log ("loss_ce"); losses of one name add up.
  virtual const std::string& loss_name() const = 0;
};

template <>
struct Category<Loss> {
  static constexpr std::string_view name = "loss";
  using Signature = std::shared_ptr<Loss>();
};

}  // namespace seg
