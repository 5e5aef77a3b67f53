/// Converts raw elements of a file to the byte order and values of this machine.
#pragma once
#include <algorithm>
#include <cstddef>

namespace seg {

/// Reverses the bytes of each of `count` elements of `size` bytes.
inline void swap_bytes(char* data, size_t count, size_t size) {
  for (size_t i = 0; i < count; ++i) std::reverse(data + i * size, data + (i + 1) * size);
}

/// A bool is 0 or 1 in C++, but a file may hold any byte. Writes only other bytes, so that clean
/// pages of a mapped file stay shared.
inline void normalize_bools(char* data, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (static_cast<unsigned char>(data[i]) > 1) data[i] = 1;
  }
}

}  // namespace seg
