#include <ATen/OpMathType.h>

#include "segcore/dist/communicator.hpp"
#include "segcore/models/nn/batch_norm.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/ops/batch_norm_relu/batch_norm_relu.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// [C] beside [N, C, ...]
at::Tensor per_channel(const at::Tensor& v, const at::Tensor& like) {
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape[1] = v.size(0);
  return v.view(shape);
}

/// Those of all processes, in float32 where the input is narrower.
struct SyncedStatistics {
  at::Tensor mean, var;  ///< [C]; biased
  at::Tensor count;      ///< [1], values per channel; stays on the device, since reading it would
                         ///< wait for all earlier layers
  at::Tensor unbiased_var() const { return var * (count / (count - 1).clamp_min(1)); }
};

/// In one message: each process sends its own mean, variance and count in a row of its own.
/// \param own_mean, own_var  of `values` values of this process, [C]; biased.
SyncedStatistics synced_statistics(const at::Tensor& own_mean, const at::Tensor& own_var,
                                   int64_t values, Communicator& communicator) {
  const int64_t channels = own_mean.size(0);
  auto rows = at::zeros({communicator.size(), 2 * channels + 1}, own_mean.options());
  const auto own = rows[communicator.rank()];
  own.narrow(0, 0, channels).copy_(own_mean);
  own.narrow(0, channels, channels).copy_(own_var);
  own.narrow(0, 2 * channels, 1).fill_(static_cast<double>(values));
  communicator.all_reduce_sum_(rows);
  const auto means = rows.narrow(1, 0, channels), vars = rows.narrow(1, channels, channels);
  const auto counts = rows.narrow(1, 2 * channels, 1);
  SyncedStatistics out;
  out.count = counts.sum(0);
  out.mean = (means * counts).sum(0) / out.count;
  // The spread of the processes' means besides their variances; sums of squares would cancel.
  out.var = ((vars + (means - out.mean).square()) * counts).sum(0) / out.count;
  return out;
}

/// By LibTorch's kernels, which all devices have.
SyncedStatistics synced_statistics(const at::Tensor& x, Communicator& communicator) {
  const at::NoGradGuard no_grad;
  const int64_t channels = x.size(1);
  const auto options = x.options().dtype(at::toOpMathType(x.scalar_type()));
  // LibTorch computes in the type of the running statistics; these are not kept.
  const auto [own_mean, own_var] = at::batch_norm_update_stats(
      x, at::zeros({channels}, options), at::zeros({channels}, options), /*momentum=*/0);
  return synced_statistics(own_mean, own_var, x.numel() / channels, communicator);
}

/// A process that recomputes a block alone must not wait for the others.
SyncedStatistics synced_once(const std::function<SyncedStatistics()>& synced) {
  const auto tensors = computed_once([&]() -> std::vector<at::Tensor> {
    const SyncedStatistics statistics = synced();
    return {statistics.mean, statistics.var, statistics.count};
  });
  return {.mean = tensors[0], .var = tensors[1], .count = tensors[2]};
}

/// (x - mean) / sqrt(var + eps) * weight + bias in one pass, in the type of x.
at::Tensor normalised(const at::Tensor& x, const SyncedStatistics& statistics, double eps,
                      const std::optional<at::Tensor>& weight,
                      const std::optional<at::Tensor>& bias) {
  return std::get<0>(at::native_batch_norm(x, weight, bias, statistics.mean, statistics.var,
                                           /*training=*/false, /*momentum=*/0, eps));
}

/// What the backward pass needs beside tensors. The run owns the communicator.
struct SyncedBackward : torch::CustomClassHolder {
  SyncedBackward(Communicator& c, double e) : communicator(c), eps(e) {}
  Communicator& communicator;
  double eps;
};

/// `normalised` with the gradient through the statistics of all processes.
class SyncedNormalisation : public torch::autograd::Function<SyncedNormalisation> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& weight,
                            const std::optional<at::Tensor>& bias,
                            const SyncedStatistics& statistics,
                            const c10::intrusive_ptr<SyncedBackward>& for_backward) {
    ctx->save_for_backward(
        {x, weight.value_or(at::Tensor()), statistics.mean, statistics.var, statistics.count});
    ctx->saved_data["for_backward"] = c10::IValue::make_capsule(for_backward);
    return normalised(x, statistics, for_backward->eps, weight, bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const SyncedStatistics statistics{saved[2], saved[3], saved[4]};
    const auto capsule = ctx->saved_data["for_backward"].toCapsule();
    const auto& whole = static_cast<const SyncedBackward&>(*capsule);
    const auto grad = grads[0].contiguous(x.suggest_memory_format());
    const int64_t channels = x.size(1);
    const auto inverse_std = (statistics.var + whole.eps).rsqrt();
    // Of this process: the sums of the gradient times the normalised input, and of the gradient.
    const auto [input, for_weight, for_bias] =
        at::native_batch_norm_backward(grad, x, {}, {}, {}, statistics.mean, inverse_std,
                                       /*train=*/true, whole.eps, {false, true, true});
    auto sums = at::cat({for_weight, for_bias});
    whole.communicator.all_reduce_sum_(sums);
    const auto means = sums / statistics.count;
    const auto scale = weight.defined() ? inverse_std * weight : inverse_std;
    // scale * (grad - mean(grad) - normal * mean(grad * normal)), all but its first term by the
    // pass that normalises
    auto out = normalised(x, statistics, whole.eps, -scale * means.narrow(0, 0, channels),
                          -scale * means.narrow(0, channels, channels));
    out.addcmul_(grad, per_channel(scale, grad));
    if (!weight.defined()) return {out, {}, {}, {}, {}};
    return {out, for_weight, for_bias, {}, {}};
  }
};

