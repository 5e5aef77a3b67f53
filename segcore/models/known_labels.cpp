#include "segcore/models/known_labels.hpp"

#include <algorithm>

namespace seg {
namespace {

thread_local const std::vector<std::vector<int64_t>>* known = nullptr;
thread_local LabelChecks* checks = nullptr;

}  // namespace

bool all_fit(const std::vector<std::vector<int64_t>>& values,
             const std::vector<LabelBounds>& bounds) {
  if (values.empty()) return bounds.empty();
  return std::all_of(bounds.begin(), bounds.end(), [&](const LabelBounds& of_loss) {
    return std::all_of(values.begin(), values.end(), [&](const auto& of_image) {
      return std::all_of(of_image.begin(), of_image.end(),
                         [&](int64_t label) { return of_loss.fits(label); });
    });
  });
}

KnownLabels::KnownLabels(const std::vector<std::vector<int64_t>>& values) : outer_(known) {
  known = &values;
}

KnownLabels::~KnownLabels() { known = outer_; }

bool KnownLabels::all_fit(const LabelBounds& bounds) {
  return known && seg::all_fit(*known, {bounds});
}

LabelChecks::LabelChecks() : outer_(checks) { checks = this; }

LabelChecks::~LabelChecks() { checks = outer_; }

void LabelChecks::note(const LabelBounds& bounds) {
  if (checks) checks->bounds_.push_back(bounds);
}

}  // namespace seg
