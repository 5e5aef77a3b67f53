#include "runners/train/work_dir_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "registry/error.hpp"

namespace seg {

WorkDirLock::WorkDirLock(const std::string& work_dir)
    : folder_(::open(work_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (folder_ < 0 || ::flock(folder_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(folder_);
  throw DataError(text("another training is writing to ", work_dir,
                       ": wait for its end, or give this one another --work-dir"));
}

WorkDirLock::~WorkDirLock() {
  if (folder_ >= 0) ::close(folder_);
}

}  // namespace seg
