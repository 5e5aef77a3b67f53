#include <ATen/Parallel.h>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/conv2d/winograd_blocks.hpp"
#include "segcore/ops/conv2d/winograd_passes.hpp"
#include "segcore/ops/packed_product.hpp"
#include "segcore/ops/product_tile.hpp"
#include "segcore/ops/scratch.hpp"

namespace seg {
namespace {

/// The taps of eight kernels from a row, at a depth, [9, 8]; zero from row `end` on.
void gather_taps(const WinogradKernels& kernels, int64_t first_row, int64_t end, int64_t depth,
                 float* taps) {
  for (int64_t lane = 0; lane < vec::kLanes; ++lane) {
    const int64_t row = first_row + lane;
    const bool inside = row < end;
    const int64_t kernel = kernels.adjoint ? depth * kernels.in + row : row * kernels.in + depth;
    const float* from = kernels.weight + 9 * (inside ? kernel : 0);
    for (int64_t tap = 0; tap < 9; ++tap) {
      taps[tap * vec::kLanes + lane] = inside ? from[kernels.adjoint ? 8 - tap : tap] : 0.0F;
    }
  }
}

/// The 36 numbers of each kernel, for each number in panels as of pack_rows.
Scratch packed_kernels(const WinogradKernels& kernels, ChannelBlock rows, ChannelBlock depth) {
  using vec::kLanes;
  static_assert(kTileRows == kLanes + kLanes / 2);
  const int64_t end = rows.first + rows.count, step = spread(packed_size(rows.count, depth.count));
  Scratch out(kTileProducts * step);
  at::parallel_for(
      0, (rows.count + kTileRows - 1) / kTileRows, 1, [&](int64_t begin, int64_t last) {
        float taps[9 * kLanes], numbers[kTileProducts * kLanes];
        for (int64_t panel = begin; panel < last; ++panel) {
          for (int64_t d = 0; d < depth.count; ++d) {
            float* to = out.get() + (panel * depth.count + d) * kTileRows;
            for (int64_t first = 0; first < kTileRows; first += kLanes) {
              gather_taps(kernels, rows.first + panel * kTileRows + first, end, depth.first + d,
                          taps);
              transform_kernels(taps, numbers);
              for (int64_t i = 0; i < kTileProducts; ++i) {
                // Of a fixed size each: a call of memcpy takes longer than what it copies.
                if (first + kLanes <= kTileRows) {
                  vec::store(to + i * step + first, vec::load(numbers + i * kLanes));
                } else {
                  vec::store_as(to + i * step + first, vec::load_as<vec::F4>(numbers + i * kLanes));
                }
              }
            }
          }
        }
      });
  return out;
}

/// Some channels of the maps of a batch, each `image_step` from that of the next image.
template <class Float>
struct ChannelMaps {
  Float* first;
  int64_t pixels, image_step;
};

struct ConvolvedBlock {
  const float* packed;
  ChannelMaps<const float> x;
  ChannelMaps<float> y;
  int64_t depth, rows;
  const float* bias;  ///< null for none, as of all but the first channels that are added up
  bool add;           ///< to y
};

void convolve_block(const TileGrid& grid, const ConvolvedBlock& a) {
  const RowBlocks blocks(grid, a.depth + a.rows <= 192 ? 64 : 128);
  const int64_t step = round_up(blocks.size * grid.columns() + kTileSlack, kTileColumns);
  const int64_t of_kernels = spread(packed_size(a.rows, a.depth));
  const int64_t of_inputs = spread(a.depth * step), of_products = spread(a.rows * step);
  at::parallel_for(0, blocks.count(), 1, [&](int64_t begin, int64_t end) {
    const Scratch inputs(kTileProducts * of_inputs);
    const Scratch products(kTileProducts * of_products);
    for (int64_t b = begin; b < end; ++b) {
      const TileRows block = blocks.at(b);
      // Where there is one block, these share the threads.
      at::parallel_for(0, a.depth, 8, [&](int64_t first, int64_t last) {
        for (int64_t c = first; c < last; ++c) {
          transform_inputs(grid, block, a.x.first + c * a.x.pixels, a.x.image_step,
                           {inputs.get() + c * step, of_inputs});
        }
      });
      at::parallel_for(0, kTileProducts, 1, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          multiply_packed(a.packed + i * of_kernels, a.rows, a.depth, inputs.get() + i * of_inputs,
                          step, round_up(block.count * grid.columns(), kTileColumns),
                          /*bias=*/nullptr, products.get() + i * of_products, step);
        }
      });
      at::parallel_for(0, a.rows, 8, [&](int64_t first, int64_t last) {
        for (int64_t c = first; c < last; ++c) {
          transform_outputs(grid, block, {products.get() + c * step, of_products},
                            a.bias ? a.bias[c] : 0.0F, a.add, a.y.first + c * a.y.pixels,
                            a.y.image_step);
        }
      });
    }
  });
}

}  // namespace

void winograd_convolve(const TileGrid& grid, const WinogradKernels& kernels, const float* x,
                       const float* bias, float* y) {
  const int64_t pixels = grid.height * grid.width;
  for_channel_blocks(kernels.rows(), [&](ChannelBlock rows) {
    for_channel_blocks(kernels.depth(), [&](ChannelBlock depth) {
      const bool add = depth.first > 0;
      const Scratch packed = packed_kernels(kernels, rows, depth);
      convolve_block(grid, {packed.get(),
                            {x + depth.first * pixels, pixels, kernels.depth() * pixels},
                            {y + rows.first * pixels, pixels, kernels.rows() * pixels},
                            depth.count,
                            rows.count,
                            bias && !add ? bias + rows.first : nullptr,
                            add});
    });
  });
}

}  // namespace seg
