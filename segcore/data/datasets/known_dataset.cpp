#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {

KnownClasses known_classes(std::span<const KnownClass> classes) {
  KnownClasses out;
  for (const KnownClass& known : classes) {
    out.names.emplace_back(known.name);
    out.palette.push_back(known.color);
  }
  return out;
}

}  // namespace seg
