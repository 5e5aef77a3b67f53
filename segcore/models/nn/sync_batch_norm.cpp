#include "segcore/dist/communicator.hpp"
#include "segcore/models/nn/batch_norm.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Sums over all dimensions but that of channels.
at::Tensor channel_sums(const at::Tensor& x) {
  std::vector<int64_t> dims{0};
  for (int64_t d = 2; d < x.dim(); ++d) dims.push_back(d);
  return x.sum(dims);
}

/// [C] beside [N, C, ...]
at::Tensor per_channel(const at::Tensor& v, const at::Tensor& like) {
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape[1] = v.size(0);
  return v.view(shape);
}

struct SyncedStatistics {
  at::Tensor mean, var;  ///< over all processes, biased
  at::Tensor count;      ///< values per channel, over all processes; stays on the device, since
                         ///< reading it would wait for all earlier layers
};

SyncedStatistics synced_statistics(const at::Tensor& x, Communicator& communicator) {
  const int64_t channels = x.size(1);
  auto sums = at::empty({channels + 1}, x.options());
  sums.narrow(0, 0, channels).copy_(channel_sums(x));
  sums.narrow(0, channels, 1).fill_(static_cast<double>(x.numel() / channels));
  communicator.all_reduce_sum_(sums);
  SyncedStatistics out;
  out.count = sums.narrow(0, channels, 1);
  out.mean = sums.narrow(0, 0, channels) / out.count;
  // The squares of differences in a second exchange: sums of squares would cancel.
  out.var = channel_sums((x - per_channel(out.mean, x)).square());
  communicator.all_reduce_sum_(out.var);
  out.var = out.var / out.count;
  return out;
}

/// What the backward pass needs beside tensors. The run owns the communicator.
struct SyncedBackward : torch::CustomClassHolder {
  explicit SyncedBackward(Communicator& c) : communicator(c) {}
  Communicator& communicator;
};

/// (x - mean) / sqrt(var + eps) with the gradient through the statistics of all processes.
class SyncedNormalisation : public torch::autograd::Function<SyncedNormalisation> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& mean, const at::Tensor& inverse_std,
                            const at::Tensor& count,
                            const c10::intrusive_ptr<SyncedBackward>& for_backward) {
    const auto normal = (x - per_channel(mean, x)) * per_channel(inverse_std, x);
    ctx->save_for_backward({normal, inverse_std, count});
    ctx->saved_data["for_backward"] = c10::IValue::make_capsule(for_backward);
    return normal;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& normal = saved[0];
    const auto& grad = grads[0];
    const int64_t channels = normal.size(1);
    auto sums = at::cat({channel_sums(grad), channel_sums(grad * normal)});
    const auto capsule = ctx->saved_data["for_backward"].toCapsule();
    static_cast<const SyncedBackward&>(*capsule).communicator.all_reduce_sum_(sums);
    sums = sums / saved[2];
    const auto mean = per_channel(sums.narrow(0, 0, channels), grad);
    const auto share = per_channel(sums.narrow(0, channels, channels), grad);
    const auto out = (grad - mean - normal * share) * per_channel(saved[1], grad);
    return {out, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

torch::Tensor SyncBatchNorm::forward(const torch::Tensor& input) {
  const bool use_batch = is_training() || !running_mean_.defined();
  auto* others = communicator();
  if (!others || !use_batch) return BatchNorm::forward(input);
  const double momentum = next_momentum();
  const bool narrow = input.scalar_type() == at::kHalf || input.scalar_type() == at::kBFloat16;
  const auto x = narrow ? input.to(at::kFloat) : input;
  SyncedStatistics statistics;
  {
    at::NoGradGuard no_grad;
    statistics = synced_statistics(x, *others);
    if (is_training() && running_mean_.defined()) {
      const auto unbiased = statistics.count / (statistics.count - 1).clamp_min(1);
      running_mean_.lerp_(statistics.mean.to(running_mean_.scalar_type()), momentum);
      running_var_.lerp_((statistics.var * unbiased).to(running_var_.scalar_type()), momentum);
    }
  }
  auto out =
      SyncedNormalisation::apply(x, statistics.mean, (statistics.var + params_.eps).rsqrt(),
                                 statistics.count, c10::make_intrusive<SyncedBackward>(*others));
  if (weight.defined()) {
    out = out * per_channel(weight.to(out.scalar_type()), out) +
          per_channel(bias.to(out.scalar_type()), out);
  }
  return narrow ? out.to(input.scalar_type()) : out;
}

SEG_REGISTER_AS(Norm, SyncBatchNorm, "SyncBN");

}  // namespace seg
