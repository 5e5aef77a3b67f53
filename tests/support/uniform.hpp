/// The numbers that all references are made from: a hash of a name and a counter.
#pragma once
#include <torch/torch.h>

#include <string_view>

namespace seg::test {

/// `count` numbers in [0, 1), double: FNV-1a of the name, then SplitMix64.
inline torch::Tensor uniform(std::string_view name, int64_t count) {
  uint64_t seed = 0xCBF29CE484222325u;
  for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
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

}  // namespace seg::test
