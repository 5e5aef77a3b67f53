#include "segcore/models/blocks/self_attention_block.hpp"

#include <cmath>

#include "segcore/ops/attention/attention.hpp"
#include "segcore/torch.hpp"

namespace seg {

SelfAttentionBlock::SelfAttentionBlock(const SelfAttentionOptions& options) : o_(options) {
  key_project_ = register_module("key_project", project(o_.key_in_channels, o_.channels,
                                                        o_.key_query_num_convs, o_.key_query_norm));
  if (o_.share_key_query) {
    query_project_ = register_module("query_project", key_project_);
  } else {
    query_project_ = register_module(
        "query_project",
        project(o_.query_in_channels, o_.channels, o_.key_query_num_convs, o_.key_query_norm));
  }
  value_project_ = register_module(
      "value_project", project(o_.key_in_channels, o_.with_out ? o_.channels : o_.out_channels,
                               o_.value_out_num_convs, o_.value_out_norm));
  if (o_.with_out) {
    out_project_ = register_module(
        "out_project",
        project(o_.channels, o_.out_channels, o_.value_out_num_convs, o_.value_out_norm));
  }
  if (o_.query_downsample) register_module("query_downsample", o_.query_downsample);
  if (o_.key_downsample) register_module("key_downsample", o_.key_downsample);
  SelfAttentionBlock::init_weights();
}

std::shared_ptr<Layer> SelfAttentionBlock::project(int64_t in, int64_t out, int64_t count,
                                                   bool norm) const {
  std::vector<std::shared_ptr<Layer>> convs;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = i == 0 ? in : out;
    if (norm) {
      convs.push_back(std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = from,
                                                                     .out_channels = out,
                                                                     .conv_cfg = o_.conv_cfg,
                                                                     .norm_cfg = o_.norm_cfg,
                                                                     .act_cfg = o_.act_cfg}));
    } else {
      convs.push_back(
          std::make_shared<Conv2d>(ConvOptions{.in_channels = from, .out_channels = out}));
    }
  }
  if (count == 1) return convs[0];
  auto row = std::make_shared<Sequential>();
  for (auto& conv : convs) row->push_back(std::move(conv));
  return row;
}

void SelfAttentionBlock::init_weights() {
  BaseModule::init_weights();
  // Without a norm the block outputs zero at first, so that it can be added to its input.
  if (auto* conv = dynamic_cast<Conv2d*>(out_project_.get())) constant_init(*conv, 0);
}

torch::Tensor SelfAttentionBlock::forward(const torch::Tensor& query_map,
                                          const torch::Tensor& key_map) {
  auto query = query_project_->forward(query_map);
  if (o_.query_downsample) query = o_.query_downsample->forward(query);
  auto key = key_project_->forward(key_map);
  auto value = value_project_->forward(key_map);
  if (o_.key_downsample) {
    key = o_.key_downsample->forward(key);
    value = o_.key_downsample->forward(value);
  }
  const int64_t height = query.size(2), width = query.dim() > 3 ? query.size(3) : 1;
  const auto pixels = [](const torch::Tensor& map) { return map.flatten(2).transpose(1, 2); };
  const double scale = o_.matmul_norm ? 1 / std::sqrt(static_cast<double>(o_.channels)) : 1.0;
  auto context = single_head_attention(pixels(query), pixels(key), pixels(value), scale)
                     .transpose(1, 2);  // [N, channels, H*W]
  context = context.reshape({context.size(0), context.size(1), height, width});
  return out_project_ ? out_project_->forward(context) : context;
}

}  // namespace seg
