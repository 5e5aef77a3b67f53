/// What transforms of volumes have in common.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <string_view>

#include "segcore/data/sample.hpp"

namespace seg {

/// \throws DataError where the sample has no volume: the pipeline lacks a step that loads it.
void require_volume(const Sample& sample, std::string_view transform);

/// A volume [z, y, x] filtered along each axis with a Gaussian, as scipy.ndimage.gaussian_filter:
/// cut at four sigmas, and reflected at the edges with the edge repeated. An axis of sigma 0 stays.
at::Tensor gaussian_filter(const at::Tensor& volume, const std::array<double, 3>& sigma);

}  // namespace seg
