/// Whether more or less of a metric is better.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace seg {

/// "greater" or "less", by the names that MMEngine knows ("mIoU" is greater, "loss" is less);
/// nothing where the name decides neither.
std::optional<std::string> infer_metric_rule(const std::string& metric,
                                             const std::vector<std::string>& greater_keys,
                                             const std::vector<std::string>& less_keys);
const std::vector<std::string>& default_greater_keys();
const std::vector<std::string>& default_less_keys();

}  // namespace seg
