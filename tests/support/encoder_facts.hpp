/// Encoders beside the facts that tests/data/encoders/ holds of them.
#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "segcore/io/sha256.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"

namespace seg::test {

/// The rows of a table, divided by tabs.
inline std::vector<std::vector<std::string>> encoder_table_rows(const std::string& file) {
  std::ifstream in(source_path("tests/data/encoders/" + file));
  std::vector<std::vector<std::string>> out;
  for (std::string line; std::getline(in, line);) {
    auto& row = out.emplace_back();
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, '\t');) row.push_back(cell);
  }
  return out;
}

/// 2x3x4
inline std::string shape_text(const torch::Tensor& tensor) {
  std::string out;
  for (const int64_t side : tensor.sizes()) {
    out += (out.empty() ? "" : "x") + std::to_string(side);
  }
  return out;
}

/// The rows of name, shape and type of a state dict.
inline std::set<std::string> state_rows(const torch::nn::Module& module) {
  std::set<std::string> rows;
  const Value state = state_dict(module);
  for (const auto& [name, value] : state.as_dict()) {
    const auto tensor = value.as_tensor();
    rows.insert(name.as_string() + "\t" + shape_text(tensor) + "\t" +
                (tensor.scalar_type() == torch::kLong ? "int64" : "float32"));
  }
  return rows;
}

/// SHA-256 of the sorted rows.
inline std::string state_digest(const torch::nn::Module& module) {
  std::string text;
  for (const auto& row : state_rows(module)) text += (text.empty() ? "" : "\n") + row;
  return sha256_of_text(text);
}

inline int64_t count_parameters(const torch::nn::Module& module) {
  int64_t out = 0;
  for (const auto& p : module.parameters()) out += p.numel();
  return out;
}

/// Compares a map with its shape, mean, standard deviation, first and last value in a row.
inline void expect_map(const torch::Tensor& map, const std::vector<std::string>& row,
                       size_t begin) {
  ASSERT_EQ(shape_text(map), row[begin]);
  const auto flat = map.flatten();
  const double std = flat.std(/*unbiased=*/false).item<double>();
  const double numbers[] = {flat.mean().item<double>(), std, flat[0].item<double>(),
                            flat[-1].item<double>()};
  for (size_t k = 0; k < 4; ++k) {
    EXPECT_NEAR(numbers[k], std::stod(row[begin + 1 + k]), 1e-6 * std) << "number " << k;
  }
}

/// After a backward pass: all parameters that are trained have gradients, and no other.
inline void expect_gradients_where_trained(const torch::nn::Module& module) {
  for (const auto& p : module.named_parameters()) {
    ASSERT_EQ(p.value().requires_grad(), p.value().grad().defined()) << p.key();
  }
}

/// Backward from the mean squares of all maps but the first, which is the image.
inline void backward_of_maps(const std::vector<torch::Tensor>& maps) {
  torch::Tensor sum = torch::zeros({});
  for (size_t i = 1; i < maps.size(); ++i) sum = sum + maps[i].square().mean();
  sum.backward();
}

}  // namespace seg::test
