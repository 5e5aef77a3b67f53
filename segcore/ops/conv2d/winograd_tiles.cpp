#include "segcore/ops/conv2d/winograd_tiles.hpp"

#include <algorithm>
#include <vector>

#include "segcore/cpu_vector.hpp"

namespace seg {
namespace {

using vec::F8;
using vec::kLanes;

/// The transforms along one side of a tile, eight tiles at a time.
/// \param step  from one number of `d` to the next; those of `to` are neighbours.
SEG_VECTOR_BODY void inputs_of(const F8* d, F8* to, int step) {
  const F8 even = d[4 * step] - d[2 * step], odd = d[3 * step] - d[step];
  to[0] = d[0] - 2.0F * d[2 * step] + d[4 * step] + 1.5F * odd;
  to[1] = d[4 * step] + 0.5F * d[2 * step] + 2.5F * d[3 * step] - d[step];
  to[2] = d[4 * step] - 2.5F * d[2 * step] + 0.5F * d[3 * step] + d[step];
  to[3] = even + 2.0F * odd;
  to[4] = even - 0.5F * odd;
  to[5] = d[step] - 2.0F * d[3 * step] + d[5 * step] + 1.5F * even;
}

SEG_VECTOR_BODY void outputs_of(const F8* m, F8* to, int step) {
  const F8 sum = m[step] + m[2 * step], difference = m[step] - m[2 * step];
  to[0] = m[0] + sum + m[3 * step] + m[4 * step];
  to[1] = difference + 0.5F * m[3 * step] - 2.0F * m[4 * step];
  to[2] = sum + 0.25F * m[3 * step] + 4.0F * m[4 * step];
  to[3] = difference + 0.125F * m[3 * step] - 8.0F * m[4 * step] + m[5 * step];
}

SEG_VECTOR_BODY void gradients_of(const F8* y, F8* to, int step) {
  const F8 even = y[0] + y[2 * step], odd = y[step] + y[3 * step];
  to[0] = y[0];
  to[1] = even + odd;
  to[2] = even - odd;
  to[3] = y[0] + 0.5F * y[step] + 0.25F * y[2 * step] + 0.125F * y[3 * step];
  to[4] = y[0] - 2.0F * y[step] + 4.0F * y[2 * step] - 8.0F * y[3 * step];
  to[5] = y[3 * step];
}

SEG_VECTOR_BODY void kernels_of(const F8* g, F8* to, int step) {
  constexpr float kThird = 1.0F / 3, kFifteenth = 1.0F / 15;
  to[0] = g[0];
  to[1] = kThird * (g[0] + g[step] + g[2 * step]);
  to[2] = kThird * (g[step] - g[0] - g[2 * step]);
  to[3] = -kFifteenth * (16.0F * g[0] + 8.0F * g[step] + 4.0F * g[2 * step]);
  to[4] = kFifteenth * (g[0] - 2.0F * g[step] + 4.0F * g[2 * step]);
  to[5] = g[2 * step];
}

SEG_VECTOR_BODY void kernel_gradients_of(const F8* u, F8* to, int step) {
  constexpr float kThird = 1.0F / 3, kFifteenth = 1.0F / 15;
  to[0] =
      u[0] + kThird * (u[step] - u[2 * step]) + kFifteenth * (u[4 * step] - 16.0F * u[3 * step]);
  to[1] = kThird * (u[step] + u[2 * step]) - kFifteenth * (8.0F * u[3 * step] + 2.0F * u[4 * step]);
  to[2] = kThird * (u[step] - u[2 * step]) + kFifteenth * 4.0F * (u[4 * step] - u[3 * step]) +
          u[5 * step];
}

/// A transform of both sides, from kIn x kIn numbers to kOut x kOut.
template <int kIn, int kOut, class Side>
SEG_VECTOR_BODY void both_sides(const F8* from, F8* to, const Side& side) {
  F8 half[kOut * kIn];  // transformed along the columns, a column after the other
#pragma GCC unroll 6
  for (int c = 0; c < kIn; ++c) {
    F8 column[kOut];
    side(from + c, column, kIn);
#pragma GCC unroll 6
    for (int r = 0; r < kOut; ++r) half[r * kIn + c] = column[r];
  }
#pragma GCC unroll 6
  for (int r = 0; r < kOut; ++r) side(half + r * kIn, to + r * kOut, 1);
}

/// Every fourth of 32 neighbours, from the first, second, third and fourth.
SEG_VECTOR_BODY void part_by_four(const float* from, F8* to) {
  const F8 x[4] = {vec::load(from), vec::load(from + kLanes), vec::load(from + 2 * kLanes),
                   vec::load(from + 3 * kLanes)};
  const F8 evens[2] = {vec::evens_of(x[0], x[1]), vec::evens_of(x[2], x[3])};
  const F8 odds[2] = {vec::odds_of(x[0], x[1]), vec::odds_of(x[2], x[3])};
  to[0] = vec::evens_of(evens[0], evens[1]);
  to[1] = vec::evens_of(odds[0], odds[1]);
  to[2] = vec::odds_of(evens[0], evens[1]);
  to[3] = vec::odds_of(odds[0], odds[1]);
}

/// The reverse of part_by_four.
SEG_VECTOR_BODY void join_by_four(const F8* from, float* to) {
  const F8 even[2] = {vec::low_in_turn(from[0], from[2]), vec::high_in_turn(from[0], from[2])};
  const F8 odd[2] = {vec::low_in_turn(from[1], from[3]), vec::high_in_turn(from[1], from[3])};
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    vec::store(to + 2 * i * kLanes, vec::low_in_turn(even[i], odd[i]));
    vec::store(to + (2 * i + 1) * kLanes, vec::high_in_turn(even[i], odd[i]));
  }
}

/// The rows of a plane that a row of tiles covers.
class TileRowPlace {
 public:
  TileRowPlace(const TileGrid& grid, int64_t row) : grid_(grid), tiles_(grid.tiles(grid.height)) {
    first_ = row % tiles_ * kTile;
    const int64_t plane = row / tiles_ % (grid.dilation * grid.dilation);
    y_ = plane / grid.dilation;
    x_ = plane % grid.dilation;
    image_ = row / tiles_ / (grid.dilation * grid.dilation);
  }
  int64_t image() const { return image_; }
  /// The offset in an image of row r of the tiles; nothing above and below the image.
  bool row(int64_t r, int64_t& offset) const {
    const int64_t y = y_ + (first_ + r) * grid_.dilation;
    offset = y * grid_.width;
    return y >= 0 && y < grid_.height;
  }
  /// Of the first column.
  int64_t x() const { return x_; }
  int64_t columns() const { return (grid_.width - x_ + grid_.dilation - 1) / grid_.dilation; }

