#include "segcore/models/weights/init.hpp"

#include <algorithm>
#include <cmath>

#include "segcore/models/nn/base_module.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

torch::Tensor own_parameter(torch::nn::Module& layer, const char* name) {
  auto parameters = layer.named_parameters(/*recurse=*/false);
  auto* found = parameters.find(name);
  return found ? *found : torch::Tensor();
}

/// Calls `fill` for the weight and sets the bias, where the layer has them.
void init_layer(torch::nn::Module& layer, double bias,
                const std::function<void(torch::Tensor)>& fill) {
  torch::NoGradGuard no_grad;
  if (auto weight = own_parameter(layer, "weight"); weight.defined()) fill(weight);
  if (auto b = own_parameter(layer, "bias"); b.defined()) b.fill_(bias);
}

}  // namespace

InitCfg init_cfg_of(const std::string& yaml) {
  Diagnostics problems;
  auto cfg = Convert<OneOrMany<Spec<Initializer>>>::from(detail::parse_default(yaml), "init_cfg",
                                                         problems);
  if (problems.has_errors()) throw ConfigError(problems);
  return cfg;
}

Spec<Initializer> pretrained_from(const std::string& checkpoint) {
  Config c;
  c.set("type", Config::of("Pretrained"));
  c.set("checkpoint", Config::of(checkpoint));
  Diagnostics problems;
  auto rule = Spec<Initializer>::parse(c, "pretrained", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  return *rule;
}

InitCfg with_pretrained(const InitCfg& init_cfg, const std::optional<std::string>& pretrained) {
  if (!pretrained) return init_cfg;
  if (init_cfg) {
    throw OptionError("pretrained",
                      "cannot be given together with init_cfg, which can load "
                      "weights too: {type: Pretrained, checkpoint: ...}");
  }
  OneOrMany<Spec<Initializer>> rules;
  rules.values.push_back(pretrained_from(*pretrained));
  return rules;
}

void for_each_module(torch::nn::Module& root,
                     const std::function<void(torch::nn::Module&)>& visit) {
  visit(root);
  for (const auto& child : root.children()) for_each_module(*child, visit);
}

std::vector<std::string> layer_names(const torch::nn::Module& module) {
  if (const auto* own = dynamic_cast<const BaseModule*>(&module)) return own->python_names();
  std::string name = module.name();
  if (const size_t at = name.rfind("::"); at != std::string::npos) name = name.substr(at + 2);
  if (name.ends_with("Impl")) name.resize(name.size() - 4);
  std::vector<std::string> names{name};
  if (name.starts_with("BatchNorm")) names.push_back("_BatchNorm");
  if (name.starts_with("InstanceNorm")) names.push_back("_InstanceNorm");
  if (name.starts_with("Conv")) names.push_back("_ConvNd");
  return names;
}

void constant_init(torch::nn::Module& layer, double value, double bias) {
  init_layer(layer, bias, [&](torch::Tensor w) { w.fill_(value); });
}

void normal_init(torch::nn::Module& layer, double mean, double std, double bias) {
  init_layer(layer, bias, [&](torch::Tensor w) { w.normal_(mean, std); });
}

void uniform_init(torch::nn::Module& layer, double a, double b, double bias) {
  init_layer(layer, bias, [&](torch::Tensor w) { w.uniform_(a, b); });
}

namespace {
/// \throws OptionError for a weight that has no inputs and outputs, a norm's for one.
void check_matrix(const torch::nn::Module& layer, const torch::Tensor& weight, const char* rule) {
  if (weight.dim() >= 2) return;
  throw OptionError("type", text(rule, " is for weights of two and more dimensions; that of ",
                                 layer_names(layer).front(), " has ", weight.dim(),
                                 ". Name the layers that it is for: layer: Conv2d"));
}
}  // namespace

void xavier_init(torch::nn::Module& layer, double gain, double bias, bool uniform_distribution) {
  init_layer(layer, bias, [&](torch::Tensor w) {
    check_matrix(layer, w, "Xavier");
    if (uniform_distribution) {
      torch::nn::init::xavier_uniform_(w, gain);
    } else {
      torch::nn::init::xavier_normal_(w, gain);
    }
  });
}

void trunc_normal_init(torch::nn::Module& layer, double mean, double std, double a, double b,
                       double bias) {
  init_layer(layer, bias, [&](torch::Tensor w) { trunc_normal_(w, mean, std, a, b); });
}

void kaiming_init(torch::nn::Module& layer, const KaimingOptions& o) {
  init_layer(layer, o.bias, [&](torch::Tensor w) {
    check_matrix(layer, w, "Kaiming");
    using torch::nn::init::FanModeType;
    using torch::nn::init::NonlinearityType;
    const FanModeType mode = o.fan_out ? FanModeType(torch::kFanOut) : FanModeType(torch::kFanIn);
    const NonlinearityType shape =
        o.leaky_relu ? NonlinearityType(torch::kLeakyReLU) : NonlinearityType(torch::kReLU);
    if (o.uniform_distribution) {
      torch::nn::init::kaiming_uniform_(w, o.a, mode, shape);
    } else {
      torch::nn::init::kaiming_normal_(w, o.a, mode, shape);
    }
  });
}

void trunc_normal_(torch::Tensor tensor, double mean, double std, double a, double b) {
  torch::NoGradGuard no_grad;
  const auto cdf = [](double x) { return (1 + std::erf(x / std::sqrt(2.0))) / 2; };
  const double low = cdf((a - mean) / std);
  const double high = cdf((b - mean) / std);
  tensor.uniform_(2 * low - 1, 2 * high - 1).erfinv_();
  tensor.mul_(std * std::sqrt(2.0)).add_(mean).clamp_(a, b);
}

// --- The rules of `init_cfg` --------------------------------------------------------------------

/// An override: the child `name`, with a rule of its own or the outer one.
struct InitOverride {
  std::string name;
  Spec<Initializer> rule;  ///< empty: the outer rule
};

template <>
struct Convert<InitOverride> {
  static TypeDoc type() {
    return {.kind = TypeDoc::Kind::kMap,
            .name = "mapping with 'name'",
            .items = {Convert<Config>::type()}};
  }
  static std::optional<InitOverride> from(const Config& c, const std::string& path,
                                          Diagnostics& problems) {
    const auto* name = c.find("name");
    if (!c.is_map() || !name || !name->value.is_scalar()) {
      detail::wrong_type(c, path, type().name, problems);
      return std::nullopt;
    }
    InitOverride out{.name = name->value.scalar, .rule = {}};
    if (c.map.size() == 1) return out;
    if (!c.find("type")) {
      problems.error(c.origin, path, "an override with options of its own needs a 'type'");
      return std::nullopt;
    }
    Config rest = c;
    std::erase_if(rest.map, [](const Config::Item& item) { return item.key == "name"; });
    auto rule = Spec<Initializer>::parse(rest, path, problems);
    if (!rule) return std::nullopt;
    out.rule = std::move(*rule);
    return out;
  }
  static std::string show(const InitOverride& v) { return "{name: " + v.name + "}"; }
};

struct InitParams {
  double bias = 0;
  std::optional<double> bias_prob;
  std::optional<OneOrMany<std::string>> layer;
  std::optional<OneOrMany<InitOverride>> override_rules;

  static Schema<InitParams> schema() {
    return Schema<InitParams>("")
        .optional("bias", &InitParams::bias, "value of biases")
        .optional("bias_prob", &InitParams::bias_prob,
                  "sets biases so that a sigmoid of them is this probability",
                  in_range(1e-12, 1 - 1e-12))
        .optional("layer", &InitParams::layer,
                  "classes of layers that the rule is for: Conv2d, ...")
        .optional("override", &InitParams::override_rules,
                  "children, by name, that the rule or another is applied to as a whole");
  }
  double bias_value() const { return bias_prob ? -std::log((1 - *bias_prob) / *bias_prob) : bias; }
};

/// A rule that fills one layer at a time.
class LayerInitializer : public Initializer {
 public:
  explicit LayerInitializer(const InitParams& p) : base_(p) {}
  void apply(torch::nn::Module& module) const override {
    if (base_.layer) {
      for_each_module(module, [this](torch::nn::Module& m) {
        const auto names = layer_names(m);
        const bool wanted = std::ranges::any_of(base_.layer->values, [&](const auto& name) {
          return std::ranges::find(names, name) != names.end();
        });
        if (wanted) fill(m);
      });
    }
    if (!base_.override_rules) return;
    for (const auto& o : base_.override_rules->values) {
      auto children = module.named_children();
      const auto* child = children.find(o.name);
      if (!child) {
        std::vector<std::string> known;
        for (const auto& c : children) known.push_back(c.key());
        throw OptionError("override",
                          text(layer_names(module).front(), " has no child '", o.name, "'.",
                               did_you_mean(o.name, known), " Known: ", join(known, ", ")));
      }
      if (o.rule) {
        o.rule.build()->apply_to_all(**child);
      } else {
        apply_to_all(**child);
      }
    }
  }
  void apply_to_all(torch::nn::Module& module) const override {
    for_each_module(module, [this](torch::nn::Module& m) { fill(m); });
  }

 protected:
  virtual void fill(torch::nn::Module& layer) const = 0;
  InitParams base_;
};

struct ConstantParams : InitParams {
  double val = 0;
};

class ConstantInitializer final : public LayerInitializer {
 public:
  using Params = ConstantParams;
  static Schema<Params> schema() {
    return Schema<Params>("One value for all weights.")
        .required("val", &Params::val, "the value")
        .include(InitParams::schema());
  }
  explicit ConstantInitializer(const Params& p) : LayerInitializer(p), params_(p) {}
  void fill(torch::nn::Module& layer) const override {
    constant_init(layer, params_.val, params_.bias_value());
  }

 private:
  Params params_;
};
SEG_REGISTER_AS(Initializer, ConstantInitializer, "Constant");

struct XavierParams : InitParams {
  double gain = 1;
  std::string distribution = "normal";
};

class XavierInitializer final : public LayerInitializer {
 public:
  using Params = XavierParams;
  static Schema<Params> schema() {
    return Schema<Params>("Variance 2 gain^2 / (fan in + fan out).")
        .source("Glorot and Bengio 2010")
        .optional("gain", &Params::gain, "factor")
        .optional("distribution", &Params::distribution, "of the values",
                  one_of({"normal", "uniform"}))
        .include(InitParams::schema());
  }
  explicit XavierInitializer(const Params& p) : LayerInitializer(p), params_(p) {}
  void fill(torch::nn::Module& layer) const override {
    xavier_init(layer, params_.gain, params_.bias_value(), params_.distribution == "uniform");
  }

 private:
  Params params_;
};
SEG_REGISTER_AS(Initializer, XavierInitializer, "Xavier");

struct NormalParams : InitParams {
  double mean = 0;
  double std = 1;
};

class NormalInitializer final : public LayerInitializer {
 public:
  using Params = NormalParams;
  static Schema<Params> schema() {
    return Schema<Params>("A normal distribution.")
        .optional("mean", &Params::mean, "its mean")
        .optional("std", &Params::std, "its standard deviation", at_least(0))
        .include(InitParams::schema());
  }
  explicit NormalInitializer(const Params& p) : LayerInitializer(p), params_(p) {}
  void fill(torch::nn::Module& layer) const override {
    normal_init(layer, params_.mean, params_.std, params_.bias_value());
  }

 private:
  Params params_;
};
SEG_REGISTER_AS(Initializer, NormalInitializer, "Normal");

struct TruncNormalParams : NormalParams {
  double a = -2;
  double b = 2;
};

class TruncNormalInitializer final : public LayerInitializer {
 public:
  using Params = TruncNormalParams;
  static Schema<Params> schema() {
    return Schema<Params>("A normal distribution cut off at two values.")
        .optional("mean", &Params::mean, "its mean")
        .optional("std", &Params::std, "its standard deviation", above(0))
        .optional("a", &Params::a, "least value")
        .optional("b", &Params::b, "greatest value")
        .include(InitParams::schema());
  }
  explicit TruncNormalInitializer(const Params& p) : LayerInitializer(p), params_(p) {}
  void fill(torch::nn::Module& layer) const override {
    trunc_normal_init(layer, params_.mean, params_.std, params_.a, params_.b, params_.bias_value());
  }

 private:
  Params params_;
};
SEG_REGISTER_AS(Initializer, TruncNormalInitializer, "TruncNormal");

struct UniformParams : InitParams {
  double a = 0;
  double b = 1;
};

class UniformInitializer final : public LayerInitializer {
 public:
  using Params = UniformParams;
  static Schema<Params> schema() {
    return Schema<Params>("Equal probability between two bounds.")
        .optional("a", &Params::a, "lower bound")
        .optional("b", &Params::b, "upper bound")
        .include(InitParams::schema());
  }
  explicit UniformInitializer(const Params& p) : LayerInitializer(p), params_(p) {}
  void fill(torch::nn::Module& layer) const override {
    uniform_init(layer, params_.a, params_.b, params_.bias_value());
  }

 private:
  Params params_;
};
SEG_REGISTER_AS(Initializer, UniformInitializer, "Uniform");

struct KaimingParams : InitParams {
  double a = 0;
  std::string mode = "fan_out";
  std::string nonlinearity = "relu";
  std::string distribution = "normal";
};

class KaimingInitializer final : public LayerInitializer {
 public:
  using Params = KaimingParams;
  static Schema<Params> schema() {
    return Schema<Params>("Variance 2 / ((1 + a^2) fan), kept through rectifiers.")
        .source("He et al. 2015, arXiv:1502.01852")
        .optional("a", &Params::a, "negative slope of a leaky_relu")
        .optional("mode", &Params::mode,
                  "whose variance is kept: forwards fan_in, backwards fan_out",
                  one_of({"fan_in", "fan_out"}))
        .optional("nonlinearity", &Params::nonlinearity, "what follows the layer",
                  one_of({"relu", "leaky_relu"}))
        .optional("distribution", &Params::distribution, "of the values",
                  one_of({"normal", "uniform"}))
        .include(InitParams::schema());
  }
  explicit KaimingInitializer(const Params& p) : LayerInitializer(p), params_(p) {}
  void fill(torch::nn::Module& layer) const override {
    kaiming_init(layer, {.a = params_.a,
                         .fan_out = params_.mode == "fan_out",
                         .leaky_relu = params_.nonlinearity == "leaky_relu",
                         .bias = params_.bias_value(),
                         .uniform_distribution = params_.distribution == "uniform"});
  }

 private:
  Params params_;
};
SEG_REGISTER_AS(Initializer, KaimingInitializer, "Kaiming");

struct OrthogonalParams : InitParams {
  double gain = 1;
};

class OrthogonalInitializer final : public LayerInitializer {
 public:
  using Params = OrthogonalParams;
  static Schema<Params> schema() {
    return Schema<Params>("Rows or columns at right angles, the fewer of them.")
        .source("Saxe et al. 2013, arXiv:1312.6120")
        .optional("gain", &Params::gain, "their length")
        .include(InitParams::schema());
  }
  explicit OrthogonalInitializer(const Params& p) : LayerInitializer(p), params_(p) {}
  void fill(torch::nn::Module& layer) const override {
    init_layer(layer, params_.bias_value(), [&](torch::Tensor w) {
      check_matrix(layer, w, "Orthogonal");
      torch::nn::init::orthogonal_(w, params_.gain);
    });
  }

 private:
  Params params_;
};
SEG_REGISTER_AS(Initializer, OrthogonalInitializer, "Orthogonal");

class Caffe2XavierInitializer final : public LayerInitializer {
 public:
  using Params = InitParams;
  static Schema<Params> schema() {
    return Schema<Params>("Uniform with variance 1 / fan in: Caffe2's XavierFill.")
        .include(InitParams::schema());
  }
  explicit Caffe2XavierInitializer(const Params& p) : LayerInitializer(p) {}
  void fill(torch::nn::Module& layer) const override {
    kaiming_init(layer, {.a = 1,
                         .fan_out = false,
                         .leaky_relu = true,
                         .bias = base_.bias_value(),
                         .uniform_distribution = true});
  }
};
SEG_REGISTER_AS(Initializer, Caffe2XavierInitializer, "Caffe2Xavier");

}  // namespace seg
