#include "segcore/ops/product_tile.hpp"

#include "segcore/cpu_vector.hpp"

namespace seg {
namespace {

/// Some rows and columns of the result, all in registers.
/// \param block  begins with them.
template <class Vector, int kRows, int kVectors, bool kTurned>
SEG_VECTOR_BODY void product_part(const ProductBlock& block) {
  constexpr int64_t kLanes = sizeof(Vector) / sizeof(float);
  Vector sums[kRows][kVectors] = {};
  const float* rows[kRows];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) rows[r] = block.a + (kTurned ? r : r * block.a_step);
  const float* a = block.a;
  const float* b = block.b;
  for (int64_t l = 0; l < block.length; ++l, a += block.a_step, b += block.b_step) {
    Vector of_b[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) of_b[v] = vec::load_as<Vector>(b + v * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const float of_a = kTurned ? a[r] : rows[r][l];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[r][v] += of_a * of_b[v];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      float* c = block.c + r * block.c_step + v * kLanes;
      vec::store_as(c, block.add ? vec::load_as<Vector>(c) + sums[r][v] : sums[r][v]);
    }
  }
}

/// All rows of some columns, as many at a time as there are registers for.
template <class Vector, int kRows, int kVectors, bool kTurned>
SEG_VECTOR_BODY void product_rows(ProductBlock block) {
  const auto next = [&](int64_t rows) SEG_INLINE_LAMBDA {
    block.a += kTurned ? rows : rows * block.a_step;
    block.c += rows * block.c_step;
    block.rows -= rows;
  };
  for (; block.rows >= kRows; next(kRows)) product_part<Vector, kRows, kVectors, kTurned>(block);
  if constexpr (kRows > 8) {
    if (block.rows >= 8) {
      product_part<Vector, 8, kVectors, kTurned>(block);
      next(8);
    }
  }
  if (block.rows >= 4) {
    product_part<Vector, 4, kVectors, kTurned>(block);
    next(4);
  }
  for (; block.rows > 0; next(1)) product_part<Vector, 1, kVectors, kTurned>(block);
}

template <class Vector, bool kTurned>
SEG_VECTOR_BODY void product_columns(ProductBlock block) {
  constexpr int64_t kLanes = sizeof(Vector) / sizeof(float);
  constexpr int kRows = kLanes == 16 ? (kTurned ? 12 : 8) : kLanes == 8 ? 6 : 4;
  const auto next = [&](int64_t columns) SEG_INLINE_LAMBDA {
    block.b += columns;
    block.c += columns;
    block.columns -= columns;
  };
  for (; block.columns >= 2 * kLanes; next(2 * kLanes)) {
    product_rows<Vector, kRows, 2, kTurned>(block);
  }
  if constexpr (kBlockColumns < 2 * kLanes) {
    if (block.columns > 0) product_rows<Vector, kRows, 1, kTurned>(block);
  }
}

template <class Vector>
SEG_VECTOR_BODY void product_body(const ProductBlock& block, vec::Width<Vector> /*width*/) {
  if (block.turned_a) {
    product_columns<Vector, true>(block);
  } else {
    product_columns<Vector, false>(block);
  }
}

SEG_WIDEST_KERNEL(product_kernel, product_body, ProductBlock)

}  // namespace

void product_block(const ProductBlock& block) { product_kernel(block); }

void product_tile(const ProductTile& t) {
  product_kernel({t.a, kTileRows, /*turned_a=*/true, t.b, kTileColumns, t.length, t.c, t.step,
                  t.rows, kTileColumns, t.add});
}

bool has_fast_products() { return has_avx512() || has_avx2_and_fma(); }

}  // namespace seg
