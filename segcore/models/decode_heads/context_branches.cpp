#include "segcore/models/decode_heads/context_branches.hpp"

#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

ContextBranchesHead::ContextBranchesHead(
    const DecodeHeadParams& p, const std::vector<FeatureInfo>& inputs, const std::string& branches,
    const std::vector<int64_t>& scales,
    const std::function<std::shared_ptr<Layer>(int64_t in, int64_t scale)>& make_branch)
    : DecodeHead(p, inputs) {
  branches_ = register_module(branches, std::make_shared<ListOf<Layer>>());
  for (const int64_t scale : scales) branches_->push_back(make_branch(in_channels(), scale));
  const int64_t joined = in_channels() + static_cast<int64_t>(scales.size()) * p.channels;
  bottleneck_ = register_module("bottleneck", head_conv(p, joined, p.channels, 3));
}

torch::Tensor ContextBranchesHead::forward(const std::vector<torch::Tensor>& features) {
  std::vector<torch::Tensor> maps{select_one(features)};
  for (const auto& branch : *branches_) maps.push_back(branch->forward(maps[0]));
  return cls_seg(bottleneck_->forward(joined_maps(maps)));
}

}  // namespace seg
