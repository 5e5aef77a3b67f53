/// Layers in a row whose tensors have the names of another library.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Registers a module under a dotted name below `root` ("features.0.1"); modules between are made
/// as needed.
void register_at(torch::nn::Module& root, const std::string& path,
                 const std::shared_ptr<torch::nn::Module>& module);

/// Layers in a row under dotted names, and a shortcut around them where one is added.
class NamedChain : public Layer {
 public:
  template <class L>
  std::shared_ptr<L> add(const std::string& path, std::shared_ptr<L> layer) {
    register_at(*this, path, layer);
    steps_.push_back([layer](const torch::Tensor& x) { return layer->forward(x); });
    return layer;
  }
  /// A function without parameters, or whose layers are registered apart.
  void then(std::function<torch::Tensor(const torch::Tensor&)> f) {
    steps_.push_back(std::move(f));
  }
  /// Adds the input to the output, which `drop` has passed where it is given.
  void add_shortcut(std::shared_ptr<Layer> drop = nullptr);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::vector<std::function<torch::Tensor(const torch::Tensor&)>> steps_;
  bool shortcut_ = false;
  std::shared_ptr<Layer> drop_;  ///< may be null
};

}  // namespace seg
