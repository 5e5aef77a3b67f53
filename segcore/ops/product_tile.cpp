#include "segcore/ops/product_tile.hpp"

#include "segcore/cpu_vector.hpp"

namespace seg {
namespace {

/// Rows of the result from `row`, columns from `column`, all in registers.
template <class Vector, int kRows>
SEG_VECTOR_BODY void product_part(const ProductTile& t, int64_t row, int64_t column) {
  constexpr int kVectors = 2;
  constexpr int64_t kLanes = sizeof(Vector) / sizeof(float);
  Vector sums[kRows][kVectors] = {};
  const float* a = t.a + row;
  const float* b = t.b + column;
  for (int64_t l = 0; l < t.length; ++l, a += kTileRows, b += kTileColumns) {
    Vector of_b[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) of_b[v] = vec::load_as<Vector>(b + v * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[r][v] += a[r] * of_b[v];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    if (row + r >= t.rows) break;
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      float* c = t.c + (row + r) * t.step + column + v * kLanes;
      vec::store_as(c, t.add ? vec::load_as<Vector>(c) + sums[r][v] : sums[r][v]);
    }
  }
}

template <class Vector, int kRows>
SEG_VECTOR_BODY void product_body(const ProductTile& t) {
  constexpr int64_t kColumns = 2 * sizeof(Vector) / sizeof(float);
  for (int64_t column = 0; column < kTileColumns; column += kColumns) {
    for (int64_t row = 0; row < t.rows; row += kRows) product_part<Vector, kRows>(t, row, column);
  }
}

#if defined(__x86_64__)
using F16 = float __attribute__((vector_size(64)));
__attribute__((target("avx512f"))) void product_avx512(const ProductTile& t) {
  product_body<F16, 12>(t);
}
__attribute__((target("avx2,fma"))) void product_avx2(const ProductTile& t) {
  product_body<vec::F8, 6>(t);
}
#endif
void product_plain(const ProductTile& t) { product_body<vec::F4, 4>(t); }

using Product = void (*)(const ProductTile&);

Product fastest_product() {
#if defined(__x86_64__)
  if (has_avx512()) return product_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return product_avx2;
#endif
  return product_plain;
}

}  // namespace

void product_tile(const ProductTile& tile) {
  static const Product product = fastest_product();
  product(tile);
}

bool has_fast_products() {
  static const bool fast = fastest_product() != product_plain;
  return fast;
}

}  // namespace seg
