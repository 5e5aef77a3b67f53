#include "segcore/ops/packed_product.hpp"

#include <algorithm>
#include <cstring>

#include "segcore/ops/product_tile.hpp"

namespace seg {
namespace {

/// Of a strip of b, which then stays in the first level cache.
constexpr int64_t kDepthBlock = 256;

void copy_columns(const float* from, float* to, int64_t columns) {
  std::memcpy(to, from, static_cast<size_t>(columns) * sizeof(float));
}

/// c [kTileRows, kTileColumns] of which only some columns lie in the matrix.
void multiply_beside_the_end(ProductTile tile, int64_t columns) {
  float whole[kTileRows * kTileColumns];
  float* const c = tile.c;
  if (tile.add) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      copy_columns(c + r * tile.step, whole + r * kTileColumns, columns);
    }
  }
  const int64_t step = tile.step;
  tile.c = whole;
  tile.step = kTileColumns;
  product_tile(tile);
  for (int64_t r = 0; r < tile.rows; ++r) {
    copy_columns(whole + r * kTileColumns, c + r * step, columns);
  }
}

}  // namespace

int64_t packed_size(int64_t rows, int64_t depth) {
  return (rows + kTileRows - 1) / kTileRows * kTileRows * depth;
}

void pack_rows(const float* a, int64_t rows, int64_t depth, int64_t row_step, int64_t step,
               float* to) {
  for (int64_t first = 0; first < rows; first += kTileRows, to += kTileRows * depth) {
    for (int64_t r = 0; r < kTileRows; ++r) {
      const bool inside = first + r < rows;
      const float* from = a + (inside ? first + r : 0) * row_step;
      for (int64_t d = 0; d < depth; ++d) to[d * kTileRows + r] = inside ? from[d * step] : 0.0F;
    }
  }
}

void multiply_packed(const float* packed, int64_t rows, int64_t depth, const float* b,
                     int64_t b_step, int64_t columns, const float* bias, float* c, int64_t c_step) {
  float strip[kDepthBlock * kTileColumns];
  if (bias) {
    for (int64_t r = 0; r < rows; ++r) std::fill_n(c + r * c_step, columns, bias[r]);
  }
  for (int64_t first = 0; first < depth; first += kDepthBlock) {
    const int64_t length = std::min(kDepthBlock, depth - first);
    for (int64_t column = 0; column < columns; column += kTileColumns) {
      const int64_t count = std::min(kTileColumns, columns - column);
      for (int64_t d = 0; d < length; ++d) {
        const float* from = b + (first + d) * b_step + column;
        float* to = strip + d * kTileColumns;
        if (count == kTileColumns) {
          std::memcpy(to, from, kTileColumns * sizeof(float));
        } else {
          copy_columns(from, to, count);
          std::fill(to + count, to + kTileColumns, 0.0F);
        }
      }
      for (int64_t row = 0; row < rows; row += kTileRows) {
        const ProductTile tile{packed + row * depth + first * kTileRows,
                               strip,
                               length,
                               c + row * c_step + column,
                               c_step,
                               std::min(kTileRows, rows - row),
                               bias != nullptr || first > 0};
        if (count == kTileColumns) {
          product_tile(tile);
        } else {
          multiply_beside_the_end(tile, count);
        }
      }
    }
  }
}

}  // namespace seg
