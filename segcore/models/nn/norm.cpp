#include "segcore/models/nn/norm.hpp"

#include <utility>

#include "segcore/memory/recomputation.hpp"
#include "segcore/models/nn/batch_norm.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/ops/batch_norm_relu/batch_norm_relu.hpp"
#include "segcore/ops/layer_norm/layer_norm.hpp"
#include "segcore/torch.hpp"

namespace seg {

void Norm::register_affine(int64_t channels, bool requires_grad) {
  weight = register_parameter("weight", torch::ones({channels}), requires_grad);
  bias = register_parameter("bias", torch::zeros({channels}), requires_grad);
}

torch::Tensor Norm::forward_relu(const torch::Tensor& x, const torch::Tensor& residual) {
  auto out = forward(x);
  if (residual.defined()) out.add_(residual);
  return out.relu_();
}

NormCfg norm_cfg_of(const std::string& yaml) { return Spec<Norm>::of(yaml); }

std::shared_ptr<Norm> register_norm(torch::nn::Module& parent, const Spec<Norm>& cfg,
                                    int64_t channels, const std::string& postfix) {
  auto norm = cfg.build(channels);
  return parent.register_module(norm->abbreviation() + postfix, norm);
}

bool is_norm(const torch::nn::Module& module) {
  return dynamic_cast<const Norm*>(&module) != nullptr;
}

void freeze_batch_norms(torch::nn::Module& root) {
  for_each_module(root, [](torch::nn::Module& m) {
    if (auto* norm = dynamic_cast<Norm*>(&m); norm && norm->is_batch_norm()) norm->eval();
  });
}

namespace {

thread_local bool follows_batches_twice = false;

/// Of a batch in running statistics, where one pass gives it `momentum`.
double share_of_batch(double momentum) {
  const double rest = 1 - momentum;
  return follows_batches_twice ? 1 - rest * rest : momentum;
}

/// What a batch changes: copies in a pass that leaves no traces.
torch::Tensor to_follow(const torch::Tensor& running) {
  return running.defined() && is_silent_pass() ? running.clone() : running;
}

}  // namespace

// --- Batch norm ---------------------------------------------------------------------------------

Schema<BatchNormParams> BatchNorm::schema() {
  return Schema<Params>("Batch normalisation: statistics over the batch and all positions.")
      .source("Ioffe and Szegedy 2015, arXiv:1502.03167")
      .optional("eps", &Params::eps, "added to the variance", above(0))
      .optional("momentum", &Params::momentum,
                "share of the new batch in the running statistics; null: their plain mean")
      .optional("affine", &Params::affine, "learn a scale and a shift for each channel")
      .optional("track_running_stats", &Params::track_running_stats,
                "keep statistics for evaluation")
      .optional("requires_grad", &Params::requires_grad, "train scale and shift");
}

BatchNorm::BatchNorm(const Params& p, int64_t channels) : params_(p) {
  if (p.affine) register_affine(channels, p.requires_grad);
  if (p.track_running_stats) {
    running_mean_ = register_buffer("running_mean", torch::zeros({channels}));
    running_var_ = register_buffer("running_var", torch::ones({channels}));
    batches_ = register_buffer("num_batches_tracked", torch::tensor(0, torch::kLong));
  }
}

FollowsBatchesTwice::FollowsBatchesTwice() : outer_(std::exchange(follows_batches_twice, true)) {}

FollowsBatchesTwice::~FollowsBatchesTwice() { follows_batches_twice = outer_; }

double BatchNorm::next_momentum() {
  if (!is_training() || !batches_.defined()) return params_.momentum.value_or(0.0);
  const int64_t passes = follows_batches_twice ? 2 : 1;
  if (!is_silent_pass()) batches_.add_(passes);
  if (params_.momentum) return share_of_batch(*params_.momentum);
  // 1 - (1 - 1 / (n - 1)) (1 - 1 / n) = 2 / n
  return static_cast<double>(passes) / static_cast<double>(batches_.item<int64_t>());
}

bool BatchNorm::uses_batch(const torch::Tensor& x) const {
  const bool use_batch = is_training() || !running_mean_.defined();
  if (use_batch && x.numel() == x.size(1)) {
    throw DataError(text("batch norm cannot be trained on one value per channel, got ", x.sizes(),
                         ": take a batch of at least 2 images, a larger crop or another norm"));
  }
  return use_batch;
}

torch::Tensor BatchNorm::forward(const torch::Tensor& x) {
  const double momentum = next_momentum();
  const bool by_batch = uses_batch(x);
  const bool cudnn = at::globalContext().userEnabledCuDNN();
  const auto y = torch::batch_norm(x, weight, bias, to_follow(running_mean_),
                                   to_follow(running_var_), by_batch, momentum, params_.eps, cudnn);
  // Without weights the statistics have another type in half precision.
  if (by_batch && weight.defined()) {
    // Running statistics follow a batch once.
    recomputable_as(y, {x, weight, bias}, [eps = params_.eps, cudnn](const auto& in) {
      return torch::batch_norm(in[0], in[1], in[2], {}, {}, /*training=*/true, /*momentum=*/0, eps,
                               cudnn);
    });
  }
  return y;
}

bool BatchNorm::has_relu_kernel(const torch::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == torch::kFloat;
}

torch::Tensor BatchNorm::forward_relu(const torch::Tensor& x, const torch::Tensor& residual) {
  if (!has_relu_kernel(x)) return Norm::forward_relu(x, residual);
  const double momentum = next_momentum();
  return batch_norm_relu(x, residual, weight, bias, to_follow(running_mean_),
                         to_follow(running_var_),
                         {.training = uses_batch(x), .momentum = momentum, .eps = params_.eps});
}

SEG_REGISTER_AS(Norm, BatchNorm, "BN");
SEG_REGISTER_AS(Norm, BatchNorm, "BN1d");
SEG_REGISTER_AS(Norm, BatchNorm, "BN2d");
SEG_REGISTER_AS(Norm, BatchNorm, "BN3d");
// Configs that import their types have PyTorch's names.
SEG_REGISTER_AS(Norm, BatchNorm, "BatchNorm1d");
SEG_REGISTER_AS(Norm, BatchNorm, "BatchNorm2d");
SEG_REGISTER_AS(Norm, BatchNorm, "BatchNorm3d");

// --- Layer norm ---------------------------------------------------------------------------------

struct LayerNormParams {
  double eps = 1e-5;
  bool elementwise_affine = true;
  bool requires_grad = true;
};

class LayerNorm final : public Norm {
 public:
  using Params = LayerNormParams;
  static Schema<Params> schema() {
    return Schema<Params>("Layer normalisation over the last dimension.")
        .source("Ba et al. 2016, arXiv:1607.06450")
        .optional("eps", &Params::eps, "added to the variance", above(0))
        .optional("elementwise_affine", &Params::elementwise_affine,
                  "learn a scale and a shift for each channel")
        .optional("requires_grad", &Params::requires_grad, "train scale and shift");
  }
  LayerNorm(const Params& p, int64_t channels) : eps_(p.eps), channels_(channels) {
    if (p.elementwise_affine) register_affine(channels, p.requires_grad);
  }
  std::string abbreviation() const override { return "ln"; }
  torch::Tensor forward(const torch::Tensor& x) override {
    return recomputable({x, weight, bias}, [c = channels_, eps = eps_](const auto& in) {
      return layer_norm(in[0], c, in[1], in[2], eps);
    });
  }

