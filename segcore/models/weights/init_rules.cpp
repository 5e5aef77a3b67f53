/// The rules of `init_cfg` that fill layers. A row of the table is a struct: its options, the
/// sentence that describes it, and a function that fills one layer.
#include <algorithm>
#include <cmath>

#include "segcore/models/nn/base_module.hpp"
#include "segcore/torch.hpp"

namespace seg {

// --- Options of all rules -----------------------------------------------------------------------

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
                  "classes of layers that the rule is for: Conv2d, ...; all: every convolution and "
                  "linear layer, after the rules of all modules below")
        .optional("override", &InitParams::override_rules,
                  "children, by name, that the rule or another is applied to as a whole");
  }
  double bias_value() const { return bias_prob ? -std::log((1 - *bias_prob) / *bias_prob) : bias; }
};

// --- The table ----------------------------------------------------------------------------------

struct ConstantRule : InitParams {
  double val = 0;
  static Schema<ConstantRule> own_options() {
    return Schema<ConstantRule>("One value for all weights.")
        .required("val", &ConstantRule::val, "the value");
  }
  void fill(torch::nn::Module& m) const { constant_init(m, val, bias_value()); }
};

struct XavierRule : InitParams {
  double gain = 1;
  std::string distribution = "normal";
  static Schema<XavierRule> own_options() {
    return Schema<XavierRule>("Variance 2 gain^2 / (fan in + fan out).")
        .source("Glorot and Bengio 2010")
        .optional("gain", &XavierRule::gain, "factor")
        .optional("distribution", &XavierRule::distribution, "of the values",
                  one_of({"normal", "uniform"}));
  }
  void fill(torch::nn::Module& m) const {
    xavier_init(m, gain, bias_value(), distribution == "uniform");
  }
};

struct NormalRule : InitParams {
  double mean = 0;
  double std = 1;
  static Schema<NormalRule> own_options() {
    return Schema<NormalRule>("A normal distribution.")
        .optional("mean", &NormalRule::mean, "its mean")
        .optional("std", &NormalRule::std, "its standard deviation", at_least(0));
  }
  void fill(torch::nn::Module& m) const { normal_init(m, mean, std, bias_value()); }
};

struct TruncNormalRule : InitParams {
  double mean = 0;
  double std = 1;
  double a = -2;
  double b = 2;
  static Schema<TruncNormalRule> own_options() {
    return Schema<TruncNormalRule>("A normal distribution cut off at two values.")
        .optional("mean", &TruncNormalRule::mean, "its mean")
        .optional("std", &TruncNormalRule::std, "its standard deviation", above(0))
        .optional("a", &TruncNormalRule::a, "least value")
        .optional("b", &TruncNormalRule::b, "greatest value");
  }
  void fill(torch::nn::Module& m) const { trunc_normal_init(m, mean, std, a, b, bias_value()); }
};

struct UniformRule : InitParams {
  double a = 0;
  double b = 1;
  static Schema<UniformRule> own_options() {
    return Schema<UniformRule>("Equal probability between two bounds.")
        .optional("a", &UniformRule::a, "lower bound")
        .optional("b", &UniformRule::b, "upper bound");
  }
  void fill(torch::nn::Module& m) const { uniform_init(m, a, b, bias_value()); }
};

struct KaimingRule : InitParams {
  double a = 0;
  std::string mode = "fan_out";
  std::string nonlinearity = "relu";
  std::string distribution = "normal";
  static Schema<KaimingRule> own_options() {
    return Schema<KaimingRule>("Variance 2 / ((1 + a^2) fan), kept through rectifiers.")
        .source("He et al. 2015, arXiv:1502.01852")
        .optional("a", &KaimingRule::a, "negative slope of a leaky_relu")
        .optional("mode", &KaimingRule::mode,
                  "whose variance is kept: forwards fan_in, backwards fan_out",
                  one_of({"fan_in", "fan_out"}))
        .optional("nonlinearity", &KaimingRule::nonlinearity, "what follows the layer",
                  one_of({"relu", "leaky_relu"}))
        .optional("distribution", &KaimingRule::distribution, "of the values",
                  one_of({"normal", "uniform"}));
  }
  void fill(torch::nn::Module& m) const {
    kaiming_init(m, {.a = a,
                     .fan_out = mode == "fan_out",
                     .leaky_relu = nonlinearity == "leaky_relu",
                     .bias = bias_value(),
                     .uniform_distribution = distribution == "uniform"});
  }
};

