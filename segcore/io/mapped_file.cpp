#include "segcore/io/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "registry/error.hpp"

namespace seg {

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path) {
  // O_NONBLOCK: a named pipe must be refused, not waited for.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw CheckpointError(text("cannot read ", path, ": ", std::strerror(errno)));
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  std::string wrong;
  if (!known || !S_ISREG(info.st_mode)) {
    wrong = S_ISDIR(info.st_mode) ? "it is a folder, not a checkpoint" : "it is not a file";
  } else if (info.st_size == 0) {
    wrong = "the file is empty";
  }
  void* data = MAP_FAILED;
  if (wrong.empty()) {
    // Pages that are written (byte order, optimizers in place) become private copies.
    data = ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (data == MAP_FAILED) wrong = std::strerror(errno);
  }
  ::close(fd);
  if (!wrong.empty()) throw CheckpointError(text("cannot read ", path, ": ", wrong));
  const auto size = static_cast<uint64_t>(info.st_size);
  return std::shared_ptr<MappedFile>(new MappedFile(static_cast<uint8_t*>(data), size));
}

MappedFile::~MappedFile() { ::munmap(data_, size_); }

}  // namespace seg
