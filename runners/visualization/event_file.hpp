/// TensorBoard's event files: records of one protobuf message each.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace seg {

/// CRC-32C (Castagnoli) of a text.
uint32_t crc32c(std::string_view data);

/// A record as TensorFlow frames it: length, checksum of the length, data, checksum of the data.
std::string tf_record(std::string_view data);

/// An event file that grows by whole records.
class EventFile {
 public:
  /// Makes `folder`/events.out.tfevents.<seconds>.<host>.<pid>.<count> with its first record.
  /// \throws FileError
  explicit EventFile(const std::string& folder);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  void add_scalar(const std::string& tag, double value, int64_t step);
  /// \param png  an encoded picture of `height` x `width`, three channels.
  void add_image(const std::string& tag, std::string_view png, int64_t height, int64_t width,
                 int64_t step);
  /// Markdown.
  void add_text(const std::string& tag, const std::string& text, int64_t step);
  /// Waits for the disk.
  void flush();
  const std::string& path() const { return path_; }

 private:
  void append(const std::string& message);

  std::string path_;
  int fd_ = -1;
};

}  // namespace seg
