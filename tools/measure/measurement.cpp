#include "tools/measure/measurement.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace seg {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double unit = std::pow(10.0, 5 - std::floor(std::log10(std::abs(value))));
  return std::round(value * unit) / unit;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Measured time_summary(const std::vector<double>& seconds, int64_t images_a_step) {
  double sum = 0;
  for (const double s : seconds) sum += s;
  const double mean = sum / static_cast<double>(seconds.size());
  return {{"iters", seconds.size()},
          {"batch_size", images_a_step},
          {"seconds_per_step", rounded(mean)},
          {"seconds_per_step_median", rounded(median(seconds))},
          {"seconds_per_step_max", rounded(*std::ranges::max_element(seconds))},
          {"images_per_second", rounded(static_cast<double>(images_a_step) / mean)}};
}

}  // namespace seg
