/// Copies of files that are slow to read, in memory or on a local disk.
#pragma once
#include <atomic>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace seg {

/// A copy in a FileCache, open for reading: it may be removed meanwhile.
class FileCopy {
 public:
  FileCopy(int file, uint64_t size) : file_(file), size_(size) {}
  ~FileCopy();
  FileCopy(FileCopy&& other) noexcept : file_(std::exchange(other.file_, -1)), size_(other.size_) {}
  FileCopy& operator=(FileCopy&&) = delete;
  uint64_t size() const { return size_; }
  /// \throws DataError where the file system fails.
  void read(uint64_t from, void* to, size_t bytes) const;

 private:
  int file_;
  uint64_t size_;
};

/// Used by all processes of a machine that give the same folder, at the same time or one after the
/// other. A copy belongs to the path, size, times and inode of its file, so that a changed file is
/// read anew; each read asks the file system for these, and for nothing else once there is a copy.
/// Copies are written whole and renamed. When the folder is full, copies that nobody has used since
/// this cache was opened make room; beyond that, files are read from where they are. Thread-safe.
class FileCache {
 public:
  /// \param folder  made where it is missing.
  /// \param max_bytes  of all copies in it.
  /// \param temporary  removed with the last process that uses it.
  /// \throws FileError where it cannot be made.
  FileCache(std::string folder, uint64_t max_bytes, bool temporary);
  ~FileCache();
  FileCache(const FileCache&) = delete;
  FileCache& operator=(const FileCache&) = delete;

  /// A regular file as it is at this moment; empty for anything else.
  static std::string state_of(const std::string& path);
  /// What is kept under a name; the bytes of a file have its state for one.
  std::optional<FileCopy> open_copy(const std::string& name) const;
  std::optional<std::vector<uint8_t>> find(const std::string& name) const;
  /// Nothing more is kept.
  bool full() const { return full_; }
  /// Keeps what was read from `path`, unless it is not in that state any more. A folder that takes
  /// nothing is reported once.
  /// \param name  empty: the state.
  void keep(const std::string& path, const std::string& state, const std::vector<uint8_t>& bytes,
            const std::string& name = {}) const;

 private:
  std::string copy_of(const std::string& name) const;
  bool take_room(uint64_t bytes) const;
  uint64_t make_room() const;

  std::string folder_;
  uint64_t max_bytes_;
  bool temporary_;
  std::time_t opened_;
  int lock_ = -1;  ///< held shared while this process uses the folder
  mutable std::mutex mutex_;
  mutable int64_t room_ = 0;  ///< that this process may fill before it counts again
  mutable std::atomic<bool> full_{false};
};

}  // namespace seg
