/// A file mapped copy-on-write, so that tensors may be views of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace seg {

/// Lives as long as a tensor views it. A file replaced by renaming (as all of ours are) keeps its
/// old contents here; one truncated in place by another program ends this process, as with any
/// mapping.
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
