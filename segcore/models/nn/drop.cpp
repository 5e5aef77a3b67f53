#include "segcore/models/nn/drop.hpp"

#include "segcore/memory/recomputation.hpp"
#include "segcore/models/nn/dropout_by_mask.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Whether LibTorch has no kernel of one pass, which keeps bytes by itself.
bool is_composed(const torch::Tensor& x, double p) { return x.is_cpu() && p < 1 && x.numel() > 0; }

}  // namespace

Schema<DropoutParams> Dropout::schema() {
  return Schema<Params>("Zeroes single values in training.")
      .optional("drop_prob", &Params::drop_prob, "probability of a value to be zeroed",
                in_range(0, 1))
      .optional("inplace", &Params::inplace, "overwrite the input");
}

torch::Tensor Dropout::forward(const torch::Tensor& x) {
  if (!active()) return x;
  if (!is_composed(x, p_)) return torch::dropout(x, p_, true);
  // The numbers that LibTorch draws in the type of x.
  const auto mask = torch::empty_like(x, torch::kBool).bernoulli_(1 - p_);
  return dropout_by_mask(x, mask, 1 - p_);
}

torch::Tensor Dropout2d::forward(const torch::Tensor& x) {
  if (!active()) return x;
  if (p_ >= 1 || x.numel() == 0) return torch::feature_dropout(x, p_, true);
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  shape[1] = x.size(1);
  const auto factors = torch::empty(shape, x.options()).bernoulli_(1 - p_).div_(1 - p_);
  return recomputable({x, factors}, [](const auto& in) { return in[0] * in[1]; });
}

Schema<DropPathParams> DropPath::schema() {
  return Schema<Params>("Zeroes a residual branch for whole samples in training.")
      .source("Huang et al. 2016, arXiv:1603.09382")
      .optional("drop_prob", &Params::drop_prob, "probability of a sample to lose the branch",
                in_range(0, 1));
}

torch::Tensor DropPath::forward(const torch::Tensor& x) {
  if (!active()) return x;
  const double keep = 1 - p_;
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  auto mask = torch::rand(shape, x.options()).add_(keep).floor_();
  if (keep > 0) mask.div_(keep);
  return x * mask;
}

SEG_REGISTER(DropLayer, Dropout);
SEG_REGISTER(DropLayer, DropPath);

void set_drop_probability(torch::nn::Module& root, double p) {
  for_each_module(root, [p](torch::nn::Module& m) {
    if (auto* drop = dynamic_cast<DropsValues*>(&m)) drop->set_drop_probability(p);
  });
}

std::vector<double> drop_path_rates(double last, int64_t count) {
  std::vector<double> rates;
  for (int64_t i = 0; i < count; ++i) {
    rates.push_back(count > 1 ? last * static_cast<double>(i) / static_cast<double>(count - 1)
                              : 0.0);
  }
  return rates;
}

}  // namespace seg
