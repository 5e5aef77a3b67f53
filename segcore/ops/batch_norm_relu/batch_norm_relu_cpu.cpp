// The CPU's kernel: forward a pass for the statistics and one for the result, backward one for two
// sums and one for the gradients. LibTorch takes a pass more for each of the sum and the ReLU.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <cmath>
#include <optional>
#include <tuple>

#include "segcore/ops/batch_norm_relu/batch_norm_layout.hpp"
#include "segcore/ops/batch_norm_relu/batch_norm_relu.hpp"

namespace seg {
namespace {

using MaybeTensor = std::optional<at::Tensor>;

/// The format that the kernels take x in; none: it is not dense, not of floats or empty.
std::optional<at::MemoryFormat> format_of(const at::Tensor& x) {
  if (x.dim() < 2 || x.numel() == 0 || x.scalar_type() != at::kFloat) return std::nullopt;
  if (x.is_contiguous()) return at::MemoryFormat::Contiguous;
  for (const auto format : {at::MemoryFormat::ChannelsLast, at::MemoryFormat::ChannelsLast3d}) {
    const bool fits = x.dim() == (format == at::MemoryFormat::ChannelsLast ? 4 : 5);
    if (fits && x.is_contiguous(format)) return format;
  }
  return std::nullopt;
}

std::unique_ptr<BatchNormLayout> layout_of(const at::Tensor& x, at::MemoryFormat format) {
  return format == at::MemoryFormat::Contiguous ? batch_norm_planes(x) : batch_norm_rows(x);
}

bool is_floats(const MaybeTensor& x) {
  return !x || (x->scalar_type() == at::kFloat && x->is_contiguous());
}

MaybeTensor in_format(const MaybeTensor& x, at::MemoryFormat format) {
  return x ? MaybeTensor(x->contiguous(format)) : std::nullopt;
}

const float* data_of(const MaybeTensor& x) { return x ? x->const_data_ptr<float>() : nullptr; }

double values_a_channel(const at::Tensor& x) { return static_cast<double>(x.numel() / x.size(1)); }

NormScale scale_of_channel(int64_t c, const double* means, const double* factors, const float* gain,
                           const float* shift) {
  const double scale = factors[c] * (gain ? gain[c] : 1.0F);
  return {static_cast<float>(scale),
          static_cast<float>((shift ? shift[c] : 0.0F) - means[c] * scale)};
}

BatchNormReluResult cpu_batch_norm_relu(const at::Tensor& x, const MaybeTensor& given_residual,
                                        const MaybeTensor& weight, const MaybeTensor& bias,
                                        const MaybeTensor& running_mean,
                                        const MaybeTensor& running_var, bool training,
                                        double momentum, double eps) {
  if (!has_batch_norm_relu_kernel(x, given_residual, weight) ||
      (training && !is_floats(running_mean))) {
    return composed_batch_norm_relu(x, given_residual, weight, bias, running_mean, running_var,
                                    training, momentum, eps);
  }
  const auto format = format_of(x);
  const auto residual = in_format(given_residual, *format);
  const double count = values_a_channel(x);
  const auto y = at::empty_like(x);
  const auto doubles = x.options().dtype(at::kDouble);
  const auto mean = training ? at::empty({x.size(1)}, doubles)
                             : running_mean->to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  const auto invstd =
      training ? at::empty({x.size(1)}, doubles) : (running_var->to(at::kDouble) + eps).rsqrt();
  const float *gain = data_of(weight), *shift = data_of(bias);
  auto *means = mean.mutable_data_ptr<double>(), *factors = invstd.mutable_data_ptr<double>();
  const bool keeps = training && running_mean;
  float* kept_mean = keeps ? running_mean->mutable_data_ptr<float>() : nullptr;
  float* kept_var = keeps ? running_var->mutable_data_ptr<float>() : nullptr;
  const auto scale_of = [&](int64_t c) -> NormScale {
    if (training) {
      const double squares = factors[c];
      factors[c] = 1 / std::sqrt(squares / count + eps);
      if (keeps) {
        kept_mean[c] = static_cast<float>(momentum * means[c] + (1 - momentum) * kept_mean[c]);
        kept_var[c] =
            static_cast<float>(momentum * squares / (count - 1) + (1 - momentum) * kept_var[c]);
      }
    }
    return scale_of_channel(c, means, factors, gain, shift);
  };
  layout_of(x, *format)
      ->normalise(x.const_data_ptr<float>(), data_of(residual), y.mutable_data_ptr<float>(), means,
                  training ? factors : nullptr, scale_of);
  return {y, mean, invstd};
}

at::Tensor cpu_batch_norm_relu_again(const at::Tensor& x, const MaybeTensor& given_residual,
                                     const MaybeTensor& weight, const MaybeTensor& bias,
                                     const at::Tensor& mean, const at::Tensor& invstd) {
  if (!has_batch_norm_relu_kernel(x, given_residual, weight) || mean.scalar_type() != at::kDouble) {
    return composed_batch_norm_relu_again(x, given_residual, weight, bias, mean, invstd);
  }
  const auto format = format_of(x);
  const auto residual = in_format(given_residual, *format);
  const auto y = at::empty_like(x);
  const float *gain = data_of(weight), *shift = data_of(bias);
  auto* means = mean.mutable_data_ptr<double>();
  const auto* factors = invstd.const_data_ptr<double>();
  layout_of(x, *format)
      ->normalise(x.const_data_ptr<float>(), data_of(residual), y.mutable_data_ptr<float>(), means,
                  /*squares=*/nullptr,
                  [&](int64_t c) { return scale_of_channel(c, means, factors, gain, shift); });
  return y;
}

at::Tensor two_a_channel(const at::Tensor& x) {
  return at::empty({2, x.size(1)}, x.options().dtype(at::kDouble));
}

at::Tensor cpu_batch_norm_moments(const at::Tensor& x) {
  const auto format = format_of(x);
  if (!format) return composed_batch_norm_moments(x);
  const auto out = two_a_channel(x);
  auto* means = out.mutable_data_ptr<double>();
  layout_of(x, *format)->moments(x.const_data_ptr<float>(), means, means + x.size(1));
  out[1].div_(values_a_channel(x));
  return out;
}

at::Tensor cpu_batch_norm_relu_sums(const at::Tensor& given, const at::Tensor& x,
                                    const at::Tensor& y, const at::Tensor& mean) {
  const auto format = format_of(x);
  if (!format || given.scalar_type() != at::kFloat || y.scalar_type() != at::kFloat) {
    return composed_batch_norm_relu_sums(given, x, y, mean);
  }
  const auto gradient = given.contiguous(*format), result = y.contiguous(*format);
  const auto centre = mean.to(at::kDouble).contiguous();
  const auto out = two_a_channel(x);
  auto* sums = out.mutable_data_ptr<double>();
  layout_of(x, *format)
      ->sums({gradient.const_data_ptr<float>(), x.const_data_ptr<float>(),
              result.const_data_ptr<float>(), centre.const_data_ptr<double>()},
             sums, sums + x.size(1));
  return out;
}

BatchNormReluGradients cpu_batch_norm_relu_backward(const at::Tensor& given, const at::Tensor& x,
                                                    const at::Tensor& y, const MaybeTensor& weight,
                                                    const at::Tensor& mean,
                                                    const at::Tensor& invstd, bool with_residual,
                                                    bool of_batch, const MaybeTensor& shared_sums,
                                                    int64_t shared_count) {
  const auto format = format_of(x);
  if (!format || !is_floats(weight) || given.scalar_type() != at::kFloat ||
      y.scalar_type() != at::kFloat) {
    return composed_batch_norm_relu_backward(given, x, y, weight, mean, invstd, with_residual,
                                             of_batch, shared_sums, shared_count);
  }
  const auto gradient = given.contiguous(*format), result = y.contiguous(*format);
  const auto centre = mean.to(at::kDouble).contiguous();
  const auto inverse = invstd.to(at::kDouble).contiguous();
  const int64_t channels = x.size(1);
  const auto by_x = at::empty_like(x);
  const auto by_residual = with_residual ? at::empty_like(x) : at::Tensor();
  at::Tensor by_weight, by_bias;
  if (weight && !shared_sums) {
    by_weight = at::empty({channels}, x.options());
    by_bias = at::empty({channels}, x.options());
  }
  const float* gain = data_of(weight);
  const auto *means = centre.const_data_ptr<double>(), *factors = inverse.const_data_ptr<double>();
  const auto all_sums = shared_sums ? shared_sums->contiguous() : two_a_channel(x);
  auto* sums = all_sums.mutable_data_ptr<double>();
  auto* products = sums + channels;
  const double count = shared_sums ? static_cast<double>(shared_count) : values_a_channel(x);
  const bool follows = of_batch || shared_sums;
  const auto slopes_of = [&](int64_t c) -> NormSlopes {
    if (by_weight.defined()) {
      by_weight.mutable_data_ptr<float>()[c] = static_cast<float>(products[c] * factors[c]);
      by_bias.mutable_data_ptr<float>()[c] = static_cast<float>(sums[c]);
    }
    const double scale = factors[c] * (gain ? gain[c] : 1.0F);
    const double slope = follows ? scale * factors[c] * factors[c] * products[c] / count : 0;
    const double offset = follows ? scale * sums[c] / count : 0;
    return {static_cast<float>(scale), static_cast<float>(means[c]), static_cast<float>(slope),
            static_cast<float>(offset)};
  };
  layout_of(x, *format)
      ->gradients({gradient.const_data_ptr<float>(), x.const_data_ptr<float>(),
                   result.const_data_ptr<float>(), means},
                  sums, products, /*sum_first=*/!shared_sums, slopes_of,
                  by_x.mutable_data_ptr<float>(),
                  with_residual ? by_residual.mutable_data_ptr<float>() : nullptr);
  return {by_x, by_residual, by_weight, by_bias};
}

}  // namespace

bool has_batch_norm_relu_kernel(const at::Tensor& x, const MaybeTensor& residual,
                                const MaybeTensor& weight) {
  return x.is_cpu() && format_of(x) && is_floats(weight) &&
         (!residual || residual->scalar_type() == at::kFloat);
}

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("batch_norm_relu", &cpu_batch_norm_relu);
  m.impl("batch_norm_relu_again", &cpu_batch_norm_relu_again);
  m.impl("batch_norm_relu_backward", &cpu_batch_norm_relu_backward);
  m.impl("batch_norm_moments", &cpu_batch_norm_moments);
  m.impl("batch_norm_relu_sums", &cpu_batch_norm_relu_sums);
}

}  // namespace seg
