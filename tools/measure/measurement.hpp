/// What the measurements of tools/benchmark are asked for and answer.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace seg {

using Measured = nlohmann::ordered_json;

struct BenchmarkArguments {
  std::string config, device, python, against, launcher = "none";
  std::optional<std::string> nproc;
  std::vector<std::string> overrides, what{"step"};
  std::vector<int64_t> threads, shape, pictures;
  int64_t iters = 20, warmup = 5, batch_size = 0, limit_s = 600;
  bool amp = false;
};

double seconds_now();

/// Six digits are enough to compare.
double rounded(double value);

/// The upper one of an even number. \param values  at least one.
double median(std::vector<double> values);

/// Mean, median and largest time of steps.
Measured time_summary(const std::vector<double>& seconds, int64_t images_a_step);

}  // namespace seg