 private:
  const TileGrid& grid_;
  int64_t tiles_, first_, image_, y_, x_;
};

/// Room for a row of pixels, after one of padding, and for vectors beyond.
int64_t line_length(const TileGrid& grid) {
  return ((grid.columns() + kLanes - 1) / kLanes + 1) * kLanes * kTile;
}

void read_line(const TileGrid& grid, const TileRowPlace& place, const float* row, float* line) {
  const int64_t columns = place.columns();
  if (grid.dilation == 1) {
    std::memcpy(line, row, static_cast<size_t>(columns) * sizeof(float));
  } else {
    for (int64_t i = 0; i < columns; ++i) line[i] = row[place.x() + i * grid.dilation];
  }
}

void write_line(const TileGrid& grid, const TileRowPlace& place, const float* line, bool add,
                float* row) {
  const int64_t columns = place.columns();
  if (add) {
    for (int64_t i = 0; i < columns; ++i) row[place.x() + i * grid.dilation] += line[i];
  } else if (grid.dilation == 1) {
    std::memcpy(row, line, static_cast<size_t>(columns) * sizeof(float));
  } else {
    for (int64_t i = 0; i < columns; ++i) row[place.x() + i * grid.dilation] = line[i];
  }
}

struct ReadArguments {
  const TileGrid& grid;
  TileRows rows;
  const float* channel;
  int64_t image_step;
  TileNumbers to;
};

/// Transforms kIn x kIn pixels for each tile, of which the first lies kBefore rows and columns
/// before the tile.
template <int kIn, int64_t kBefore, class Side>
SEG_VECTOR_BODY void transform_pixels(const ReadArguments& a, const Side& side) {
  const int64_t columns = a.grid.columns(), length = line_length(a.grid);
  const int64_t segment = length / kTile;
  std::vector<float> lines(static_cast<size_t>(kIn * length));  // [kIn, length]
  std::vector<float> parts(static_cast<size_t>(kIn * length));  // [kIn, kTile, segment]
  float* to = a.to.values;
  for (int64_t row = a.rows.first; row < a.rows.first + a.rows.count; ++row, to += columns) {
    const TileRowPlace place(a.grid, row);
    // All are copied before the first is read: a load waits long for the stores that it spans.
    for (int r = 0; r < kIn; ++r) {
      float* line = lines.data() + r * length;
      int64_t offset = 0;
      if (place.row(r - kBefore, offset)) {
        read_line(a.grid, place, a.channel + place.image() * a.image_step + offset, line + kBefore);
        std::fill(line + kBefore + place.columns(), line + length, 0.0F);
      } else {
        std::fill(line, line + length, 0.0F);
      }
    }
    for (int64_t part = 0; part < kIn * length; part += length) {
      for (int64_t t = 0; t < segment; t += kLanes) {
        F8 by_four[kTile];
        part_by_four(lines.data() + part + t * kTile, by_four);
#pragma GCC unroll 4
        for (int i = 0; i < kTile; ++i) {
          vec::store(parts.data() + part + i * segment + t, by_four[i]);
        }
      }
    }
    for (int64_t t = 0; t < columns; t += kLanes) {
      F8 pixels[kIn * kIn], numbers[kTileProducts];
      for (int r = 0; r < kIn; ++r) {
        const float* part = parts.data() + r * length + t;
#pragma GCC unroll 6
        for (int c = 0; c < kIn; ++c) {
          pixels[r * kIn + c] = vec::load(part + c % kTile * segment + c / kTile);
        }
      }
      both_sides<kIn, 6>(pixels, numbers, side);
      for (int i = 0; i < kTileProducts; ++i) vec::store(to + i * a.to.step + t, numbers[i]);
    }
  }
}

SEG_VECTOR_BODY void inputs_body(const ReadArguments& a) {
  transform_pixels<6, 1>(
      a, [](const F8* from, F8* to, int step) SEG_INLINE_LAMBDA { inputs_of(from, to, step); });
}
SEG_VECTOR_KERNEL(read_inputs, inputs_body, ReadArguments)

SEG_VECTOR_BODY void gradients_body(const ReadArguments& a) {
  transform_pixels<4, 0>(
      a, [](const F8* from, F8* to, int step) SEG_INLINE_LAMBDA { gradients_of(from, to, step); });
}
SEG_VECTOR_KERNEL(read_gradients, gradients_body, ReadArguments)

struct WriteArguments {
  const TileGrid& grid;
  TileRows rows;
  TileNumbers from;
  float bias;
  bool add;
  float* channel;
  int64_t image_step;
};

SEG_VECTOR_BODY void outputs_body(const WriteArguments& a) {
  const int64_t columns = a.grid.columns(), length = line_length(a.grid);
  std::vector<float> lines(static_cast<size_t>(kTile * length));
  const float* from = a.from.values;
  for (int64_t row = a.rows.first; row < a.rows.first + a.rows.count; ++row, from += columns) {
    for (int64_t t = 0; t < columns; t += kLanes) {
      F8 numbers[kTileProducts], pixels[kTile * kTile];
      for (int i = 0; i < kTileProducts; ++i) numbers[i] = vec::load(from + i * a.from.step + t);
      both_sides<6, 4>(numbers, pixels, [](const F8* m, F8* to, int step) SEG_INLINE_LAMBDA {
        outputs_of(m, to, step);
      });
      for (auto& pixel : pixels) pixel += a.bias;
      for (int r = 0; r < kTile; ++r) {
        join_by_four(pixels + r * kTile, lines.data() + r * length + t * kTile);
      }
    }
    const TileRowPlace place(a.grid, row);
    for (int r = 0; r < kTile; ++r) {
      int64_t offset = 0;
      if (!place.row(r, offset)) continue;
      write_line(a.grid, place, lines.data() + r * length, a.add,
                 a.channel + place.image() * a.image_step + offset);
    }
  }
}
SEG_VECTOR_KERNEL(write_outputs, outputs_body, WriteArguments)

struct KernelArguments {
  const float* from;
  float* to;
};

SEG_VECTOR_BODY void kernels_body(const KernelArguments& a) {
  F8 taps[9], numbers[kTileProducts];
  for (int i = 0; i < 9; ++i) taps[i] = vec::load(a.from + i * kLanes);
  both_sides<3, 6>(taps, numbers, [](const F8* g, F8* to, int step) SEG_INLINE_LAMBDA {
    kernels_of(g, to, step);
  });
  for (int i = 0; i < kTileProducts; ++i) vec::store(a.to + i * kLanes, numbers[i]);
}
SEG_VECTOR_KERNEL(kernels, kernels_body, KernelArguments)

SEG_VECTOR_BODY void kernel_gradients_body(const KernelArguments& a) {
  F8 numbers[kTileProducts], taps[9];
  for (int i = 0; i < kTileProducts; ++i) numbers[i] = vec::load(a.from + i * kLanes);
  both_sides<6, 3>(numbers, taps, [](const F8* u, F8* to, int step) SEG_INLINE_LAMBDA {
    kernel_gradients_of(u, to, step);
  });
  for (int i = 0; i < 9; ++i) vec::store(a.to + i * kLanes, taps[i]);
}
SEG_VECTOR_KERNEL(kernel_gradients, kernel_gradients_body, KernelArguments)

}  // namespace

void transform_inputs(const TileGrid& grid, TileRows rows, const float* channel, int64_t image_step,
                      TileNumbers to) {
  read_inputs({grid, rows, channel, image_step, to});
}
void transform_gradients(const TileGrid& grid, TileRows rows, const float* channel,
                         int64_t image_step, TileNumbers to) {
  read_gradients({grid, rows, channel, image_step, to});
}
void transform_outputs(const TileGrid& grid, TileRows rows, TileNumbers from, float bias, bool add,
                       float* channel, int64_t image_step) {
  write_outputs({grid, rows, from, bias, add, channel, image_step});
}
void transform_kernels(const float* taps, float* to) { kernels({taps, to}); }
void transform_kernel_gradients(const float* numbers, float* taps) {
  kernel_gradients({numbers, taps});
}

}  // namespace seg
