// A channel after the other, each with all its images: forward a pass for the statistics and one
// for the result, backward one for two sums and one for the gradients. LibTorch takes a pass more
// for each of the sum and the ReLU.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "segcore/ops/batch_norm_relu/batch_norm_relu.hpp"
#include "segcore/ops/cpu_vector.hpp"

namespace seg {
namespace {

using MaybeTensor = std::optional<at::Tensor>;

/// Values of a channel in one image; a few of them at a time stay in the first cache.
constexpr int64_t kChunk = 2048;

/// One channel: `images` runs of `size` values, `stride` apart.
struct ChannelRuns {
  int64_t images, size, stride;
};

struct StatisticsArguments {
  const float* x;
  ChannelRuns runs;
  double *mean, *squares;  ///< of deviations from the mean, summed
};

SEG_VECTOR_BODY double sum_of_chunk(const float* x, int64_t size) {
  vec::D8 sums{};
  int64_t i = 0;
  for (; i + vec::kLanes <= size; i += vec::kLanes) sums += vec::wide(vec::load(x + i));
  double out = vec::sum_of(sums);
  for (; i < size; ++i) out += x[i];
  return out;
}

SEG_VECTOR_BODY double squares_of_chunk(const float* x, int64_t size, double mean) {
  vec::D8 sums{};
  int64_t i = 0;
  for (; i + vec::kLanes <= size; i += vec::kLanes) {
    const vec::D8 apart = vec::wide(vec::load(x + i)) - mean;
    sums += apart * apart;
  }
  double out = vec::sum_of(sums);
  for (; i < size; ++i) out += (x[i] - mean) * (x[i] - mean);
  return out;
}

/// Chunks in two passes each, joined as Chan et al. 1979 do, so that nothing cancels.
SEG_VECTOR_BODY void statistics_body(const StatisticsArguments& a) {
  double mean = 0, squares = 0;
  int64_t count = 0;
  for (int64_t n = 0; n < a.runs.images; ++n) {
    const float* x = a.x + n * a.runs.stride;
    for (int64_t begin = 0; begin < a.runs.size; begin += kChunk) {
      const int64_t size = std::min(kChunk, a.runs.size - begin);
      const double chunk = sum_of_chunk(x + begin, size) / static_cast<double>(size);
      const double apart = chunk - mean;
      const auto share = static_cast<double>(size) / static_cast<double>(count + size);
      squares += squares_of_chunk(x + begin, size, chunk) +
                 apart * apart * static_cast<double>(count) * share;
      mean += apart * share;
      count += size;
    }
  }
  *a.mean = mean;
  *a.squares = squares;
}
SEG_VECTOR_KERNEL(channel_statistics, statistics_body, StatisticsArguments)

struct ApplyArguments {
  const float *x, *residual;  ///< the second may be null
  float* y;
  ChannelRuns runs;
  float scale, shift;
};

SEG_VECTOR_BODY void apply_body(const ApplyArguments& a) {
  for (int64_t n = 0; n < a.runs.images; ++n) {
    const float* x = a.x + n * a.runs.stride;
    const float* residual = a.residual ? a.residual + n * a.runs.stride : nullptr;
    float* y = a.y + n * a.runs.stride;
    int64_t i = 0;
    for (; i + vec::kLanes <= a.runs.size; i += vec::kLanes) {
      vec::F8 value = vec::load(x + i) * a.scale + a.shift;
      if (residual) value += vec::load(residual + i);
      // Not a number stays one, as in LibTorch.
      vec::store(y + i, value < 0.0F ? vec::F8{} : value);
    }
    for (; i < a.runs.size; ++i) {
      float value = x[i] * a.scale + a.shift;
      if (residual) value += residual[i];
      y[i] = value < 0.0F ? 0.0F : value;
    }
  }
}
SEG_VECTOR_KERNEL(apply_to_channel, apply_body, ApplyArguments)

struct SumsArguments {
  const float *gradient, *x, *y;
  ChannelRuns runs;
  double mean;
  double *sum, *product;  ///< of gradients that pass the ReLU; of them times x - mean
};

SEG_VECTOR_BODY void sums_body(const SumsArguments& a) {
  vec::D8 sums{}, products{};
  double sum = 0, product = 0;
  for (int64_t n = 0; n < a.runs.images; ++n) {
    const int64_t first = n * a.runs.stride;
    const float *g = a.gradient + first, *x = a.x + first, *y = a.y + first;
    int64_t i = 0;
    for (; i + vec::kLanes <= a.runs.size; i += vec::kLanes) {
      const vec::F8 through = vec::load(y + i) <= 0.0F ? vec::F8{} : vec::load(g + i);
      sums += vec::wide(through);
      products += vec::wide(through) * (vec::wide(vec::load(x + i)) - a.mean);
    }
    for (; i < a.runs.size; ++i) {
      const double through = y[i] <= 0.0F ? 0.0 : g[i];
      sum += through;
      product += through * (x[i] - a.mean);
    }
  }
  *a.sum = sum + vec::sum_of(sums);
  *a.product = product + vec::sum_of(products);
}
SEG_VECTOR_KERNEL(channel_sums, sums_body, SumsArguments)

struct GradientArguments {
  const float *gradient, *x, *y;
  float *by_x, *by_residual;  ///< the second may be null
  ChannelRuns runs;
  /// by_x = (gradient that passes the ReLU) * scale - (x - mean) * slope - offset
  float scale, mean, slope, offset;
};

SEG_VECTOR_BODY void gradient_body(const GradientArguments& a) {
  for (int64_t n = 0; n < a.runs.images; ++n) {
    const int64_t first = n * a.runs.stride;
    const float *g = a.gradient + first, *x = a.x + first, *y = a.y + first;
    float* by_x = a.by_x + first;
    float* by_residual = a.by_residual ? a.by_residual + first : nullptr;
    int64_t i = 0;
    for (; i + vec::kLanes <= a.runs.size; i += vec::kLanes) {
      const vec::F8 through = vec::load(y + i) <= 0.0F ? vec::F8{} : vec::load(g + i);
      if (by_residual) vec::store(by_residual + i, through);
      const vec::F8 centred = vec::load(x + i) - a.mean;
      vec::store(by_x + i, through * a.scale - centred * a.slope - a.offset);
    }
    for (; i < a.runs.size; ++i) {
      const float through = y[i] <= 0.0F ? 0.0F : g[i];
      if (by_residual) by_residual[i] = through;
      by_x[i] = through * a.scale - (x[i] - a.mean) * a.slope - a.offset;
    }
  }
}
SEG_VECTOR_KERNEL(channel_gradient, gradient_body, GradientArguments)

ChannelRuns runs_of(const at::Tensor& x) {
  const int64_t size = x.numel() / (x.size(0) * x.size(1));
  return {.images = x.size(0), .size = size, .stride = x.size(1) * size};
}

bool is_plain(const at::Tensor& x) { return x.scalar_type() == at::kFloat && x.is_contiguous(); }

bool is_plain(const MaybeTensor& x) { return !x || is_plain(*x); }

const float* data_of(const MaybeTensor& x) { return x ? x->const_data_ptr<float>() : nullptr; }

/// Calls `use` with each channel and where its runs begin, in several threads.
template <class Use>
void for_channels(const at::Tensor& x, const Use& use) {
  const ChannelRuns runs = runs_of(x);
  const int64_t values = std::max<int64_t>(1, runs.images * runs.size);
  const int64_t grain = std::max<int64_t>(1, at::internal::GRAIN_SIZE / values);
  at::parallel_for(0, x.size(1), grain, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) use(c, c * runs.size);
  });
}

