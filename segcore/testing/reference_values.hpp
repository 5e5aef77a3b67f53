/// The formulas that give weights, images and labels, so that Python can make fixtures from the
/// same.
#pragma once
#include <torch/nn/module.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace seg::reference {

/// The hash that seeds the numbers of a name.
uint64_t fnv1a(std::string_view name);
/// `count` numbers in [0, 1) that belong to a name; float64, exact in float32.
torch::Tensor uniform(std::string_view name, int64_t count);
/// The source of the random numbers that fixtures' models draw in their forward pass: those of the
/// name "rand", the same in every draw of a shape.
torch::Tensor random_numbers(at::IntArrayRef shape, const at::TensorOptions& options);
/// Values of the tensor `name` of a state dict, float64 of float32 values; nothing for integers,
/// which keep their values.
torch::Tensor weight_values(std::string_view name, const torch::Tensor& like, double gain);
/// Fills all floating point tensors of a model.
void fill(torch::nn::Module& model, double gain);
/// Images [N, C, H, W], float64.
torch::Tensor image(const std::vector<int64_t>& shape);
/// Labels [N, H, W], int64: blocks of 8x8 pixels; with `ignored` one in 16 is 255.
torch::Tensor labels(const std::vector<int64_t>& shape, int64_t classes, bool ignored = true);
/// Maps of depth [N, H, W], float64 in [0, 10): 0, unknown, where the formula gives less than 0.5.
torch::Tensor depth(const std::vector<int64_t>& shape);
/// Boundary maps [N, H, W], int64: blocks of 4x4 pixels.
torch::Tensor edges(const std::vector<int64_t>& shape);

}  // namespace seg::reference
