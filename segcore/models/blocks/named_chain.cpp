#include "segcore/models/blocks/named_chain.hpp"

#include "segcore/torch.hpp"

namespace seg {
namespace {

/// A module without a forward pass, for names between a chain and its layers.
class PathFolder final : public BaseModule {};

}  // namespace

void register_at(torch::nn::Module& root, const std::string& path,
                 const std::shared_ptr<torch::nn::Module>& module) {
  torch::nn::Module* parent = &root;
  size_t begin = 0;
  for (size_t end = path.find('.'); end != std::string::npos; end = path.find('.', begin)) {
    const auto name = path.substr(begin, end - begin);
    const auto children = parent->named_children();
    const auto* known = children.find(name);
    parent =
        known ? known->get() : parent->register_module(name, std::make_shared<PathFolder>()).get();
    begin = end + 1;
  }
  parent->register_module(path.substr(begin), module);
}

void NamedChain::add_shortcut(std::shared_ptr<Layer> drop) {
  shortcut_ = true;
  if (drop) drop_ = register_module("drop_path", std::move(drop));
}

torch::Tensor NamedChain::forward(const torch::Tensor& x) {
  auto out = x;
  for (const auto& step : steps_) out = step(out);
  if (!shortcut_) return out;
  return x + (drop_ ? drop_->forward(out) : out);
}

}  // namespace seg
