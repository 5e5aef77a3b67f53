#include "runners/sweep/child_program.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "runners/start/signals.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {

ChildProgram::ChildProgram(const std::vector<std::string>& words, const std::string& output) {
  const int file = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) throw FileError(text("cannot write ", output, ": ", std::strerror(errno)));
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  // A SIGTERM between fork and exec would be taken by this program's handler, and lost.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  pid_ = ::fork();
  if (pid_ == 0) {
    std::signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(kStoppedBySignal);  // it died before the call
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    static const char kMessage[] = "error: the program cannot be started\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
    ::_exit(127);
  }
  sigprocmask(SIG_SETMASK, &before, nullptr);
  ::close(file);
  if (pid_ < 0) throw DataError(text("cannot start ", words[0], ": ", std::strerror(errno)));
}

void ChildProgram::send(int signal) const { ::kill(pid_, signal); }

bool ChildProgram::ended(int& status) const { return ::waitpid(pid_, &status, WNOHANG) == pid_; }

}  // namespace seg
