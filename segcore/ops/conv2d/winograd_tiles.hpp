/// Winograd's transforms of tiles, F(4x4, 3x3) with the points 0, 1, -1, 1/2, -2 and infinity: four
/// by four outputs of a 3x3 convolution are made of 36 products, not 144.
///
/// Y = A' [(G g G') * (B' d B)] A (Lavin and Gray 2016); the points are of the kind that Barabasz
/// et al. 2020 find precise: single precision keeps about 2e-6 of the largest value.
#pragma once
#include <cstdint>

namespace seg {

inline constexpr int64_t kTile = 4, kTileProducts = 36;

/// Planes of a convolution of stride 1 whose padding equals its dilation, cut into tiles. Pixels
/// that a dilation keeps apart lie in planes of their own, `dilation` squared of them.
struct TileGrid {
  int64_t images, height, width, dilation;

  int64_t columns() const { return tiles(width); }  ///< tiles of a row
  /// Rows of tiles of all images.
  int64_t rows() const { return images * dilation * dilation * tiles(height); }

  int64_t tiles(int64_t length) const {
    const int64_t apart = (length + dilation - 1) / dilation;
    return (apart + kTile - 1) / kTile;
  }
};

/// Some rows of tiles of one channel.
struct TileRows {
  int64_t first, count;
};

/// Where the 36 numbers of a channel's tiles lie: number i of tile t at values[i * step + t].
/// Beyond the last tile kTileSlack more may be written.
struct TileNumbers {
  float* values;
  int64_t step;
};
inline constexpr int64_t kTileSlack = 8;

/// B' d B of the tiles' inputs.
/// \param channel      the channel of the first image.
/// \param image_step  from a channel of one image to that of the next.
void transform_inputs(const TileGrid& grid, TileRows rows, const float* channel, int64_t image_step,
                      TileNumbers to);
/// A y A' of the gradients by the tiles' outputs.
void transform_gradients(const TileGrid& grid, TileRows rows, const float* channel,
                         int64_t image_step, TileNumbers to);
/// A' m A + bias, the outputs of the tiles.
/// \param add  to the channel, else it is overwritten.
void transform_outputs(const TileGrid& grid, TileRows rows, TileNumbers from, float bias, bool add,
                       float* channel, int64_t image_step);

/// G g G' of eight kernels at a time. \param taps  [9, 8]. \param to  [36, 8]
void transform_kernels(const float* taps, float* to);
/// G' u G, the gradients by eight kernels. \param numbers  [36, 8]. \param taps  [9, 8]
void transform_kernel_gradients(const float* numbers, float* taps);

}  // namespace seg
