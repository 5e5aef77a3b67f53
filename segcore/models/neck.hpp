/// The interface of necks, which transform feature maps between backbone and heads.
#pragma once
#include "segcore/models/backbone.hpp"

namespace seg {

/// Turns one list of feature maps into another.
class Neck : public BaseModule {
 public:
  using BaseModule::BaseModule;
  virtual std::vector<torch::Tensor> forward(const std::vector<torch::Tensor>& features) = 0;
  virtual std::vector<FeatureInfo> features() const = 0;
};

/// Compares the option `in_channels` with what the backbone gives.
/// \throws OptionError where they differ.
void check_in_channels(const std::optional<std::vector<int64_t>>& given,
                       const std::vector<FeatureInfo>& inputs);

template <>
struct Category<Neck> {
  static constexpr std::string_view name = "neck";
  using Signature = std::shared_ptr<Neck>(const std::vector<FeatureInfo>& inputs);
};

}  // namespace seg