 private:
  double eps_;
  int64_t channels_;
};
SEG_REGISTER_AS(Norm, LayerNorm, "LN");
SEG_REGISTER(Norm, LayerNorm);

// --- Group norm ---------------------------------------------------------------------------------

struct GroupNormParams {
  int64_t num_groups = 32;
  double eps = 1e-5;
  bool affine = true;
  bool requires_grad = true;
};

class GroupNorm final : public Norm {
 public:
  using Params = GroupNormParams;
  static Schema<Params> schema() {
    return Schema<Params>("Group normalisation: each image, groups of channels.")
        .source("Wu and He 2018, arXiv:1803.08494")
        .required("num_groups", &Params::num_groups, "groups that the channels are cut into",
                  at_least(1))
        .optional("eps", &Params::eps, "added to the variance", above(0))
        .optional("affine", &Params::affine, "learn a scale and a shift for each channel")
        .optional("requires_grad", &Params::requires_grad, "train scale and shift");
  }
  GroupNorm(const Params& p, int64_t channels) : eps_(p.eps), groups_(p.num_groups) {
    if (channels % groups_ != 0) {
      throw OptionError("num_groups",
                        text(channels, " channels cannot be cut into ", groups_, " groups"));
    }
    if (p.affine) register_affine(channels, p.requires_grad);
  }
  std::string abbreviation() const override { return "gn"; }
  torch::Tensor forward(const torch::Tensor& x) override {
    return recomputable({x, weight, bias}, [groups = groups_, eps = eps_](const auto& in) {
      return torch::group_norm(in[0], groups, in[1], in[2], eps);
    });
  }

