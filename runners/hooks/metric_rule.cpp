#include "runners/hooks/metric_rule.hpp"

#include <algorithm>

namespace seg {
namespace {

std::string lower_case(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return word;
}

}  // namespace

const std::vector<std::string>& default_greater_keys() {
  // MMEngine's, and the names of single classes and of the other metrics of segmentation.
  static const std::vector<std::string> keys{"acc", "top",   "AR@",    "auc",    "precision",
                                             "mAP", "mDice", "mIoU",   "mAcc",   "aAcc",
                                             "IoU", "Dice",  "Fscore", "recall", "kappa"};
  return keys;
}

const std::vector<std::string>& default_less_keys() {
  static const std::vector<std::string> keys{"loss"};
  return keys;
}

std::optional<std::string> infer_metric_rule(const std::string& metric,
                                             const std::vector<std::string>& greater_keys,
                                             const std::vector<std::string>& less_keys) {
  const std::string name = lower_case(metric);
  const auto equals = [&](const std::string& key) { return lower_case(key) == name; };
  const auto inside = [&](const std::string& key) {
    return name.find(lower_case(key)) != std::string::npos;
  };
  if (std::any_of(greater_keys.begin(), greater_keys.end(), equals)) return "greater";
  if (std::any_of(less_keys.begin(), less_keys.end(), equals)) return "less";
  if (std::any_of(greater_keys.begin(), greater_keys.end(), inside)) return "greater";
  if (std::any_of(less_keys.begin(), less_keys.end(), inside)) return "less";
  return std::nullopt;
}

}  // namespace seg
