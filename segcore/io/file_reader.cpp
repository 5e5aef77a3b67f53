#include "segcore/io/file_reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "registry/error.hpp"

namespace seg {

int64_t read_at(int fd, uint64_t offset, void* to, size_t size) {
  size_t filled = 0;
  while (filled < size) {
    // Linux reads at most 2 GiB - 4 KiB in one call.
    const size_t wanted = std::min<size_t>(size - filled, 1u << 30);
    const ssize_t got =
        ::pread(fd, static_cast<char*>(to) + filled, wanted, static_cast<off_t>(offset + filled));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  return static_cast<int64_t>(filled);
}

FileReader::FileReader(std::string path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0 && errno == ENOENT) throw DataError(path_ + ": there is no such file");
  if (fd_ < 0) throw DataError(text(path_, ": cannot be opened: ", std::strerror(errno)));
  struct stat info {};
  const bool known = ::fstat(fd_, &info) == 0;
  if (known && S_ISREG(info.st_mode)) {
    size_ = static_cast<uint64_t>(info.st_size);
    return;
  }
  ::close(fd_);
  throw DataError(path_ + (known && S_ISDIR(info.st_mode) ? ": is a folder; a file was expected"
                                                          : ": is no regular file"));
}

FileReader::~FileReader() { ::close(fd_); }

size_t FileReader::read(uint64_t offset, void* to, size_t size) const {
  const int64_t filled = read_at(fd_, offset, to, size);
  if (filled < 0) throw DataError(text(path_, ": cannot be read: ", std::strerror(errno)));
  return static_cast<size_t>(filled);
}

std::vector<uint8_t> FileReader::beginning(size_t size) const {
  std::vector<uint8_t> out(std::min<uint64_t>(size, size_));
  out.resize(read(0, out.data(), out.size()));
  return out;
}

}  // namespace seg
