/// Products of matrices of floats whose first factor is put in order once.
#pragma once
#include <cstdint>

namespace seg {

/// A matrix [rows, depth] in panels of kTileRows rows: [panels, depth, kTileRows].
int64_t packed_size(int64_t rows, int64_t depth);
/// \param a   the matrix: its rows are `row_step` apart, their numbers `step`.
/// \param to  packed_size floats, zero beyond the last row.
void pack_rows(const float* a, int64_t rows, int64_t depth, int64_t row_step, int64_t step,
               float* to);

/// c = a b for a in panels. All columns are written in whole tiles where `columns` is a multiple of
/// kTileColumns.
/// \param b     [depth, columns], rows b_step apart.
/// \param bias  [rows], added to the columns; or null.
/// \param c     [rows, columns], rows c_step apart.
void multiply_packed(const float* packed, int64_t rows, int64_t depth, const float* b,
                     int64_t b_step, int64_t columns, const float* bias, float* c, int64_t c_step);

}  // namespace seg
