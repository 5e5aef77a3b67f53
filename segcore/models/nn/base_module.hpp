/// The bases of everything in a model: a module that can initialise itself, and a layer that maps
/// one tensor to one.
#pragma once
#include <torch/nn/module.h>

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "segcore/models/weights/init.hpp"

namespace seg {

/// A module with an `init_cfg`, as mmengine's BaseModule.
class BaseModule : public torch::nn::Module {
 public:
  /// Fills the weights: first by the rules of the `init_cfg`, then those of the children (so that a
  /// child's own rules win). Reads no file. Overridden by architectures with a recipe of their own.
  virtual void init_weights();
  /// Fills the weights of a whole model: init_weights, then the rules of `layer: all`.
  void initialize();
  /// The names by which `init_cfg: {layer: ...}` selects the module.
  virtual std::vector<std::string> python_names() const;
  /// The rules of the `init_cfg` that read files, in order. A run applies them when it starts, not
  /// when it resumes.
  std::vector<Spec<Initializer>> pretrained_rules() const;

 protected:
  BaseModule() = default;
  explicit BaseModule(InitCfg init_cfg) : init_cfg_(std::move(init_cfg)) {}
  /// Calls init_weights of the children, through lists and sequences.
  void init_children();
  /// Applies the rules of the `init_cfg` that read no file.
  void apply_init_cfg();

  InitCfg init_cfg_;

 private:
  void apply_rules(bool last_word);
};

/// One tensor in, one tensor out.
class Layer : public BaseModule {
 public:
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;
  torch::Tensor operator()(const torch::Tensor& x) { return forward(x); }
};

/// Layers in a row, registered as "0", "1", ...
class Sequential final : public Layer {
 public:
  Sequential() = default;
  Sequential(std::initializer_list<std::shared_ptr<Layer>> layers) {
    for (const auto& layer : layers) push_back(layer);
  }
  void push_back(std::shared_ptr<Layer> layer);
  void push_back(const std::string& name, std::shared_ptr<Layer> layer);
  torch::Tensor forward(const torch::Tensor& x) override;
  size_t size() const { return layers_.size(); }
  const std::shared_ptr<Layer>& operator[](size_t i) const { return layers_.at(i); }

 private:
  std::vector<std::shared_ptr<Layer>> layers_;
};

/// Children "0", "1", ... of one type.
template <class T>
class ListOf final : public BaseModule {
 public:
  std::shared_ptr<T> push_back(std::shared_ptr<T> module) {
    items_.push_back(register_module(std::to_string(items_.size()), std::move(module)));
    return items_.back();
  }
  size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  T& operator[](size_t i) { return *items_.at(i); }
  const std::vector<std::shared_ptr<T>>& items() const { return items_; }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  std::vector<std::shared_ptr<T>> items_;
};

/// A function as a layer without parameters; keeps the numbering of a Python sequence.
class Lambda final : public Layer {
 public:
  explicit Lambda(std::function<torch::Tensor(const torch::Tensor&)> f) : f_(std::move(f)) {}
  torch::Tensor forward(const torch::Tensor& x) override { return f_(x); }

 private:
  std::function<torch::Tensor(const torch::Tensor&)> f_;
};

class Identity final : public Layer {
 public:
  torch::Tensor forward(const torch::Tensor& x) override { return x; }
};

/// A fully connected layer over the last dimension, torch.nn.Linear.
class Linear final : public Layer {
 public:
  Linear(int64_t in_features, int64_t out_features, bool bias = true);
  torch::Tensor forward(const torch::Tensor& x) override;
  torch::Tensor weight;  ///< [out_features, in_features]
  torch::Tensor bias;    ///< [out_features] or undefined
};

/// Calls `visit` for a module and all below it, parents first.
void for_each_module(torch::nn::Module& root, const std::function<void(torch::nn::Module&)>& visit);

/// Height and width; one number sets both.
struct Size2 {
  int64_t h = 0, w = 0;
  constexpr Size2() = default;
  constexpr Size2(int64_t both) : h(both), w(both) {}  // NOLINT: literals become sizes
  constexpr Size2(int both) : h(both), w(both) {}      // NOLINT
  constexpr Size2(int64_t height, int64_t width) : h(height), w(width) {}
  bool operator==(const Size2&) const = default;
};

/// An option that takes an int or two: `kernel_size: 3`, `stride: [2, 1]`.
template <>
struct Convert<Size2> {
  static TypeDoc type();
  static std::optional<Size2> from(const Config&, const std::string& path, Diagnostics&);
  static std::string show(const Size2& value);
};

/// A lower bound for height and width.
inline auto sides_at_least(int64_t low) {
  return detail::AnyCheck{
      [low](const Size2& v) {
        return v.h >= low && v.w >= low
                   ? std::string()
                   : text("must be at least ", low, ", got ", Convert<Size2>::show(v));
      },
      std::function<void(TypeDoc&)>([low](TypeDoc& d) { d.minimum = static_cast<double>(low); })};
}

}  // namespace seg