/// The layouts that the kernels are for: float, dense, some values.
bool takes(const at::Tensor& x, const MaybeTensor& other, const MaybeTensor& weight) {
  return x.dim() >= 2 && x.numel() > 0 && is_plain(x) && is_plain(other) && is_plain(weight);
}

double values_a_channel(const at::Tensor& x) { return static_cast<double>(x.numel() / x.size(1)); }

BatchNormReluResult cpu_batch_norm_relu(const at::Tensor& x, const MaybeTensor& residual,
                                        const MaybeTensor& weight, const MaybeTensor& bias,
                                        const MaybeTensor& running_mean,
                                        const MaybeTensor& running_var, bool training,
                                        double momentum, double eps) {
  if (!takes(x, residual, weight) || (training && !is_plain(running_mean))) {
    return composed_batch_norm_relu(x, residual, weight, bias, running_mean, running_var, training,
                                    momentum, eps);
  }
  const ChannelRuns runs = runs_of(x);
  const double count = values_a_channel(x);
  const auto y = at::empty_like(x);
  const auto doubles = x.options().dtype(at::kDouble);
  const auto mean = training ? at::empty({x.size(1)}, doubles)
                             : running_mean->to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  const auto invstd =
      training ? at::empty({x.size(1)}, doubles) : (running_var->to(at::kDouble) + eps).rsqrt();
  const float *gain = data_of(weight), *shift = data_of(bias);
  const float *from = x.const_data_ptr<float>(), *added = data_of(residual);
  float* to = y.mutable_data_ptr<float>();
  auto *means = mean.mutable_data_ptr<double>(), *factors = invstd.mutable_data_ptr<double>();
  const bool keeps = training && running_mean;
  float* kept_mean = keeps ? running_mean->mutable_data_ptr<float>() : nullptr;
  float* kept_var = keeps ? running_var->mutable_data_ptr<float>() : nullptr;
  for_channels(x, [&](int64_t c, int64_t first) {
    if (training) {
      double squares = 0;
      channel_statistics({from + first, runs, &means[c], &squares});
      factors[c] = 1 / std::sqrt(squares / count + eps);
      if (keeps) {
        kept_mean[c] = static_cast<float>(momentum * means[c] + (1 - momentum) * kept_mean[c]);
        kept_var[c] =
            static_cast<float>(momentum * squares / (count - 1) + (1 - momentum) * kept_var[c]);
      }
    }
    const double scale = factors[c] * (gain ? gain[c] : 1.0F);
    apply_to_channel({from + first, added ? added + first : nullptr, to + first, runs,
                      static_cast<float>(scale),
                      static_cast<float>((shift ? shift[c] : 0.0F) - means[c] * scale)});
  });
  return {y, mean, invstd};
}

