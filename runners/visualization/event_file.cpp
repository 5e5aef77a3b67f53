#include "runners/visualization/event_file.hpp"

#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "segcore/io/atomic_file.hpp"
#include "tfevents.pb.h"

namespace seg {
namespace {

double wall_time() {
  timeval now{};
  gettimeofday(&now, nullptr);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_usec) * 1e-6;
}

constexpr std::array<uint32_t, 256> make_crc32c_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0u);  // the polynomial, bits reversed
    }
    table[i] = crc;
  }
  return table;
}
constexpr auto kCrc32cTable = make_crc32c_table();

void put_little_endian(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

/// Checksums of data that hold checksums are masked.
uint32_t masked_crc32c(std::string_view data) {
  const uint32_t crc = crc32c(data);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

tfevents::Event new_event(int64_t step) {
  tfevents::Event event;
  event.set_wall_time(wall_time());
  event.set_step(step);
  return event;
}

}  // namespace

uint32_t crc32c(std::string_view data) {
  uint32_t crc = ~0u;
  for (const char c : data) {
    crc = crc >> 8 ^ kCrc32cTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  }
  return ~crc;
}

std::string tf_record(std::string_view data) {
  std::string out;
  out.reserve(data.size() + 16);
  put_little_endian(out, data.size(), 8);
  put_little_endian(out, masked_crc32c(std::string_view(out).substr(0, 8)), 4);
  out += data;
  put_little_endian(out, masked_crc32c(data), 4);
  return out;
}

EventFile::EventFile(const std::string& folder) {
  char host[256] = "localhost";
  gethostname(host, sizeof(host) - 1);
  static std::atomic<int> count{0};
  path_ = text(folder, "/events.out.tfevents.", static_cast<int64_t>(wall_time()), ".", host, ".",
               getpid(), ".", count++);
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) throw FileError(text("cannot write ", path_, ": ", std::strerror(errno)));
  tfevents::Event event = new_event(0);
  event.set_file_version("brain.Event:2");
  append(event.SerializeAsString());
}

EventFile::~EventFile() {
  if (fd_ >= 0) ::close(fd_);
}

void EventFile::append(const std::string& message) {
  // One call a record, so that a killed run leaves whole records.
  const std::string record = tf_record(message);
  size_t done = 0;
  while (done < record.size()) {
    const ssize_t n = ::write(fd_, record.data() + done, record.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw FileError(text("cannot write ", path_, ": ", std::strerror(errno)));
    done += static_cast<size_t>(n);
  }
}

void EventFile::add_scalar(const std::string& tag, double value, int64_t step) {
  tfevents::Event event = new_event(step);
  auto* summary = event.mutable_summary()->add_value();
  summary->set_tag(tag);
  summary->set_scalar(static_cast<float>(value));
  append(event.SerializeAsString());
}

void EventFile::add_image(const std::string& tag, std::string_view png, int64_t height,
                          int64_t width, int64_t step) {
  tfevents::Event event = new_event(step);
  auto* summary = event.mutable_summary()->add_value();
  summary->set_tag(tag);
  auto* image = summary->mutable_image();
  image->set_height(static_cast<int32_t>(height));
  image->set_width(static_cast<int32_t>(width));
  image->set_colorspace(3);
  image->set_encoded(png.data(), png.size());
  append(event.SerializeAsString());
}

void EventFile::add_text(const std::string& tag, const std::string& contents, int64_t step) {
  tfevents::Event event = new_event(step);
  auto* summary = event.mutable_summary()->add_value();
  summary->set_tag(tag + "/text_summary");
  summary->mutable_metadata()->mutable_plugin()->set_name("text");
  auto* tensor = summary->mutable_tensor();
  constexpr int kString = 7;
  tensor->set_dtype(kString);
  tensor->mutable_shape()->add_dim()->set_size(1);
  tensor->add_string_val(contents);
  append(event.SerializeAsString());
}

void EventFile::flush() { ::fsync(fd_); }

}  // namespace seg
