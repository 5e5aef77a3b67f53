/// How the passes of Winograd's convolution cut their work, so that a part of it fits the caches.
#pragma once
#include <algorithm>
#include <cstdint>

#include "segcore/ops/conv2d/winograd_tiles.hpp"

namespace seg {

inline int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/// From one of the 36 numbers of all tiles to the next, where each has `count`: neighbours in other
/// sets of a cache, for a tile's numbers are written and read together.
inline int64_t spread(int64_t count) {
  constexpr int64_t kPage = 1024, kLine = 16;
  return round_up(count, kPage) + kLine;
}

/// Rows of tiles in blocks that pass through all steps together.
struct RowBlocks {
  int64_t rows, size;  ///< of all, and in one block

  /// \param tiles  about as many in a block.
  RowBlocks(const TileGrid& grid, int64_t tiles)
      : rows(grid.rows()), size(std::max<int64_t>(1, tiles / grid.columns())) {}
  int64_t count() const { return (rows + size - 1) / size; }
  TileRows at(int64_t block) const { return {block * size, std::min(size, rows - block * size)}; }
};

/// Channels whose kernels are worked on together: those of 512 inputs and outputs take 38 MB.
struct ChannelBlock {
  static constexpr int64_t kMost = 512;
  int64_t first, count;
};

/// Calls use(block) for all channels, a block after the other.
template <class Use>
void for_channel_blocks(int64_t channels, const Use& use) {
  for (int64_t first = 0; first < channels; first += ChannelBlock::kMost) {
    use(ChannelBlock{first, std::min(ChannelBlock::kMost, channels - first)});
  }
}

}  // namespace seg
