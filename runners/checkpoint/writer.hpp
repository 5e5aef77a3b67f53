/// Writes checkpoints while training goes on.
#pragma once
#include <exception>
#include <functional>
#include <string>
#include <thread>

#include "segcore/io/value.hpp"

namespace seg {

/// Writes one file at a time, in order, in a thread of its own.
class CheckpointWriter {
 public:
  CheckpointWriter() = default;
  ~CheckpointWriter();  ///< ends what is being written
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Waits for the file before, and begins this one.
  /// \param contents  changed by nobody any more, see snapshot().
  /// \param then  called in the writer's thread once the file is on the disk; not if it could not
  /// be
  ///        written.
  /// \throws what the file before has met (CheckpointError, FileError).
  void write(std::string path, Value contents, std::function<void()> then);
  /// Waits until all is on the disk. \throws as write().
  void wait();

 private:
  std::thread thread_;
  std::exception_ptr failure_;  ///< of the thread; read only after it was joined
};

}  // namespace seg
