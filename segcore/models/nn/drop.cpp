#include "segcore/models/nn/drop.hpp"

#include "segcore/torch.hpp"

namespace seg {

Schema<DropoutParams> Dropout::schema() {
  return Schema<Params>("Zeroes single values in training.")
      .optional("drop_prob", &Params::drop_prob, "probability of a value to be zeroed",
                in_range(0, 1))
      .optional("inplace", &Params::inplace, "overwrite the input");
}

torch::Tensor Dropout::forward(const torch::Tensor& x) {
  return active() ? torch::dropout(x, p_, true) : x;
}

torch::Tensor Dropout2d::forward(const torch::Tensor& x) {
  return active() ? torch::feature_dropout(x, p_, true) : x;
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
