/// The filters of rows in PNG files (PNG specification, 9.2): each byte is stored as its difference
/// to a prediction from the pixels to the left, above, and above to the left.
#pragma once
#include <array>
#include <cstdint>

namespace seg::detail {

inline constexpr int kPngFilters = 5;

/// Undoes the filter of a row of one band.
/// \param filter  less than kPngFilters.
/// \param above   the row before it, or zeros.
void unfilter_gray(int filter, const uint8_t* from, const uint8_t* above, uint8_t* to, int columns);

/// Four rows of RGB, one below the other, whose filters are undone at once.
struct FilteredColors {
  static constexpr int kRows = 4;
  /// Bytes behind each row of `from`, `above` and `to` that are read or written, too.
  static constexpr int kBehind = 1;
  std::array<int, kRows> filters;  ///< less than kPngFilters
  std::array<const uint8_t*, kRows> from;
  const uint8_t* above;  ///< the row before them as BGR, or zeros
  std::array<uint8_t*, kRows> to;
  int columns;
};
/// \param rows  of which `to` receives BGR.
void unfilter_colors(const FilteredColors& rows);

}  // namespace seg::detail
