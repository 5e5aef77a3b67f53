/// The pass of distort_colours for CPUs with AVX-512 (VBMI): 64 pixels at a time.
#pragma once
#include <array>
#include <cstdint>
#include <optional>

namespace seg::detail {

/// What each byte becomes; a cache line holds a part of it.
struct alignas(64) ByteTable {
  std::array<uint8_t, 256> bytes{};
};

/// A distortion of 8-bit BGR pixels; empty for a step that is left out.
struct TabledDistortion {
  std::optional<ByteTable> before;      ///< of the three bands, before saturation and hue
  std::optional<ByteTable> saturation;  ///< of OpenCV's HSV
  std::optional<int> hue;               ///< added, 0..179
  std::optional<ByteTable> after;       ///< of the three bands
};

bool has_avx512_vbmi();

/// Distorts the first pixels of a row as cv::cvtColor does where it truncates.
/// \return how many: as many times 64 as there are.
int distort_by_64(uint8_t* row, int count, const TabledDistortion& distortion);

}  // namespace seg::detail
