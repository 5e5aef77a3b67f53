#include "segcore/models/known_labels.hpp"

#include <algorithm>

namespace seg {
namespace {

thread_local const std::vector<std::vector<int64_t>>* known = nullptr;

}  // namespace

KnownLabels::KnownLabels(const std::vector<std::vector<int64_t>>& values) : outer_(known) {
  known = &values;
}

KnownLabels::~KnownLabels() { known = outer_; }

bool KnownLabels::all_fit(int64_t count, int64_t ignore_index, bool below_zero_ignored) {
  if (!known || known->empty()) return false;
  const auto fits = [&](int64_t label) {
    return (label >= 0 && label < count) || label == ignore_index ||
           (label < 0 && below_zero_ignored);
  };
  return std::all_of(known->begin(), known->end(), [&](const auto& of_image) {
    return std::all_of(of_image.begin(), of_image.end(), fits);
  });
}

}  // namespace seg