/// [2, C] of a channel after the other.
template <class Of>
at::Tensor two_a_channel(const at::Tensor& x, const Of& of) {
  const int64_t channels = x.size(1);
  const auto out = at::empty({2, channels}, x.options().dtype(at::kDouble));
  auto* values = out.mutable_data_ptr<double>();
  for_channels(x,
               [&](int64_t c, int64_t first) { of(c, first, &values[c], &values[channels + c]); });
  return out;
}

at::Tensor cpu_batch_norm_moments(const at::Tensor& x) {
  if (!takes(x, std::nullopt, std::nullopt)) return composed_batch_norm_moments(x);
  const ChannelRuns runs = runs_of(x);
  const double count = values_a_channel(x);
  const float* from = x.const_data_ptr<float>();
  return two_a_channel(x, [&](int64_t, int64_t first, double* mean, double* var) {
    channel_statistics({from + first, runs, mean, var});
    *var /= count;
  });
}

at::Tensor cpu_batch_norm_relu_sums(const at::Tensor& given, const at::Tensor& x,
                                    const at::Tensor& y, const at::Tensor& mean) {
  if (!takes(x, y, std::nullopt) || given.scalar_type() != at::kFloat) {
    return composed_batch_norm_relu_sums(given, x, y, mean);
  }
  const auto gradient = given.contiguous();
  const auto centre = mean.to(at::kDouble).contiguous();
  const ChannelRuns runs = runs_of(x);
  const float *g = gradient.const_data_ptr<float>(), *from = x.const_data_ptr<float>();
  const float* result = y.const_data_ptr<float>();
  const auto* means = centre.const_data_ptr<double>();
  return two_a_channel(x, [&](int64_t c, int64_t first, double* sum, double* product) {
    channel_sums({g + first, from + first, result + first, runs, means[c], sum, product});
  });
}

