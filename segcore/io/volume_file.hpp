/// Arrays of numbers in files of their own: NumPy's `.npy`, and NIfTI-1 (`.nii`, `.nii.gz`), in
/// which medical volumes are kept.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace seg {

/// By the ending of its name.
bool is_volume_file(std::string_view path);

/// An array with the shape and type of the file.
/// \param path  for messages. \throws DataError where it is damaged or holds no numbers.
at::Tensor decode_npy(std::span<const uint8_t> bytes, const std::string& path);

/// A volume, float64 [X, Y, Z] or with more dimensions, scaled as the file says; compressed by gzip
/// or not.
/// \param path  for messages. \throws DataError where it is damaged or of another kind.
at::Tensor decode_nifti(std::span<const uint8_t> bytes, const std::string& path);

}  // namespace seg
