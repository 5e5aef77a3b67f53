/// The option `class_weight` of losses: a list, a file that holds one, or the rule that derives one
/// from the training data: "median_frequency" or "inverse".
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "registry/convert.hpp"
#include "segcore/models/nn/kept_constant.hpp"

namespace seg {

using ClassWeightOption = std::optional<std::variant<std::vector<double>, std::string>>;

/// Weights of classes, read once or set when the data set has been counted.
class ClassWeight {
 public:
  /// \throws OptionError ("class_weight") if the file cannot be read, or the weights are no
  /// weights.
  explicit ClassWeight(const ClassWeightOption& option);
  /// Whether the option is a rule that has not been given its counts. There are no weights until
  /// then, and in tests there are none.
  bool needs_counts() const { return !rule_.empty() && values_.empty(); }
  const std::string& rule() const { return rule_; }
  const std::vector<double>& values() const { return values_; }
  /// Derives the weights. Classes that do not occur have the weight 0.
  ///
  /// median_frequency: the median of all frequencies over that of the class, its frequency being
  /// its share of the pixels of the images in which it occurs (Eigen and Fergus 2014,
  /// arXiv:1411.4734). inverse: all pixels over those of the class, divided by the number of
  /// classes that occur. \param pixels  of each class. \param around  labelled pixels of the images
  /// in which it occurs. \throws DataError where no pixel is labelled.
  void set_counts(const std::vector<double>& pixels, const std::vector<double>& around);
  explicit operator bool() const { return !values_.empty(); }
  /// Float [C], of the type and device of `like`; undefined without weights.
  at::Tensor of(const at::Tensor& like) const;
  /// \throws OptionError unless there are as many weights as channels, or none.
  void check(int64_t channels) const;

 private:
  std::string rule_;  ///< empty: the values were given
  std::vector<double> values_;
  KeptConstant tensor_;
};

}  // namespace seg
