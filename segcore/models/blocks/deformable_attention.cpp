#include "segcore/models/blocks/deformable_attention.hpp"

#include <numbers>

#include "segcore/ops/deformable_attention/deformable_attention.hpp"
#include "segcore/torch.hpp"

namespace seg {

MultiScaleDeformableAttention::MultiScaleDeformableAttention(const DeformableAttentionOptions& o)
    : o_(o) {
  SEG_CHECK(o.embed_dims % o.num_heads == 0, o.embed_dims, " channels cannot be divided among ",
            o.num_heads, " heads");
  const int64_t points = o.num_heads * o.num_levels * o.num_points;
  const auto value_width =
      static_cast<int64_t>(static_cast<double>(o.embed_dims) * o.value_proj_ratio);
  const auto linear = [this](const char* name, int64_t in, int64_t out) {
    return register_module(name, std::make_shared<Linear>(in, out));
  };
  dropout_ = register_module("dropout", std::make_shared<Dropout>(o.dropout));
  sampling_offsets_ = linear("sampling_offsets", o.embed_dims, 2 * points);
  attention_weights_ = linear("attention_weights", o.embed_dims, points);
  value_proj_ = linear("value_proj", o.embed_dims, value_width);
  output_proj_ = linear("output_proj", value_width, o.embed_dims);
  MultiScaleDeformableAttention::init_weights();
}

void MultiScaleDeformableAttention::init_weights() {
  const torch::NoGradGuard no_grad;
  // At first each head attends in its own direction, each point one step further.
  constant_init(*sampling_offsets_, 0);
  const auto angle = at::arange(o_.num_heads, at::TensorOptions(at::kFloat)) *
                     (2 * std::numbers::pi / static_cast<double>(o_.num_heads));
  auto direction = at::stack({angle.cos(), angle.sin()}, 1);
  direction = direction / direction.abs().amax(1, true);
  const auto step = at::arange(1, o_.num_points + 1, at::TensorOptions(at::kFloat));
  const auto grid = (direction.view({o_.num_heads, 1, 1, 2}) * step.view({1, 1, -1, 1}))
                        .expand({-1, o_.num_levels, -1, -1});
  sampling_offsets_->bias.copy_(grid.reshape({-1}));
  constant_init(*attention_weights_, 0);
  xavier_init(*value_proj_, 1, 0, /*uniform_distribution=*/true);
  xavier_init(*output_proj_, 1, 0, /*uniform_distribution=*/true);
}

torch::Tensor MultiScaleDeformableAttention::attend(const torch::Tensor& asked,
                                                    const torch::Tensor& values,
                                                    const torch::Tensor& reference,
                                                    const std::vector<Size2>& sizes) {
  const int64_t images = asked.size(0), queries = asked.size(1);
  const auto levels = static_cast<int64_t>(sizes.size());
  SEG_CHECK(levels == o_.num_levels, "expected ", o_.num_levels, " levels, got ", levels);
  const auto value = value_proj_->forward(values).view({images, values.size(1), o_.num_heads, -1});
  const auto offsets = sampling_offsets_->forward(asked)
                           .to(reference.scalar_type())
                           .view({images, queries, o_.num_heads, levels, -1, 2});
  const auto weights = attention_weights_->forward(asked)
                           .view({images, queries, o_.num_heads, -1})
                           .softmax(-1)
                           .view({images, queries, o_.num_heads, levels, -1});
  std::vector<int64_t> sides;  // height before width
  // Filled on the device: numbers that a GPU is sent are waited for.
  const auto unit = at::empty({1, 1, 1, levels, 1, 2}, offsets.options());
  for (int64_t level = 0; level < levels; ++level) {
    const Size2& size = sizes[static_cast<size_t>(level)];
    sides.insert(sides.end(), {size.h, size.w});
    const auto of_level = unit.select(3, level);
    of_level.select(-1, 0).fill_(size.w);
    of_level.select(-1, 1).fill_(size.h);
  }
  const auto locations = reference.view({1, queries, 1, 1, 1, 2}) + offsets / unit;
  return output_proj_->forward(deformable_attention(value, sides, locations, weights));
}

torch::Tensor MultiScaleDeformableAttention::forward(const torch::Tensor& query,
                                                     const torch::Tensor& query_pos,
                                                     const torch::Tensor& reference,
                                                     const std::vector<Size2>& sizes) {
  const auto asked = query_pos.defined() ? query + query_pos : query;
  return dropout_->forward(attend(asked, query, reference, sizes)) + query;
}

}  // namespace seg
