#include "segcore/models/nn/joined_maps.hpp"

#include <ATen/Functions.h>

#include "segcore/memory/recomputation.hpp"

namespace seg {

at::Tensor joined_maps(const std::vector<at::Tensor>& maps) {
  return recomputable(maps, [](const std::vector<at::Tensor>& in) { return at::cat(in, 1); });
}

}  // namespace seg
