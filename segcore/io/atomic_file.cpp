#include "segcore/io/atomic_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "segcore/io/file_reader.hpp"

namespace seg {
namespace {

/// Opens and locks `path`, which may be the leavings of a killed process. A live writer holds the
/// lock: then -1 with errno EWOULDBLOCK. A file system without locks is taken as it is.
int open_locked(const std::string& path) {
  for (;;) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return -1;
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(fd);
      errno = EWOULDBLOCK;
      return -1;
    }
    // Between open and lock another writer may have renamed the file away.
    struct stat opened {
    }, named{};
    if (::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
        opened.st_ino == named.st_ino && opened.st_dev == named.st_dev) {
      if (::ftruncate(fd, 0) == 0) return fd;
      const int error = errno;
      ::close(fd);
      errno = error;
      return -1;
    }
    ::close(fd);
  }
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// The name beside `path` that is written first; names at the limit of file systems are cut.
std::string temporary_of(const std::string& path, const std::string& ending) {
  constexpr size_t kLongestName = 255;
  const size_t name = path.find_last_of('/') + 1;  // 0 where there is no slash
  const size_t room = kLongestName - ending.size();
  return path.substr(0, name) + path.substr(name, room) + ending;
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  struct stat existing {};
  if (::stat(path_.c_str(), &existing) == 0 && S_ISDIR(existing.st_mode)) {
    throw FileError(text("cannot write ", path_, ": it is a folder"));
  }
  temporary_ = temporary_of(path_, ".tmp");
  fd_ = open_locked(temporary_);
  if (fd_ < 0 && errno == EWOULDBLOCK) {
    static std::atomic<unsigned> counter{0};
    temporary_ = temporary_of(path_, text(".", ::getpid(), ".", counter++, ".tmp"));
    fd_ = open_locked(temporary_);
  }
  if (fd_ < 0) {
    const int error = errno;
    if (error == ENOENT) {
      throw FileError(text("cannot write ", path_, ": there is no folder ", directory_of(path_)));
    }
    fail("cannot write ", error);
  }
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::unlink(temporary_.c_str());  // while the lock is held, so that no other writer's goes
  ::close(fd_);
}

void AtomicFile::fail(const char* what, int error) const {
  throw FileError(text(what, path_, ": ", std::strerror(error)));
}

void AtomicFile::write(const void* data, size_t size) { write_at(position_, data, size); }

void AtomicFile::write_at(uint64_t offset, const void* data, size_t size) {
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    // Linux writes at most 2 GiB - 4 KiB in one call.
    const ssize_t written =
        ::pwrite(fd_, from, std::min<size_t>(size, 1u << 30), static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("cannot write ", errno);
    }
    from += written;
    size -= static_cast<size_t>(written);
    offset += static_cast<uint64_t>(written);
    position_ = std::max(position_, offset);
  }
}

size_t AtomicFile::read_at(uint64_t offset, void* data, size_t size) const {
  const int64_t filled = seg::read_at(fd_, offset, data, size);
  if (filled < 0) fail("cannot read ", errno);
  return static_cast<size_t>(filled);
}

void AtomicFile::commit() {
  // EINVAL: a file system that has nothing to sync.
  if (::fsync(fd_) != 0 && errno != EINVAL) fail("cannot write ", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot write ", errno);
  ::close(fd_);
  fd_ = -1;
  // The new name is on the disk only when its directory is.
  const int directory = ::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    ::fsync(directory);
    ::close(directory);
  }
}

void write_file_atomically(const std::string& path, std::string_view contents) {
  AtomicFile file(path);
  file.write(contents);
  file.commit();
}

void make_folders(const std::string& path) {
  std::error_code trouble;
  if (!path.empty()) std::filesystem::create_directories(path, trouble);
  // A file in the place of the folder is no trouble to some versions of the library.
  if (!trouble && !path.empty() && !std::filesystem::is_directory(path, trouble)) {
    trouble = std::make_error_code(std::errc::not_a_directory);
  }
  if (trouble) throw FileError(text("cannot make the folder ", path, ": ", trouble.message()));
}

}  // namespace seg
