#include "segcore/evaluation/metric_names.hpp"

namespace seg {

std::vector<std::string> metric_names(const std::vector<std::unique_ptr<Metric>>& metrics) {
  SingleProcess alone;
  std::vector<std::string> names, classes;
  for (const auto& metric : metrics) {
    const MetricResult empty = metric->compute(alone);
    for (const auto& [name, value] : empty.scalars) names.push_back(name);
    for (const auto& [name, value] : empty.per_class) classes.push_back(name);
  }
  names.insert(names.end(), classes.begin(), classes.end());
  return names;
}

}  // namespace seg
