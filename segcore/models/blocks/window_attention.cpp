#include "segcore/models/blocks/window_attention.hpp"

#include <array>
#include <cmath>

#include "segcore/memory/recomputation.hpp"
#include "segcore/models/blocks/windows.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/torch.hpp"

namespace seg {

WindowAttention::WindowAttention(const WindowAttentionOptions& o)
    : heads_(o.heads),
      scale_(o.scale.value_or(1 / std::sqrt(static_cast<double>(o.dims / o.heads)))),
      attn_drop_(o.attn_drop) {
  const int64_t side = o.side, span = 2 * side - 1;
  table_ = register_parameter("relative_position_bias_table", torch::zeros({span * span, o.heads}));
  const auto steps =
      (torch::arange(0, span * side, span).unsqueeze(1) + torch::arange(side).unsqueeze(0))
          .reshape({1, -1});
  index_ = register_buffer("relative_position_index", (steps + steps.t()).flip({1}).contiguous());
  qkv_ = register_module("qkv", std::make_shared<Linear>(o.dims, 3 * o.dims, o.qkv_bias));
  proj_ = register_module("proj", std::make_shared<Linear>(o.dims, o.dims));
  proj_drop_ = register_module("proj_drop", std::make_shared<Dropout>(o.proj_drop));
}

torch::Tensor WindowAttention::forward(const torch::Tensor& x, const torch::Tensor& mask) {
  const int64_t n = x.size(0), length = x.size(1), c = x.size(2);
  auto bias = relative_position_bias(table_, index_);  // [heads, L, L]
  if (mask.defined()) {                                // [windows, heads, L, L]
    bias = recomputable({bias, mask}, [](const auto& in) { return in[0] + in[1].unsqueeze(1); });
  }
  auto parts = split_heads(qkv_->forward(x), heads_);
  if (mask.defined()) {
    for (auto& part : parts) part = part.unflatten(0, {-1, mask.size(0)});
  }
  const auto& [q, k, v] = parts;  // [n, heads, L, C / heads], or [images, windows, heads, ...]
  const auto out =
      attention(q, k, v, bias, {.dropout = is_training() ? attn_drop_ : 0.0, .scale = scale_});
  return proj_drop_->forward(proj_->forward(out.transpose(-3, -2).reshape({n, length, c})));
}

void WindowAttention::init_weights() { trunc_normal_(table_, 0, 0.02); }

torch::Tensor ShiftedWindows::forward(const torch::Tensor& tokens, Size2 size,
                                      WindowAttention& attention) {
  const int64_t n = tokens.size(0), c = tokens.size(2);
  const int64_t right = (side_ - size.w % side_) % side_;
  const int64_t bottom = (side_ - size.h % side_) % side_;
  const int64_t h = size.h + bottom, w = size.w + right;
  const auto windows = recomputable({tokens}, [=, side = side_, shift = shift_](const auto& in) {
    auto x = in[0].view({n, size.h, size.w, c});
    if (right > 0 || bottom > 0) x = at::constant_pad_nd(x, {0, 0, 0, right, 0, bottom});
    if (shift > 0) x = x.roll({-shift, -shift}, {1, 2});
    return split_windows(x.contiguous(), side);
  });
  const auto mask = shift_ > 0 ? shift_mask(h, w, tokens.options()) : torch::Tensor();
  auto x = join_windows(attention.forward(windows, mask), side_, h, w);
  if (shift_ > 0) x = x.roll({shift_, shift_}, {1, 2});
  if (right > 0 || bottom > 0) x = x.narrow(1, 0, size.h).narrow(2, 0, size.w);
  return x.reshape({n, size.h * size.w, c});
}

torch::Tensor ShiftedWindows::shift_mask(int64_t h, int64_t w,
                                         const torch::TensorOptions& options) {
  if (mask_.defined() && mask_size_ == Size2(h, w) && mask_.device() == options.device() &&
      mask_.dtype() == options.dtype()) {
    return mask_;
  }
  torch::NoGradGuard no_grad;
  auto regions = torch::zeros({1, h, w, 1}, options);
  const std::array<int64_t, 4> rows{0, h - side_, h - shift_, h};
  const std::array<int64_t, 4> columns{0, w - side_, w - shift_, w};
  double region = 0;
  for (size_t i = 0; i < 3; ++i) {
    for (size_t k = 0; k < 3; ++k) {
      regions.narrow(1, rows[i], rows[i + 1] - rows[i])
          .narrow(2, columns[k], columns[k + 1] - columns[k])
          .fill_(region++);
    }
  }
  const auto windows = split_windows(regions, side_).squeeze(2);
  const auto differs = windows.unsqueeze(1) != windows.unsqueeze(2);
  mask_ = torch::zeros(differs.sizes(), options).masked_fill_(differs, -100.0);
  mask_size_ = {h, w};
  return mask_;
}

}  // namespace seg
