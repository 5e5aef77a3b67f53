/// The operator segcore::attention: softmax(q k^T scale + bias) v without the matrix of
/// probabilities, and its gradients.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <tuple>

namespace seg {

struct ScoreOptions {
  double dropout = 0;           ///< probability that a probability becomes zero
  std::optional<double> scale;  ///< of products, 1 / sqrt(D) by default
};

/// As at::scaled_dot_product_attention, for any leading dimensions (heads, windows, batch).
/// Floats on CPUs with AVX2 have a kernel of ours where D and E are multiples of 16 and nothing
/// is dropped, outside of autocast; all else is LibTorch's. A row is zero whose keys are all
/// masked.
/// \param q  [..., heads, L, D]. \param k  [..., heads, S, D]. \param v  [..., heads, S, E].
/// \param mask  added to the products, or bool, true: attended to. Expands to [..., heads, L, S];
///              undefined: none. It may have a gradient.
/// \return [..., heads, L, E], in memory [..., L, heads, E] where the kernel serves it.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& mask = {}, const ScoreOptions& options = {});

/// The same with one head and nothing dropped or masked: pixels of maps attend to each other.
/// \param q  [N, L, D]. \param k  [N, S, D]. \param v  [N, S, E]. \return [N, L, E].
at::Tensor single_head_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 double scale);

/// q, k and v, each [N, heads, L, C / heads], of a linear layer's result [N, L, 3 C].
std::array<at::Tensor, 3> split_heads(const at::Tensor& qkv, int64_t heads);

/// Output, and log of the sum of e^score of each row, [..., L].
using AttentionResult = std::tuple<at::Tensor, at::Tensor>;
/// By q, k, v and by the bias (undefined where it is not wanted).
using AttentionDerivatives = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// --- The definitions by ATen operators, for all that has no other kernel ------------------------

/// \param bias  as many dimensions as q, the leading ones of its size or 1.
AttentionResult composed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const std::optional<at::Tensor>& bias, double scale);
/// \param out, log_sums  as of the forward pass.
AttentionDerivatives composed_attention_backward(const at::Tensor& grad, const at::Tensor& q,
                                                 const at::Tensor& k, const at::Tensor& v,
                                                 const std::optional<at::Tensor>& bias,
                                                 const at::Tensor& out, const at::Tensor& log_sums,
                                                 double scale, bool with_bias);
/// Whether the CPU's kernel serves it.
bool has_attention_kernel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const std::optional<at::Tensor>& bias);

}  // namespace seg
