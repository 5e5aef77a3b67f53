/// Resizing of feature maps and logits.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// torch.nn.functional.interpolate of [N, C, H, W] to a size. `mode`: "bilinear", "nearest",
/// "nearest-exact", "bicubic" or "area".
torch::Tensor resize(const torch::Tensor& x, Size2 size, bool align_corners = false,
                     const std::string& mode = "bilinear");
/// The same by a factor: the size is floor(H * factor), and positions are mapped by the factor
/// itself, as interpolate does.
torch::Tensor resize_by(const torch::Tensor& x, double factor, bool align_corners = false,
                        const std::string& mode = "bilinear");
/// Bilinear `resize` as two matrix products in float32. Its gradient on a GPU is the same in every
/// run, so the functions above use it there under `randomness.deterministic`.
torch::Tensor resize_by_products(const torch::Tensor& x, Size2 size, bool align_corners,
                                 std::optional<double> factor = std::nullopt);
/// Height and width of a map.
inline Size2 map_size(const torch::Tensor& x) { return {x.size(-2), x.size(-1)}; }

}  // namespace seg
