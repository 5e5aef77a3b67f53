/// Writes files whole: a reader sees the old contents or the new ones, whatever kills the writer.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "registry/error.hpp"

namespace seg {

/// A file cannot be written or read: a full disk, no permission; the text names it (exit 1).
class FileError : public DataError {
  using DataError::DataError;
};

/// A file being written beside `path` under a temporary name. commit() syncs it to the disk and
/// renames it; an object destroyed before that removes the temporary and leaves `path` untouched.
/// The temporary of a killed process is replaced by the next one that writes `path`.
class AtomicFile {
 public:
  /// \throws FileError
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends. \throws FileError
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Writes anywhere, also beyond what was written so far. \throws FileError
  void write_at(uint64_t offset, const void* data, size_t size);
  /// Reads what was written. \return how many bytes there were. \throws FileError
  size_t read_at(uint64_t offset, void* data, size_t size) const;
  /// Where `write` goes on: the end of what was written so far.
  uint64_t position() const { return position_; }
  /// Makes the file visible under its name. \throws FileError
  void commit();

 private:
  [[noreturn]] void fail(const char* what, int error) const;

  std::string path_, temporary_;
  int fd_ = -1;
  uint64_t position_ = 0;
};

/// The same in one call. \throws FileError
void write_file_atomically(const std::string& path, std::string_view contents);

/// Creates a folder and its parents, where they are missing. \throws FileError
void make_folders(const std::string& path);

}  // namespace seg
