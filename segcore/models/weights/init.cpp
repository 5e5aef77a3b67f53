#include "segcore/models/weights/init.hpp"

#include <cmath>

#include "segcore/models/nn/base_module.hpp"
#include "segcore/models/weights/load_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

torch::Tensor own_parameter(torch::nn::Module& layer, const char* name) {
  auto parameters = layer.named_parameters(/*recurse=*/false);
  auto* found = parameters.find(name);
  return found ? *found : torch::Tensor();
}

/// Calls `fill` for the weight and sets the bias, if the layer has them.
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

Spec<Initializer> pretrained_below(const std::string& checkpoint, const std::string& prefix) {
  Config c;
  c.set("type", Config::of("Pretrained"));
  c.set("checkpoint", Config::of(checkpoint));
  if (!prefix.empty()) c.set("prefix", Config::of(prefix));
  Diagnostics problems;
  auto rule = Spec<Initializer>::parse(c, "pretrained", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  return *rule;
}

Spec<Initializer> pretrained_from(const std::string& checkpoint) {
  return pretrained_below(checkpoint, "");
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

/// \throws OptionError for a weight without inputs and outputs, a norm's for example.
void check_matrix(const torch::nn::Module& layer, const torch::Tensor& weight, const char* rule) {
  if (weight.dim() >= 2) return;
  throw OptionError("type", text(rule, " is for weights of two or more dimensions; that of ",
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

void caffe2_xavier_init(torch::nn::Module& layer, double bias) {
  kaiming_init(
      layer,
      {.a = 1, .fan_out = false, .leaky_relu = true, .bias = bias, .uniform_distribution = true});
}

void orthogonal_init(torch::nn::Module& layer, double gain, double bias) {
  init_layer(layer, bias, [&](torch::Tensor w) {
    check_matrix(layer, w, "Orthogonal");
    torch::nn::init::orthogonal_(w, gain);
  });
}

void xavier_matrices_init(torch::nn::Module& module, bool uniform_distribution) {
  for (auto& parameter : module.parameters()) {
    if (parameter.dim() <= 1) continue;
    if (uniform_distribution) {
      torch::nn::init::xavier_uniform_(parameter);
    } else {
      torch::nn::init::xavier_normal_(parameter);
    }
  }
}

void trunc_normal_(torch::Tensor tensor, double mean, double std, double a, double b) {
  torch::NoGradGuard no_grad;
  const auto cdf = [](double x) { return (1 + std::erf(x / std::sqrt(2.0))) / 2; };
  const double low = cdf((a - mean) / std);
  const double high = cdf((b - mean) / std);
  tensor.uniform_(2 * low - 1, 2 * high - 1).erfinv_();
  tensor.mul_(std * std::sqrt(2.0)).add_(mean).clamp_(a, b);
}

}  // namespace seg
