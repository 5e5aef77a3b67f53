#include "segcore/testing/reference_values.hpp"

#include <cmath>

#include "segcore/io/weights.hpp"
#include "segcore/torch.hpp"

namespace seg::reference {

uint64_t fnv1a(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

torch::Tensor uniform(std::string_view name, int64_t count) {
  const uint64_t seed = fnv1a(name);
  auto out = torch::empty({count}, torch::kFloat64);
  auto* data = out.data_ptr<double>();
  for (int64_t i = 0; i < count; ++i) {
    uint64_t z = seed + (static_cast<uint64_t>(i) + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    data[i] = static_cast<double>(z >> 40) / 16777216.0;
  }
  return out;
}

torch::Tensor random_numbers(at::IntArrayRef shape, const at::TensorOptions& options) {
  const auto values = uniform("rand", c10::multiply_integers(shape)).reshape(shape);
  return values.to(options.device(), options.dtype().toScalarType());
}

torch::Tensor weight_values(std::string_view name, const torch::Tensor& like, double gain) {
  if (!like.is_floating_point()) return {};
  auto s = uniform(name, like.numel()).mul_(2).sub_(1);
  if (name.ends_with("running_var")) {
    s.mul_(0.25).add_(1);
  } else if (name.ends_with("running_mean")) {
    s.mul_(0.1);
  } else if (like.dim() >= 2 && like.size(0) == 1 && !name.ends_with("weight")) {
    s.mul_(0.5);
  } else if (like.dim() >= 2) {
    const double fan_in = static_cast<double>(like.numel()) / static_cast<double>(like.size(0));
    s.mul_(std::sqrt(3.0 * gain / fan_in));
  } else if (like.dim() == 1 && name.ends_with("weight")) {
    s.mul_(0.1).add_(1);
  } else {
    s.mul_(0.1);
  }
  return s.to(torch::kFloat32).to(torch::kFloat64).reshape(like.sizes());
}

void fill(torch::nn::Module& model, double gain) {
  torch::NoGradGuard no_grad;
  const Value state = state_dict(model);
  for (const auto& [name, value] : state.as_dict()) {
    auto tensor = value.as_tensor();
    const auto values = weight_values(name.as_string(), tensor, gain);
    if (values.defined()) tensor.copy_(values);
  }
}

torch::Tensor image(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  return uniform("image", count)
      .mul_(2)
      .sub_(1)
      .to(torch::kFloat32)
      .mul_(2)
      .to(torch::kFloat64)
      .reshape(shape);
}

namespace {

/// Values of blocks, [N * rows * columns], as maps [N, H, W].
torch::Tensor spread_blocks(const torch::Tensor& values, const std::vector<int64_t>& shape,
                            int64_t side) {
  const int64_t rows = (shape[1] + side - 1) / side;
  const int64_t columns = (shape[2] + side - 1) / side;
  return values.reshape({shape[0], rows, columns})
      .repeat_interleave(side, 1)
      .repeat_interleave(side, 2)
      .narrow(1, 0, shape[1])
      .narrow(2, 0, shape[2])
      .contiguous();
}

int64_t block_count(const std::vector<int64_t>& shape, int64_t side) {
  return shape[0] * ((shape[1] + side - 1) / side) * ((shape[2] + side - 1) / side);
}

}  // namespace

torch::Tensor labels(const std::vector<int64_t>& shape, int64_t classes, bool ignored) {
  const int64_t count = block_count(shape, 8);
  auto values = uniform("labels", count).mul(static_cast<double>(classes)).floor().to(torch::kLong);
  if (ignored) values.masked_fill_(uniform("ignored", count) < 1.0 / 16, 255);
  return spread_blocks(values, shape, 8);
}

torch::Tensor depth(const std::vector<int64_t>& shape) {
  const auto values = uniform("depth", shape[0] * shape[1] * shape[2]).mul(10);
  return values.masked_fill(values < 0.5, 0).reshape(shape);
}

torch::Tensor edges(const std::vector<int64_t>& shape) {
  const auto values = (uniform("edges", block_count(shape, 4)) < 0.25).to(torch::kLong);
  return spread_blocks(values, shape, 4);
}

}  // namespace seg::reference
