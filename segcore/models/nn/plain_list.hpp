/// Lists whose elements keep their first values.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Children "0", "1", ... of one type, as in a torch.nn.ModuleList: init_weights of the parent
/// skips them. They keep the values of their constructors, or of the parent's own rules.
template <class T>
class PlainListOf final : public BaseModule {
 public:
  std::shared_ptr<T> push_back(std::shared_ptr<T> module) {
    items_.push_back(register_module(std::to_string(items_.size()), std::move(module)));
    return items_.back();
  }
  void init_weights() override {}
  size_t size() const { return items_.size(); }
  T& operator[](size_t i) { return *items_.at(i); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }

 private:
  std::vector<std::shared_ptr<T>> items_;
};

}  // namespace seg
