#include "segcore/models/nn/base_module.hpp"

#include <cmath>

#include "segcore/models/nn/recompute.hpp"
#include "segcore/ops/linear/linear.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Looks through LibTorch's lists, as mmengine does through PyTorch's.
void base_module_init_below(torch::nn::Module& parent) {
  for (const auto& child : parent.children()) {
    if (auto* module = dynamic_cast<BaseModule*>(child.get())) {
      module->init_weights();
    } else {
      base_module_init_below(*child);
    }
  }
}

}  // namespace

std::vector<Spec<Initializer>> BaseModule::pretrained_rules() const {
  std::vector<Spec<Initializer>> out;
  if (!init_cfg_) return out;
  for (const auto& rule : init_cfg_->values) {
    if (rule.build()->reads_file()) out.push_back(rule);
  }
  return out;
}

void BaseModule::apply_init_cfg() { apply_rules(/*last_word=*/false); }

void BaseModule::initialize() {
  init_weights();
  for_each_module(*this, [](torch::nn::Module& module) {
    if (auto* own = dynamic_cast<BaseModule*>(&module)) own->apply_rules(/*last_word=*/true);
  });
}

void BaseModule::apply_rules(bool last_word) {
  if (!init_cfg_) return;
  for (const auto& rule : init_cfg_->values) {
    const auto initializer = rule.build();
    if (initializer->reads_file() || initializer->is_last_word() != last_word) continue;
    try {
      initializer->apply(*this);
    } catch (const OptionError& e) {
      throw detail::located(e, rule.config(), rule.path());
    }
  }
}

void BaseModule::init_children() { base_module_init_below(*this); }

void BaseModule::init_weights() {
  apply_init_cfg();
  init_children();
}

void for_each_module(torch::nn::Module& root,
                     const std::function<void(torch::nn::Module&)>& visit) {
  visit(root);
  for (const auto& child : root.children()) for_each_module(*child, visit);
}

std::vector<std::string> BaseModule::python_names() const {
  std::string name = this->name();
  if (const size_t at = name.rfind("::"); at != std::string::npos) name = name.substr(at + 2);
  return {name};
}

void Sequential::push_back(std::shared_ptr<Layer> layer) {
  push_back(std::to_string(layers_.size()), std::move(layer));
}

void Sequential::push_back(const std::string& name, std::shared_ptr<Layer> layer) {
  layers_.push_back(register_module(name, std::move(layer)));
}

torch::Tensor Sequential::forward(const torch::Tensor& x) {
  torch::Tensor out = x;
  for (const auto& layer : layers_) out = forward_in_sequence(*layer, out);
  return out;
}

Linear::Linear(int64_t in_features, int64_t out_features, bool with_bias) {
  weight = register_parameter("weight", torch::empty({out_features, in_features}));
  torch::nn::init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (with_bias) {
    bias = register_parameter("bias", torch::empty({out_features}));
    const double bound = 1 / std::sqrt(static_cast<double>(in_features));
    torch::nn::init::uniform_(bias, -bound, bound);
  }
}

torch::Tensor Linear::forward(const torch::Tensor& x) { return linear_rows(x, weight, bias); }

TypeDoc Convert<Size2>::type() {
  return Convert<std::variant<int64_t, std::array<int64_t, 2>>>::type();
}

std::optional<Size2> Convert<Size2>::from(const Config& c, const std::string& path,
                                          Diagnostics& problems) {
  const auto value =
      Convert<std::variant<int64_t, std::array<int64_t, 2>>>::from(c, path, problems);
  if (!value) return std::nullopt;
  if (const auto* both = std::get_if<int64_t>(&*value)) return Size2(*both);
  const auto& two = std::get<1>(*value);
  return Size2(two[0], two[1]);
}

std::string Convert<Size2>::show(const Size2& value) {
  return value.h == value.w ? text(value.h) : text("[", value.h, ", ", value.w, "]");
}

}  // namespace seg
