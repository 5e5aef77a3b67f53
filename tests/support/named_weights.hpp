/// Weights with the names and shapes of published ones.
#pragma once
#include <ATen/Functions.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "segcore/io/value.hpp"
#include "tests/support/paths.hpp"

namespace seg::test {

/// Random weights with the names and shapes of a file of tests/data/weight_names, whose lines are
/// "name 1,2,3".
inline Value weights_named_as(const std::string& name) {
  std::ifstream file(source_path("tests/data/weight_names/" + name + ".txt"));
  ValueDict out;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key, sizes;
    words >> key >> sizes;
    std::vector<int64_t> shape;
    std::istringstream numbers(sizes);
    for (std::string n; std::getline(numbers, n, ',');) shape.push_back(std::stoll(n));
    out.emplace_back(key, at::rand(shape));
  }
  return Value::dict(std::move(out));
}

}  // namespace seg::test
