/// Heads that look at a map at several scales side by side.
#pragma once
#include <functional>

#include "segcore/models/decode_heads/head_conv.hpp"

namespace seg {

/// A branch for each scale beside the map itself, joined by a 3x3 convolution: children
/// `<branches>.<i>`, `bottleneck`.
class ContextBranchesHead : public DecodeHead {
 public:
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override;

 protected:
  /// \param branches  name of the list of branches.
  /// \param make_branch  from the width of the map and a scale: a layer that gives
  ///                     [N, channels, H, W].
  ContextBranchesHead(
      const DecodeHeadParams& p, const std::vector<FeatureInfo>& inputs,
      const std::string& branches, const std::vector<int64_t>& scales,
      const std::function<std::shared_ptr<Layer>(int64_t in, int64_t scale)>& make_branch);

 private:
  std::shared_ptr<ListOf<Layer>> branches_;
  std::shared_ptr<ConvModule> bottleneck_;
};

}  // namespace seg
