/// Dropout and stochastic depth.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Anything that drops values at random in training; the probability can be set from outside.
class DropsValues {
 public:
  virtual ~DropsValues() = default;
  virtual void set_drop_probability(double p) = 0;
};

/// A layer that drops values, whole maps or whole samples.
class DropLayer : public Layer, public DropsValues {
 public:
  void set_drop_probability(double p) override { p_ = p; }
  double drop_probability() const { return p_; }
  bool active() const { return is_training() && p_ > 0; }

 protected:
  explicit DropLayer(double p) : p_(p) {}
  double p_;
};

template <>
struct Category<DropLayer> {
  static constexpr std::string_view name = "dropout layer";
  using Signature = std::shared_ptr<DropLayer>();
};

/// The option `dropout_layer`; null for none.
using DropCfg = std::optional<Spec<DropLayer>>;

struct DropoutParams {
  double drop_prob = 0.5;
  bool inplace = false;
};

/// Zeroes single values, torch.nn.Dropout.
class Dropout final : public DropLayer {
 public:
  using Params = DropoutParams;
  static Schema<Params> schema();
  explicit Dropout(double p) : DropLayer(p) {}
  explicit Dropout(const Params& p) : DropLayer(p.drop_prob) {}
  torch::Tensor forward(const torch::Tensor& x) override;
};

/// Zeroes whole maps of [N, C, H, W], torch.nn.Dropout2d.
class Dropout2d final : public DropLayer {
 public:
  explicit Dropout2d(double p) : DropLayer(p) {}
  torch::Tensor forward(const torch::Tensor& x) override;
};

struct DropPathParams {
  double drop_prob = 0.1;
};

/// Zeroes whole samples of a residual branch (stochastic depth).
class DropPath final : public DropLayer {
 public:
  using Params = DropPathParams;
  static Schema<Params> schema();
  explicit DropPath(double p) : DropLayer(p) {}
  explicit DropPath(const Params& p) : DropLayer(p.drop_prob) {}
  torch::Tensor forward(const torch::Tensor& x) override;
};

/// Sets the probability of everything below `root` that drops values.
void set_drop_probability(torch::nn::Module& root, double p);

/// `count` probabilities rising linearly from 0 to `last`, as torch.linspace (the decay rule of
/// stochastic depth).
std::vector<double> drop_path_rates(double last, int64_t count);

}  // namespace seg
