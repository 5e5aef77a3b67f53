#include "segcore/models/nn/activation.hpp"

#include "segcore/memory/recomputation.hpp"
#include "segcore/torch.hpp"

namespace seg {

ActCfg act_cfg_of(const std::string& yaml) { return Spec<Activation>::of(yaml); }

namespace {

/// Most take only `inplace`; those that LibTorch cannot compute in place accept and ignore it.
struct InplaceParams {
  std::optional<bool> inplace;
};

Schema<InplaceParams> inplace_schema(const std::string& summary) {
  return Schema<InplaceParams>(summary).optional(
      "inplace", &InplaceParams::inplace, "overwrite the input; null: as the surrounding layer");
}

}  // namespace

/// An activation without options of its own: `Function::apply(x, inplace)`.
template <class Function>
class PlainActivation final : public Activation {
 public:
  using Params = InplaceParams;
  static Schema<Params> schema() { return inplace_schema(Function::kSummary); }
  PlainActivation(const Params& p, bool inplace) : inplace_(p.inplace.value_or(inplace)) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    if (inplace_ || !Function::kSavesInput) return Function::apply(x, inplace_);
    return recomputable({x}, [](const auto& in) { return Function::apply(in[0], false); });
  }
  std::vector<std::string> python_names() const override { return {Function::kName}; }
  bool is_relu() const override { return std::string_view(Function::kName) == "ReLU"; }

 private:
  bool inplace_;
};

/// \param saves_input  autograd keeps x for the gradient, and not the result.
#define SEG_PLAIN_ACTIVATION(type, saves_input, summary, expression, expression_in_place) \
  struct type##Function {                                                                 \
    static constexpr const char* kName = #type;                                           \
    static constexpr const char* kSummary = summary;                                      \
    static constexpr bool kSavesInput = saves_input;                                      \
    static torch::Tensor apply(torch::Tensor x, bool inplace) {                           \
      return inplace ? (expression_in_place) : (expression);                              \
    }                                                                                     \
  };                                                                                      \
  SEG_REGISTER_AS(Activation, PlainActivation<type##Function>, #type)

SEG_PLAIN_ACTIVATION(ReLU, false, "max(x, 0).", torch::relu(x), torch::relu_(x));
SEG_PLAIN_ACTIVATION(ReLU6, true, "min(max(x, 0), 6).", at::hardtanh(x, 0, 6),
                     at::hardtanh_(x, 0, 6));
SEG_PLAIN_ACTIVATION(Sigmoid, false, "1 / (1 + exp(-x)).", torch::sigmoid(x), torch::sigmoid(x));
SEG_PLAIN_ACTIVATION(Tanh, false, "Hyperbolic tangent.", torch::tanh(x), torch::tanh(x));
SEG_PLAIN_ACTIVATION(SiLU, true, "x * sigmoid(x).", at::silu(x), at::silu_(x));
SEG_PLAIN_ACTIVATION(Swish, true, "x * sigmoid(x), by its older name.", at::silu(x), at::silu(x));
SEG_PLAIN_ACTIVATION(HSwish, true, "x * ReLU6(x + 3) / 6.", at::hardswish(x), at::hardswish_(x));
SEG_PLAIN_ACTIVATION(Hardswish, true, "x * ReLU6(x + 3) / 6, by LibTorch's name.", at::hardswish(x),
                     at::hardswish_(x));
SEG_PLAIN_ACTIVATION(Mish, true, "x * tanh(softplus(x)).", at::mish(x), at::mish_(x));
SEG_PLAIN_ACTIVATION(QuickGELU, true, "x * sigmoid(1.702 x), CLIP's approximation of GELU.",
                     x* torch::sigmoid(1.702 * x), x* torch::sigmoid(1.702 * x));
SEG_PLAIN_ACTIVATION(SELU, false, "Scaled exponential linear unit.", torch::selu(x),
                     torch::selu_(x));

struct LeakyReLUParams : InplaceParams {
  double negative_slope = 0.01;
};

class LeakyReLU final : public Activation {
 public:
  using Params = LeakyReLUParams;
  static Schema<Params> schema() {
    return Schema<Params>("x, and negative_slope * x below 0.")
        .optional("negative_slope", &Params::negative_slope, "slope below 0")
        .include(inplace_schema(""));
  }
  LeakyReLU(const Params& p, bool inplace)
      : inplace_(p.inplace.value_or(inplace)), slope_(p.negative_slope) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    torch::Tensor input = x;
    if (inplace_) return at::leaky_relu_(input, slope_);
    return recomputable({x}, [s = slope_](const auto& in) { return at::leaky_relu(in[0], s); });
  }
  std::optional<double> negative_slope() const override { return slope_; }

 private:
  bool inplace_;
  double slope_;
};
SEG_REGISTER(Activation, LeakyReLU);

