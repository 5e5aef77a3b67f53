#include "segcore/ops/attention/attention.hpp"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "registry/error.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using MaybeBias = std::optional<at::Tensor>;
using AttendSignature = AttentionResult(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                        const MaybeBias&, double);
using AttendBackwardSignature = AttentionDerivatives(const at::Tensor&, const at::Tensor&,
                                                     const at::Tensor&, const at::Tensor&,
                                                     const MaybeBias&, const at::Tensor&,
                                                     const at::Tensor&, double, bool);

AttentionResult call_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const MaybeBias& bias, double scale) {
  static const auto op = find_operator<AttendSignature>("segcore::attention");
  return op.call(q, k, v, bias, scale);
}

class AttentionFunction final : public torch::autograd::Function<AttentionFunction> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* ctx,
                                                const at::Tensor& q, const at::Tensor& k,
                                                const at::Tensor& v, const MaybeBias& bias,
                                                double scale) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [out, log_sums] = call_attention(q, k, v, bias, scale);
    ctx->save_for_backward({q, k, v, bias.value_or(at::Tensor()), out, log_sums});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["with_bias"] = bias && bias->requires_grad();
    ctx->mark_non_differentiable({log_sums});
    return {out, log_sums};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = find_operator<AttendBackwardSignature>("segcore::attention_backward");
    SEG_CHECK(!at::GradMode::is_enabled(), "attention has no second derivative");
    const auto saved = ctx->get_saved_variables();
    const auto [by_q, by_k, by_v, by_bias] =
        op.call(grads[0], saved[0], saved[1], saved[2], if_defined(saved[3]), saved[4], saved[5],
                ctx->saved_data["scale"].toDouble(), ctx->saved_data["with_bias"].toBool());
    return {by_q, by_k, by_v, by_bias, {}};
  }
};

AttentionResult differentiable_attention(const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v, const MaybeBias& bias, double scale) {
  const auto out = AttentionFunction::apply(q, k, v, bias, scale);
  return {out[0], out[1]};
}

at::Tensor attention_scores(const at::Tensor& q, const at::Tensor& k, const MaybeBias& bias,
                            double scale) {
  const auto scores = at::matmul(q, k.transpose(-1, -2)) * scale;
  return bias ? scores + *bias : scores;
}

/// A mask as the operator takes it: numbers to add, with as many dimensions as q.
at::Tensor bias_of(const at::Tensor& mask, const at::Tensor& q, const at::Tensor& k) {
  auto bias = mask;
  if (mask.scalar_type() == at::kBool) {
    bias = at::zeros(mask.sizes(), q.options())
               .masked_fill_(mask.logical_not(), -std::numeric_limits<double>::infinity());
  }
  while (bias.dim() < q.dim()) bias = bias.unsqueeze(0);
  auto shape = bias.sizes().vec();
  shape[shape.size() - 2] = q.size(-2);
  shape.back() = k.size(-2);
  return bias.expand(shape);
}

at::Tensor torch_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& mask, const ScoreOptions& options) {
  // Its kernels take four dimensions, and masks of two or four.
  const auto joined = [&](const at::Tensor& t) { return q.dim() > 4 ? t.flatten(0, -4) : t; };
  at::Tensor masks = mask;
  if (q.dim() > 4 && mask.defined() && mask.dim() > 3) {
    auto shape = q.sizes().vec();
    std::copy(mask.sizes().end() - 3, mask.sizes().end(), shape.end() - 3);
    masks = joined(mask.expand(shape));
  } else if (q.dim() >= 4 && mask.defined() && mask.dim() == 3) {
    masks = mask.unsqueeze(0);
  }
  const auto out =
      at::scaled_dot_product_attention(joined(q), joined(k), joined(v), if_defined(masks),
                                       options.dropout, /*is_causal=*/false, options.scale);
  return q.dim() > 4 ? out.unflatten(0, q.sizes().slice(0, q.sizes().size() - 3)) : out;
}

}  // namespace

AttentionResult composed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const MaybeBias& bias, double scale) {
  const auto scores = attention_scores(q, k, bias, scale);
  return {at::matmul(at::_safe_softmax(scores, -1), v), scores.logsumexp(-1)};
}

AttentionDerivatives composed_attention_backward(const at::Tensor& grad, const at::Tensor& q,
                                                 const at::Tensor& k, const at::Tensor& v,
                                                 const MaybeBias& bias, const at::Tensor& out,
                                                 const at::Tensor& /*log_sums*/, double scale,
                                                 bool with_bias) {
  const auto p = at::_safe_softmax(attention_scores(q, k, bias, scale), -1);
  const auto slopes = at::matmul(grad, v.transpose(-1, -2)) - (grad * out).sum(-1, true);
  const auto by_scores = p * slopes;
  return {at::matmul(by_scores, k) * scale, at::matmul(by_scores.transpose(-1, -2), q) * scale,
          at::matmul(p.transpose(-1, -2), grad),
          with_bias ? by_scores.sum_to_size(bias->sizes()) : at::Tensor()};
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& mask, const ScoreOptions& options) {
  if (options.dropout == 0 && !at::autocast::is_autocast_enabled(q.device().type()) &&
      has_attention_kernel(q, k, v, if_defined(mask))) {
    const double scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(q.size(-1))));
    const auto bias = mask.defined() ? bias_of(mask, q, k) : at::Tensor();
    return std::get<0>(call_attention(q, k, v, if_defined(bias), scale));
  }
  return torch_attention(q, k, v, mask, options);
}

at::Tensor single_head_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 double scale) {
  return attention(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), {}, {.scale = scale}).squeeze(1);
}

std::array<at::Tensor, 3> split_heads(const at::Tensor& qkv, int64_t heads) {
  // Gradients are stacked in this order.
  const auto parts = qkv.view({qkv.size(0), qkv.size(1), 3, heads, -1}).unbind(2);
  return {parts[0].transpose(1, 2), parts[1].transpose(1, 2), parts[2].transpose(1, 2)};
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "attention(Tensor q, Tensor k, Tensor v, Tensor? bias, float scale) -> "
      "(Tensor out, Tensor log_sums)");
  m.def(
      "attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor out, "
      "Tensor log_sums, float scale, bool with_bias) -> "
      "(Tensor by_q, Tensor by_k, Tensor by_v, Tensor by_bias)");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("attention", &composed_attention);
  m.impl("attention_backward", &composed_attention_backward);
}

TORCH_LIBRARY_IMPL(segcore, Autograd, m) { m.impl("attention", &differentiable_attention); }

}  // namespace seg
