/// A Python interpreter that answers in lines.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <stdexcept>
#include <string>

namespace seg::detail {

/// There is no answer; what() is a sentence for people.
class PythonFailed : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Runs a script with `python3`, or with what `SEGCORE_PYTHON` names. The process ends with this
/// object, and with the program.
class PythonProcess {
 public:
  /// \param script  its source text
  /// \throws PythonFailed
  explicit PythonProcess(const std::string& script);
  ~PythonProcess();
  PythonProcess(const PythonProcess&) = delete;
  PythonProcess& operator=(const PythonProcess&) = delete;

  /// Sends a line, which the script reads from its standard input, and waits for the line that it
  /// writes to its standard output.
  /// \throws PythonFailed, after which the process is gone.
  /// \param patience  what the message of a missing answer says
  /// \param grace     waited beyond that, for an answer that tells more
  std::string ask(const std::string& line, std::chrono::seconds patience,
                  std::chrono::seconds grace);

 private:
  void send(const std::string& text);
  [[noreturn]] void fail();
  void end();

  std::string interpreter_;
  int socket_ = -1;
  pid_t pid_ = -1;
  std::string received_;
};

}  // namespace seg::detail