struct EluParams : InplaceParams {
  double alpha = 1.0;
};

class ELU final : public Activation {
 public:
  using Params = EluParams;
  static Schema<Params> schema() {
    return Schema<Params>("x, and alpha * (exp(x) - 1) below 0.")
        .optional("alpha", &Params::alpha, "limit below 0, negated")
        .include(inplace_schema(""));
  }
  ELU(const Params& p, bool inplace) : inplace_(p.inplace.value_or(inplace)), alpha_(p.alpha) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    torch::Tensor input = x;
    return inplace_ ? at::elu_(input, alpha_) : at::elu(x, alpha_);
  }

 private:
  bool inplace_;
  double alpha_;
};
SEG_REGISTER(Activation, ELU);

struct RReLUParams : InplaceParams {
  double lower = 1.0 / 8;
  double upper = 1.0 / 3;
};

class RReLU final : public Activation {
 public:
  using Params = RReLUParams;
  static Schema<Params> schema() {
    return Schema<Params>("Leaky ReLU with a random slope in training.")
        .optional("lower", &Params::lower, "least slope")
        .optional("upper", &Params::upper, "greatest slope")
        .include(inplace_schema(""));
  }
  RReLU(const Params& p, bool) : lower_(p.lower), upper_(p.upper) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    return at::rrelu(x, lower_, upper_, is_training());
  }

 private:
  double lower_, upper_;
};
SEG_REGISTER(Activation, RReLU);

struct PReLUParams {
  int64_t num_parameters = 1;
  double init = 0.25;
};

class PReLU final : public Activation {
 public:
  using Params = PReLUParams;
  static Schema<Params> schema() {
    return Schema<Params>("Leaky ReLU with learned slopes.")
        .source("He et al. 2015, arXiv:1502.01852")
        .optional("num_parameters", &Params::num_parameters, "1, or one slope for each channel",
                  at_least(1))
        .optional("init", &Params::init, "slope at the start");
  }
  PReLU(const Params& p, bool)
      : weight_(register_parameter("weight", torch::full({p.num_parameters}, p.init))) {}
  torch::Tensor forward(const torch::Tensor& x) override { return at::prelu(x, weight_); }

 private:
  torch::Tensor weight_;
};
SEG_REGISTER(Activation, PReLU);

struct GeluParams {
  std::string approximate = "none";
};

class GELU final : public Activation {
 public:
  using Params = GeluParams;
  static Schema<Params> schema() {
    return Schema<Params>("x * P(X <= x) of a standard normal X.")
        .source("Hendrycks and Gimpel 2016, arXiv:1606.08415")
        .optional("approximate", &Params::approximate, "exact, or by a hyperbolic tangent",
                  one_of({"none", "tanh"}));
  }
  GELU(const Params& p, bool) : approximate_(p.approximate) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    return recomputable({x},
                        [kind = approximate_](const auto& in) { return at::gelu(in[0], kind); });
  }

 private:
  std::string approximate_;
};
SEG_REGISTER(Activation, GELU);

struct HSigmoidParams {
  double bias = 3.0;
  double divisor = 6.0;
  double min_value = 0.0;
  double max_value = 1.0;
};

class HSigmoid final : public Activation {
 public:
  using Params = HSigmoidParams;
  static Schema<Params> schema() {
    return Schema<Params>("(x + bias) / divisor, kept between min_value and max_value.")
        .optional("bias", &Params::bias, "added first")
        .optional("divisor", &Params::divisor, "divides the sum")
        .optional("min_value", &Params::min_value, "lower bound")
        .optional("max_value", &Params::max_value, "upper bound")
        .validate([](const Params& p, Problems& problems) {
          if (p.divisor == 0) problems.error("divisor", "must not be 0");
        });
  }
  HSigmoid(const Params& p, bool) : params_(p) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    return ((x + params_.bias) / params_.divisor).clamp(params_.min_value, params_.max_value);
  }

 private:
  Params params_;
};
SEG_REGISTER(Activation, HSigmoid);

struct ClampParams {
  double min = -1;
  double max = 1;
};

class Clamp final : public Activation {
 public:
  using Params = ClampParams;
  static Schema<Params> schema() {
    return Schema<Params>("Keeps values between two bounds.")
        .optional("min", &Params::min, "lower bound")
        .optional("max", &Params::max, "upper bound");
  }
  Clamp(const Params& p, bool) : params_(p) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    return x.clamp(params_.min, params_.max);
  }

 private:
  Params params_;
};
SEG_REGISTER(Activation, Clamp);
SEG_REGISTER_AS(Activation, Clamp, "Clip");

}  // namespace seg
