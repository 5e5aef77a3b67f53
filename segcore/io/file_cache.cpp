#include "segcore/io/file_cache.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "registry/log.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/sha256.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

constexpr const char* kLockName = "lock";
/// Others fill the folder too: each process counts again after this part of what was free.
constexpr uint64_t kShareOfRoom = 16;
/// Times of use are exact to this; a copy in use is written to no more often.
constexpr std::time_t kUseGrain_s = 60;

}  // namespace

FileCopy::~FileCopy() {
  if (file_ >= 0) close(file_);
}

void FileCopy::read(uint64_t from, void* to, size_t bytes) const {
  auto* place = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t got = pread(file_, place, bytes, static_cast<off_t>(from));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      throw DataError(text("a copy in the cache cannot be read: ",
                           got < 0 ? std::strerror(errno) : "it ends too early"));
    }
    place += got;
    from += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
}

FileCache::FileCache(std::string folder, uint64_t max_bytes, bool temporary)
    : folder_(std::move(folder)),
      max_bytes_(max_bytes),
      temporary_(temporary),
      opened_(std::time(nullptr)) {
  make_folders(folder_);
  const std::string name = folder_ + "/" + kLockName;
  lock_ = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0) throw FileError(text("cannot write ", name, ": ", std::strerror(errno)));
  flock(lock_, LOCK_SH);
}

FileCache::~FileCache() {
  // The lock is free only where no other process uses the folder.
  if (temporary_ && flock(lock_, LOCK_EX | LOCK_NB) == 0) {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  close(lock_);
}

std::string FileCache::state_of(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return "";
  return text(path, '\0', info.st_dev, ' ', info.st_ino, ' ', info.st_size, ' ',
              info.st_mtim.tv_sec, ' ', info.st_mtim.tv_nsec, ' ', info.st_ctim.tv_sec, ' ',
              info.st_ctim.tv_nsec);
}

std::string FileCache::copy_of(const std::string& name) const {
  const std::string hash = sha256_of_text(name);
  return folder_ + "/" + hash.substr(0, 2) + "/" + hash.substr(2, 40);
}

std::optional<FileCopy> FileCache::open_copy(const std::string& name) const {
  const std::string path = copy_of(name);
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  struct stat info {};
  const bool known = fstat(file, &info) == 0;
  FileCopy copy(file, known ? static_cast<uint64_t>(info.st_size) : 0);
  if (!known) return std::nullopt;
  if (info.st_mtim.tv_sec + kUseGrain_s < std::time(nullptr)) {
    utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
  }
  return copy;
}

std::optional<std::vector<uint8_t>> FileCache::find(const std::string& name) const {
  const auto copy = open_copy(name);
  if (!copy) return std::nullopt;
  std::vector<uint8_t> bytes(copy->size());
  try {
    copy->read(0, bytes.data(), bytes.size());
  } catch (const DataError&) {
    return std::nullopt;  // the file itself is still there
  }
  return bytes;
}

void FileCache::keep(const std::string& path, const std::string& state,
                     const std::vector<uint8_t>& bytes, const std::string& name) const {
  // Written to while it was read: these bytes are of no one state of the file.
  if (full_ || state_of(path) != state || !take_room(bytes.size())) return;
  const std::string copy = copy_of(name.empty() ? state : name);
  try {
    make_folders(fs::path(copy).parent_path().string());
    // A name of its own: several processes may read one file at the same time.
    const std::string temporary = text(copy, '.', getpid(), '.', gettid());
    AtomicFile file(temporary);
    file.write(bytes.data(), bytes.size());
    file.commit();
    fs::rename(temporary, copy);
  } catch (const std::exception& e) {
    if (full_.exchange(true)) return;
    log::warn("cache: ", folder_, " takes no more files (", e.what(),
              "); others are read from where they are");
  }
}

bool FileCache::take_room(uint64_t bytes) const {
  const std::scoped_lock lock(mutex_);
  if (room_ < static_cast<int64_t>(bytes)) {
    const uint64_t free = make_room();
    room_ = static_cast<int64_t>(std::max(free / kShareOfRoom, std::min(free, bytes)));
    if (free < bytes) {
      full_ = true;
      log::info("cache: ", folder_, " is full (", max_bytes_ >> 20,
                " MB); further files are read from where they are");
      return false;
    }
  }
  room_ -= static_cast<int64_t>(bytes);
  return true;
}

/// \return how many bytes are free then.
uint64_t FileCache::make_room() const {
  struct Copy {
    fs::path path;
    uint64_t size;
    std::time_t used;
  };
  std::vector<Copy> copies;
  uint64_t total = 0;
  std::error_code gone;  // another process makes room, too
  for (fs::recursive_directory_iterator at(folder_, gone), end; !gone && at != end;
       at.increment(gone)) {
    struct stat info {};
    if (stat(at->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    copies.push_back({at->path(), static_cast<uint64_t>(info.st_size), info.st_mtim.tv_sec});
    total += copies.back().size;
  }
  std::sort(copies.begin(), copies.end(),
            [](const Copy& a, const Copy& b) { return a.used < b.used; });
  const uint64_t wanted = max_bytes_ - max_bytes_ / 8;
  for (const Copy& copy : copies) {
    if (total <= wanted || copy.used + kUseGrain_s >= opened_) break;
    if (copy.path.filename() == kLockName) continue;
    std::error_code ignored;
    if (fs::remove(copy.path, ignored)) total -= copy.size;
  }
  return total < max_bytes_ ? max_bytes_ - total : 0;
}

}  // namespace seg