/// `batch_norm_relu` with the statistics of all processes, by its parts.
class SyncedNormRelu : public torch::autograd::Function<SyncedNormRelu> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& residual,
                            const std::optional<at::Tensor>& weight,
                            const std::optional<at::Tensor>& bias,
                            const SyncedStatistics& statistics,
                            const c10::intrusive_ptr<SyncedBackward>& for_backward,
                            bool recomputes) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [y, mean, invstd] =
        batch_norm_relu_forward(x, residual, weight, bias, statistics.mean, statistics.var,
                                {.training = false, .eps = for_backward->eps});
    recompute_batch_norm_relu(*ctx, recomputes, y, x, residual, weight, bias, mean, invstd);
    ctx->save_for_backward({x, y, weight.value_or(at::Tensor()), mean, invstd});
    ctx->saved_data["residual"] = residual.has_value();
    ctx->saved_data["count"] = statistics.count.item<int64_t>();
    ctx->saved_data["for_backward"] = c10::IValue::make_capsule(for_backward);
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &y = saved[1], &weight = saved[2], &mean = saved[3],
               &invstd = saved[4];
    const auto capsule = ctx->saved_data["for_backward"].toCapsule();
    const auto own = batch_norm_relu_sums(grads[0], x, y, mean);
    SharedBatch shared{own.clone(), ctx->saved_data["count"].toInt()};
    static_cast<const SyncedBackward&>(*capsule).communicator.all_reduce_sum_(shared.sums);
    const auto scale = weight.defined() ? std::optional<at::Tensor>(weight) : std::nullopt;
    const auto [by_x, by_residual, unused_weight, unused_bias] =
        batch_norm_relu_backward(grads[0], x, y, scale, mean, invstd,
                                 ctx->saved_data["residual"].toBool(), /*of_batch=*/true, shared);
    end_batch_norm_relu(*ctx);
    if (!scale) return {by_x, by_residual, {}, {}, {}, {}, {}};
    return {by_x,
            by_residual,
            (own[1] * invstd).to(weight.scalar_type()),
            own[0].to(weight.scalar_type()),
            {},
            {},
            {}};
  }
};

}  // namespace

void SyncBatchNorm::follow(const torch::Tensor& mean, const torch::Tensor& var) {
  if (is_silent_pass()) return;
  const at::NoGradGuard no_grad;
  const double momentum = next_momentum();
  if (!is_training() || !running_mean_.defined()) return;
  running_mean_.lerp_(mean.to(running_mean_.scalar_type()), momentum);
  running_var_.lerp_(var.to(running_var_.scalar_type()), momentum);
}

Communicator* SyncBatchNorm::others_in_training() const {
  return is_training() || !running_mean_.defined() ? communicator() : nullptr;
}

torch::Tensor SyncBatchNorm::forward(const torch::Tensor& x) {
  auto* others = others_in_training();
  if (!others) return BatchNorm::forward(x);
  const auto statistics = synced_once([&] { return synced_statistics(x, *others); });
  follow(statistics.mean, statistics.unbiased_var());
  return SyncedNormalisation::apply(x, if_defined(weight), if_defined(bias), statistics,
                                    c10::make_intrusive<SyncedBackward>(*others, params_.eps));
}

torch::Tensor SyncBatchNorm::forward_relu(const torch::Tensor& x, const torch::Tensor& residual) {
  auto* others = others_in_training();
  if (!others) return BatchNorm::forward_relu(x, residual);
  if (!has_relu_kernel(x)) return Norm::forward_relu(x, residual);
  // The numbers of one process, whose statistics are in double precision as well.
  const auto statistics = synced_once([&] {
    const auto own = batch_norm_moments(x.detach());
    return synced_statistics(own[0], own[1], x.numel() / x.size(1), *others);
  });
  follow(statistics.mean, statistics.unbiased_var());
  return SyncedNormRelu::apply(x, if_defined(residual), if_defined(weight), if_defined(bias),
                               statistics,
                               c10::make_intrusive<SyncedBackward>(*others, params_.eps),
                               can_recompute_batch_norm_relu(x, residual, weight, bias));
}

SEG_REGISTER_AS(Norm, SyncBatchNorm, "SyncBN");
SEG_REGISTER(Norm, SyncBatchNorm);

}  // namespace seg
