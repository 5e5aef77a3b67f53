/// Programs that a program starts and waits for.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

namespace seg {

/// A program whose output is appended to a file. It gets SIGTERM when its parent dies.
class ChildProgram {
 public:
  /// \param words  the program's path and its arguments.
  /// \throws FileError, DataError
  ChildProgram(const std::vector<std::string>& words, const std::string& output);
  void send(int signal) const;
  /// Whether it has ended; then `status` is that of waitpid.
  bool ended(int& status) const;

 private:
  pid_t pid_ = -1;
};

}  // namespace seg
