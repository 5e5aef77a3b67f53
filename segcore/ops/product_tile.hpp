/// Products of matrices, a small part of the result at a time.
#pragma once
#include <cstdint>

namespace seg {

/// Rows and columns of a product_tile.
inline constexpr int64_t kTileRows = 12, kTileColumns = 32;

/// Of packed matrices.
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

/// Columns of a product_block are a multiple of it.
inline constexpr int64_t kBlockColumns = 16;

/// Of matrices as they lie in memory, of which the second fits into the cache.
struct ProductBlock {
  const float* a;  ///< [rows, length], rows a_step apart; with turned_a [length, rows]
  int64_t a_step;
  bool turned_a;
  const float* b;  ///< [length, columns], rows b_step apart
  int64_t b_step;
  int64_t length;
  float* c;  ///< [rows, columns], rows c_step apart
  int64_t c_step;
  int64_t rows, columns;
  bool add;  ///< to c, else c is overwritten
};

/// c = a b, or with turned_a a^T b, of floats.
void product_block(const ProductBlock& block);

/// Whether this machine has the instructions that make products fast.
bool has_fast_products();

}  // namespace seg
