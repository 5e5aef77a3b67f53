/// Products of packed matrices, a small part of the result at a time.
#pragma once
#include <cstdint>

namespace seg {

/// Rows and columns of a product_tile.
inline constexpr int64_t kTileRows = 12, kTileColumns = 32;

struct ProductTile {
  const float* a;  ///< [length, kTileRows]
  const float* b;  ///< [length, kTileColumns]
  int64_t length;
  float* c;  ///< [kTileRows, kTileColumns], rows `step` apart
  int64_t step;
  int64_t rows;  ///< of c, the others are left as they are
  bool add;      ///< to c, else c is overwritten
};

/// c = a^T b, of floats.
void product_tile(const ProductTile& tile);

/// Whether this machine has the instructions that make product_tile fast.
bool has_fast_products();

}  // namespace seg
