/// Keeps a second training out of a work dir.
#pragma once
#include <string>

namespace seg {

/// Held for the length of a training. The kernel releases it however the process ends, so that
/// nothing is left behind for the next one.
class WorkDirLock {
 public:
  /// \throws DataError if another training holds it. File systems without locks are not guarded.
  explicit WorkDirLock(const std::string& work_dir);
  ~WorkDirLock();
  WorkDirLock(const WorkDirLock&) = delete;
  WorkDirLock& operator=(const WorkDirLock&) = delete;

 private:
  int folder_;
};

}  // namespace seg
