/// Bilinear resizing of a side as a matrix.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace seg {

/// How much each place of a side counts for each position of its resized one: [out, in] of the type
/// and device of `options`.
/// \param factor  that positions are mapped by; none: out / in.
at::Tensor bilinear_weights(int64_t in, int64_t out, std::optional<double> factor,
                            bool align_corners, const at::TensorOptions& options);

}  // namespace seg