 private:
  double eps_;
  int64_t groups_;
};
SEG_REGISTER_AS(Norm, GroupNorm, "GN");
SEG_REGISTER(Norm, GroupNorm);

// --- Instance norm ------------------------------------------------------------------------------

struct InstanceNormParams {
  double eps = 1e-5;
  double momentum = 0.1;
  bool affine = false;
  bool track_running_stats = false;
  bool requires_grad = true;
};

class InstanceNorm final : public Norm {
 public:
  using Params = InstanceNormParams;
  static Schema<Params> schema() {
    return Schema<Params>("Instance normalisation: each image, each channel.")
        .source("Ulyanov et al. 2016, arXiv:1607.08022")
        .optional("eps", &Params::eps, "added to the variance", above(0))
        .optional("momentum", &Params::momentum, "share of the new batch in running statistics")
        .optional("affine", &Params::affine, "learn a scale and a shift for each channel")
        .optional("track_running_stats", &Params::track_running_stats,
                  "keep statistics for evaluation")
        .optional("requires_grad", &Params::requires_grad, "train scale and shift");
  }
  InstanceNorm(const Params& p, int64_t channels) : params_(p) {
    if (p.affine) register_affine(channels, p.requires_grad);
    if (p.track_running_stats) {
      running_mean_ = register_buffer("running_mean", torch::zeros({channels}));
      running_var_ = register_buffer("running_var", torch::ones({channels}));
      register_buffer("num_batches_tracked", torch::tensor(0, torch::kLong));
    }
  }
  std::string abbreviation() const override { return "in"; }
  std::vector<std::string> python_names() const override {
    return {"InstanceNorm2d", "_InstanceNorm"};
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return torch::instance_norm(x, weight, bias, to_follow(running_mean_), to_follow(running_var_),
                                is_training() || !running_mean_.defined(),
                                share_of_batch(params_.momentum), params_.eps,
                                at::globalContext().userEnabledCuDNN());
  }

 private:
  Params params_;
  torch::Tensor running_mean_, running_var_;
};
SEG_REGISTER_AS(Norm, InstanceNorm, "IN");
SEG_REGISTER_AS(Norm, InstanceNorm, "IN1d");
SEG_REGISTER_AS(Norm, InstanceNorm, "IN2d");
SEG_REGISTER_AS(Norm, InstanceNorm, "IN3d");
SEG_REGISTER_AS(Norm, InstanceNorm, "InstanceNorm1d");
SEG_REGISTER_AS(Norm, InstanceNorm, "InstanceNorm2d");
SEG_REGISTER_AS(Norm, InstanceNorm, "InstanceNorm3d");

}  // namespace seg
