#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "segcore/cpu_vector.hpp"
#include "segcore/ops/conv2d/winograd_blocks.hpp"
#include "segcore/ops/conv2d/winograd_passes.hpp"
#include "segcore/ops/packed_product.hpp"
#include "segcore/ops/product_tile.hpp"
#include "segcore/ops/scratch.hpp"

namespace seg {
namespace {

struct PackArguments {
  const float* numbers;  ///< [channels, step]
  int64_t channels, tiles, step, width;
  float* to;  ///< panels of [tiles, width], zero beyond the last channel
};

/// Four channels of four tiles at a time. \pre width is a multiple of four, and so is the room for
/// tiles of `numbers`
SEG_VECTOR_BODY void pack_body(const PackArguments& a) {
  using vec::F4;
  for (int64_t first = 0; first < round_up(a.channels, a.width); first += 4) {
    float* to = a.to + first / a.width * a.width * a.tiles + first % a.width;
    for (int64_t t = 0; t < a.tiles; t += 4) {
      F4 x[4];
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        x[c] =
            first + c < a.channels ? vec::load_as<F4>(a.numbers + (first + c) * a.step + t) : F4{};
      }
      const F4 low01 = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5);
      const F4 high01 = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7);
      const F4 low23 = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5);
      const F4 high23 = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
      const F4 tiles[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                           __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                           __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                           __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        if (t + i < a.tiles) vec::store_as(to + (t + i) * a.width, tiles[i]);
      }
    }
  }
}
SEG_VECTOR_KERNEL(pack_columns, pack_body, PackArguments)

/// The numbers of some channels and tiles.
struct NumberBlock {
  const float* numbers;  ///< [channels, step]
  int64_t channels, step;
};

/// sums [outputs, sum_step] = or += gradients times inputs, transposed.
void multiply_outer(const NumberBlock& gradients, const NumberBlock& inputs, int64_t tiles,
                    float* sums, int64_t sum_step, bool add) {
  const int64_t of_gradients = packed_size(gradients.channels, tiles);
  const Scratch room(of_gradients + kTileColumns * tiles);
  float* columns = room.get() + of_gradients;
  pack_columns(
      {gradients.numbers, gradients.channels, tiles, gradients.step, kTileRows, room.get()});
  for (int64_t c = 0; c < inputs.channels; c += kTileColumns) {
    pack_columns({inputs.numbers + c * inputs.step, std::min(kTileColumns, inputs.channels - c),
                  tiles, inputs.step, kTileColumns, columns});
    for (int64_t row = 0; row < gradients.channels; row += kTileRows) {
      product_tile({room.get() + row * tiles, columns, tiles, sums + row * sum_step + c, sum_step,
                    std::min(kTileRows, gradients.channels - row), add});
    }
  }
}

/// Sums over tiles of products of gradients and inputs: [outputs, step] for each of the 36 numbers,
/// `apart` from one to the next.
struct KernelSums {
  const float* sums;
  int64_t apart, step;
};

void write_kernel_gradients(const KernelSums& from, ChannelBlock out, ChannelBlock in,
                            int64_t all_in, float* by_weight) {
  using vec::kLanes;
  at::parallel_for(0, out.count, 8, [&](int64_t begin, int64_t end) {
    float numbers[kTileProducts * kLanes], taps[9 * kLanes];
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t c = 0; c < in.count; c += kLanes) {
        for (int64_t i = 0; i < kTileProducts; ++i) {
          vec::store(numbers + i * kLanes,
                     vec::load(from.sums + i * from.apart + o * from.step + c));
        }
        transform_kernel_gradients(numbers, taps);
        float* to = by_weight + ((out.first + o) * all_in + in.first + c) * 9;
        for (int64_t lane = 0; lane < std::min(kLanes, in.count - c); ++lane) {
          for (int64_t tap = 0; tap < 9; ++tap) to[lane * 9 + tap] = taps[tap * kLanes + lane];
        }
      }
    }
  });
}

}  // namespace

void winograd_kernel_gradient(const TileGrid& grid, int64_t in, int64_t out, const float* x,
                              const float* gradient, float* by_weight) {
  constexpr int64_t kMostFloats = 12 << 20, kLeastTiles = 32, kMostTiles = 256;
  const int64_t pixels = grid.height * grid.width;
  const int64_t inputs = std::min(in, ChannelBlock::kMost);
  const int64_t outputs = std::min(out, ChannelBlock::kMost);
  const RowBlocks blocks(grid, std::clamp(kMostFloats / (kTileProducts * (inputs + outputs)),
                                          kLeastTiles, kMostTiles));
  const int64_t step = round_up(blocks.size * grid.columns() + kTileSlack, kTileColumns);
  const int64_t input_step = spread(inputs * step), gradient_step = spread(outputs * step);
  const int64_t sum_step = round_up(inputs, kTileColumns), sums_apart = spread(outputs * sum_step);
  const Scratch of_inputs(kTileProducts * input_step);
  const Scratch of_gradients(kTileProducts * gradient_step);
  const Scratch sums(kTileProducts * sums_apart);
  for_channel_blocks(out, [&](ChannelBlock to) {
    for_channel_blocks(in, [&](ChannelBlock from) {
      for (int64_t b = 0; b < blocks.count(); ++b) {
        const TileRows block = blocks.at(b);
        at::parallel_for(0, from.count + to.count, 8, [&](int64_t begin, int64_t end) {
          for (int64_t c = begin; c < end; ++c) {
            if (c < from.count) {
              transform_inputs(grid, block, x + (from.first + c) * pixels, in * pixels,
                               {of_inputs.get() + c * step, input_step});
            } else {
              const int64_t o = c - from.count;
              transform_gradients(grid, block, gradient + (to.first + o) * pixels, out * pixels,
                                  {of_gradients.get() + o * step, gradient_step});
            }
          }
        });
        at::parallel_for(0, kTileProducts, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            multiply_outer({of_gradients.get() + i * gradient_step, to.count, step},
                           {of_inputs.get() + i * input_step, from.count, step},
                           block.count * grid.columns(), sums.get() + i * sums_apart, sum_step,
                           b > 0);
          }
        });
      }
      write_kernel_gradients({sums.get(), sums_apart, sum_step}, to, from, in, by_weight);
    });
  });
}

}  // namespace seg
