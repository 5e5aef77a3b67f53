/// Reads parts of a file, wherever they are, without the rest.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace seg {

/// Reads on where the system returns less than was asked for. \return how many bytes there were:
/// fewer than `size` at the end of the file; -1 with errno where reading failed.
int64_t read_at(int fd, uint64_t offset, void* to, size_t size);

/// A regular file that is open for reading. Not mapped into memory: a file that is cut short while
/// it is read is an error then, not the end of the process. Thread-safe.
class FileReader {
 public:
  /// \throws DataError naming the path, where it is missing or cannot be opened.
  explicit FileReader(std::string path);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  /// \return how many bytes there were: fewer than `size` at the end of the file.
  /// \throws DataError
  size_t read(uint64_t offset, void* to, size_t size) const;
  /// The first bytes, at most `size`. \throws DataError
  std::vector<uint8_t> beginning(size_t size) const;

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

}  // namespace seg
