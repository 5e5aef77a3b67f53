/// A file in memory, for reading: mapped copy-on-write, so that tensors may be views of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace seg {

/// Lives as long as a tensor views it. Files that are replaced by renaming (all that we write)
/// keep their old contents here; one cut short in place by another program ends this process, as
/// mapped files do.
class MappedFile {
 public:
  /// \throws CheckpointError where the file is missing, empty, or no file.
  static std::shared_ptr<MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  uint8_t* data() { return data_; }
  uint64_t size() const { return size_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  MappedFile(uint8_t* data, uint64_t size) : data_(data), size_(size) {}

  uint8_t* data_;
  uint64_t size_;
};

}  // namespace seg
