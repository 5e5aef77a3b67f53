/// The names of results before there are any.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "segcore/evaluation/metric.hpp"

namespace seg {

/// What metrics that have seen no image call their results: first those of all classes ("mIoU"),
/// then those of each ("IoU.road").
std::vector<std::string> metric_names(const std::vector<std::unique_ptr<Metric>>& metrics);

}  // namespace seg
