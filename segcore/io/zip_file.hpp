/// Zip archives as torch.save makes them: uncompressed entries, zip64 for large ones.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "segcore/io/atomic_file.hpp"

namespace seg {

/// The range of an entry's bytes in the file, already checked against the file's size.
struct ZipEntry {
  std::string name;
  uint64_t offset = 0, size = 0;
  uint32_t crc = 0;
  bool compressed = false;
};

/// The entries of an archive in memory.
/// \throws CheckpointError (without the file's name) where it is no archive or damaged.
std::vector<ZipEntry> read_zip_directory(std::string_view file);

/// CRC-32 as zip has it, on all cores for large data.
uint32_t zip_crc32(const void* data, size_t size);

/// Writes stored entries one after the other.
class ZipWriter {
 public:
  /// \param always_zip64  writes 64-bit sizes even where they are not needed.
  explicit ZipWriter(AtomicFile& file, bool always_zip64 = false)
      : file_(file), always_zip64_(always_zip64) {}
  /// Data begin at a multiple of `alignment` bytes, so that a mapped file serves as tensors.
  void add(const std::string& name, const void* data, uint64_t size, uint64_t alignment = 64);
  void add(const std::string& name, std::string_view data) { add(name, data.data(), data.size()); }
  /// Writes the directory; the archive is complete.
  void finish();

 private:
  AtomicFile& file_;
  bool always_zip64_;
  struct Written {
    std::string name;
    uint64_t header, size;
    uint32_t crc;
  };
  std::vector<Written> written_;
};

}  // namespace seg