struct OrthogonalRule : InitParams {
  double gain = 1;
  static Schema<OrthogonalRule> own_options() {
    return Schema<OrthogonalRule>("Rows or columns at right angles, the fewer of them.")
        .source("Saxe et al. 2013, arXiv:1312.6120")
        .optional("gain", &OrthogonalRule::gain, "their length");
  }
  void fill(torch::nn::Module& m) const { orthogonal_init(m, gain, bias_value()); }
};

struct Caffe2XavierRule : InitParams {
  static Schema<Caffe2XavierRule> own_options() {
    return Schema<Caffe2XavierRule>("Uniform with variance 1 / fan in: Caffe2's XavierFill.");
  }
  void fill(torch::nn::Module& m) const { caffe2_xavier_init(m, bias_value()); }
};

// --- Their implementation -----------------------------------------------------------------------

/// Fills the layers that a rule names, one at a time.
template <class Rule>
class LayerInitializer final : public Initializer {
 public:
  using Params = Rule;
  static Schema<Rule> schema() { return Rule::own_options().include(InitParams::schema()); }
  explicit LayerInitializer(const Rule& rule) : rule_(rule) {}

  void apply(torch::nn::Module& module) const override {
    if (rule_.layer) {
      for_each_module(module, [this](torch::nn::Module& m) {
        if (is_last_word() ? is_matrix_layer(m) : names(m)) rule_.fill(m);
      });
    }
    if (!rule_.override_rules) return;
    for (const auto& one : rule_.override_rules->values) {
      auto& child = child_of(module, one.name);
      if (one.rule) {
        one.rule.build()->apply_to_all(child);
      } else {
        apply_to_all(child);
      }
    }
  }

  bool is_last_word() const override {
    return rule_.layer && rule_.layer->values == std::vector<std::string>{"all"};
  }
  void apply_to_all(torch::nn::Module& module) const override {
    for_each_module(module, [this](torch::nn::Module& m) { rule_.fill(m); });
  }

 private:
  /// Whether a module is a layer of a weight with inputs and outputs, and perhaps a bias.
  static bool is_matrix_layer(const torch::nn::Module& module) {
    const auto parameters = module.named_parameters(/*recurse=*/false);
    const auto* weight = parameters.find("weight");
    return weight && weight->dim() >= 2;
  }
  /// Whether `layer` names the class of a module, or a base of it.
  bool names(const torch::nn::Module& module) const {
    const auto classes = layer_names(module);
    return std::ranges::any_of(rule_.layer->values, [&](const auto& name) {
      return std::ranges::find(classes, name) != classes.end();
    });
  }

  static torch::nn::Module& child_of(const torch::nn::Module& module, const std::string& name) {
    const auto children = module.named_children();
    if (const auto* child = children.find(name)) return **child;
    throw OptionError("override", text(layer_names(module).front(), " has no child '", name, "'.",
                                       did_you_mean(name, children.keys()),
                                       " Known: ", join(children.keys(), ", ")));
  }

  Rule rule_;
};

SEG_REGISTER_AS(Initializer, LayerInitializer<ConstantRule>, "Constant");
SEG_REGISTER_AS(Initializer, LayerInitializer<XavierRule>, "Xavier");
SEG_REGISTER_AS(Initializer, LayerInitializer<NormalRule>, "Normal");
SEG_REGISTER_AS(Initializer, LayerInitializer<TruncNormalRule>, "TruncNormal");
SEG_REGISTER_AS(Initializer, LayerInitializer<UniformRule>, "Uniform");
SEG_REGISTER_AS(Initializer, LayerInitializer<KaimingRule>, "Kaiming");
SEG_REGISTER_AS(Initializer, LayerInitializer<OrthogonalRule>, "Orthogonal");
SEG_REGISTER_AS(Initializer, LayerInitializer<Caffe2XavierRule>, "Caffe2Xavier");

}  // namespace seg