BatchNormReluGradients cpu_batch_norm_relu_backward(const at::Tensor& given, const at::Tensor& x,
                                                    const at::Tensor& y, const MaybeTensor& weight,
                                                    const at::Tensor& mean,
                                                    const at::Tensor& invstd, bool with_residual,
                                                    bool of_batch, const MaybeTensor& shared_sums,
                                                    int64_t shared_count) {
  if (!takes(x, y, weight) || given.scalar_type() != at::kFloat) {
    return composed_batch_norm_relu_backward(given, x, y, weight, mean, invstd, with_residual,
                                             of_batch, shared_sums, shared_count);
  }
  const auto gradient = given.contiguous();
  const auto centre = mean.to(at::kDouble).contiguous();
  const auto inverse = invstd.to(at::kDouble).contiguous();
  const auto shared = shared_sums ? shared_sums->contiguous() : at::Tensor();
  const ChannelRuns runs = runs_of(x);
  const int64_t channels = x.size(1);
  const auto by_x = at::empty_like(x);
  const auto by_residual = with_residual ? at::empty_like(x) : at::Tensor();
  at::Tensor by_weight, by_bias;
  if (weight && !shared_sums) {
    by_weight = at::empty({channels}, x.options());
    by_bias = at::empty({channels}, x.options());
  }
  const float* gain = data_of(weight);
  const float *g = gradient.const_data_ptr<float>(), *from = x.const_data_ptr<float>();
  const float* result = y.const_data_ptr<float>();
  const auto *means = centre.const_data_ptr<double>(), *factors = inverse.const_data_ptr<double>();
  const auto* of_all = shared_sums ? shared.const_data_ptr<double>() : nullptr;
  float* to = by_x.mutable_data_ptr<float>();
  float* to_residual = with_residual ? by_residual.mutable_data_ptr<float>() : nullptr;
  const double count = shared_sums ? static_cast<double>(shared_count) : values_a_channel(x);
  for_channels(x, [&](int64_t c, int64_t first) {
    double sum = 0, product = 0;
    if (of_all) {
      sum = of_all[c];
      product = of_all[channels + c];
    } else {
      channel_sums({g + first, from + first, result + first, runs, means[c], &sum, &product});
    }
    if (by_weight.defined()) {
      by_weight.mutable_data_ptr<float>()[c] = static_cast<float>(product * factors[c]);
      by_bias.mutable_data_ptr<float>()[c] = static_cast<float>(sum);
    }
    const double scale = factors[c] * (gain ? gain[c] : 1.0F);
    const bool follows = of_batch || of_all;
    const double slope = follows ? scale * factors[c] * factors[c] * product / count : 0;
    const double offset = follows ? scale * sum / count : 0;
    channel_gradient({g + first, from + first, result + first, to + first,
                      to_residual ? to_residual + first : nullptr, runs, static_cast<float>(scale),
                      static_cast<float>(means[c]), static_cast<float>(slope),
                      static_cast<float>(offset)});
  });
  return {by_x, by_residual, by_weight, by_bias};
}

}  // namespace

TORCH_LIBRARY_IMPL(segcore, CPU, m) {
  m.impl("batch_norm_relu", &cpu_batch_norm_relu);
  m.impl("batch_norm_relu_backward", &cpu_batch_norm_relu_backward);
  m.impl("batch_norm_moments", &cpu_batch_norm_moments);
  m.impl("batch_norm_relu_sums", &cpu_batch_norm_relu_sums);
}

}  // namespace seg
