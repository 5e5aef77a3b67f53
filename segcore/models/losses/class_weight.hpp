/// The option `class_weight` of losses: a list, or a file that holds one.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "registry/convert.hpp"

namespace seg {

using ClassWeightOption = std::optional<std::variant<std::vector<double>, std::string>>;

/// Weights of classes, read once.
class ClassWeight {
 public:
  /// \throws OptionError ("class_weight") if the file cannot be read, or the weights are no
  /// weights.
  explicit ClassWeight(const ClassWeightOption& option);
  explicit operator bool() const { return !values_.empty(); }
  /// Float [C], of the type and device of `like`; undefined without weights.
  at::Tensor of(const at::Tensor& like) const;
  /// \throws OptionError unless there are as many weights as channels, or none.
  void check(int64_t channels) const;

 private:
  std::vector<double> values_;
  mutable at::Tensor cached_;
};

}  // namespace seg
