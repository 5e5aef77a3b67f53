#include "registry/python_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "registry/text.hpp"

namespace seg::detail {
namespace {

constexpr int kNoSuchProgram = 127;
constexpr size_t kMostAnswer = 256 << 20;

std::string python_interpreter() {
  const char* given = std::getenv("SEGCORE_PYTHON");
  return given && *given ? given : "python3";
}

/// In the child: becomes Python, whose standard input and output are the socket.
[[noreturn]] void become_python(char* const* argv, int socket, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kNoSuchProgram);  // it died before the call
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGPIPE}) std::signal(signal, SIG_DFL);
  const int nowhere = open("/dev/null", O_RDWR);
  dup2(socket, STDIN_FILENO);
  dup2(socket, STDOUT_FILENO);
  dup2(nowhere, STDERR_FILENO);
  execvp(argv[0], argv);
  _exit(kNoSuchProgram);
}

/// A file in memory, which a command line could not hold.
int script_in_memory(const std::string& script) {
  const int file = memfd_create("read_config.py", 0);
  if (file < 0) return file;
  for (size_t done = 0; done < script.size();) {
    const ssize_t n = write(file, script.data() + done, script.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  return file;
}

}  // namespace

PythonProcess::PythonProcess(const std::string& script) : interpreter_(python_interpreter()) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw PythonFailed(text(interpreter_, " cannot be started: ", std::strerror(errno)));
  }
  const int file = script_in_memory(script);
  // -I: neither variables of the environment nor the current folder change what Python does.
  std::array<std::string, 3> words{interpreter_, "-I", text("/proc/self/fd/", file)};
  const std::array<char*, 4> argv{words[0].data(), words[1].data(), words[2].data(), nullptr};
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) become_python(argv.data(), ends[1], parent);
  close(file);
  close(ends[1]);
  socket_ = ends[0];
  if (pid_ < 0) {
    end();
    throw PythonFailed(text(interpreter_, " cannot be started: ", std::strerror(errno)));
  }
}

PythonProcess::~PythonProcess() { end(); }

void PythonProcess::end() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

/// Says why the other side is gone.
void PythonProcess::fail() {
  close(socket_);
  socket_ = -1;
  int status = 0;
  const bool known = waitpid(pid_, &status, 0) == pid_;
  pid_ = -1;
  if (known && WIFEXITED(status) && WEXITSTATUS(status) == kNoSuchProgram) {
    throw PythonFailed(
        text("there is no program '", interpreter_,
             "': configurations in Python need Python 3.9 or newer (SEGCORE_PYTHON names another "
             "interpreter), or convert them to YAML where one is, with tools/print_config"));
  }
  std::string how;
  if (known && WIFEXITED(status)) how = text(" (exit code ", WEXITSTATUS(status), ")");
  if (known && WIFSIGNALED(status)) how = text(" (signal ", WTERMSIG(status), ")");
  throw PythonFailed(text(interpreter_, ", which evaluates it, ended without an answer", how,
                          "; Python 3.9 or newer is needed"));
}

void PythonProcess::send(const std::string& text) {
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t n = ::send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail();
    sent += static_cast<size_t>(n);
  }
}

std::string PythonProcess::ask(const std::string& line, std::chrono::seconds patience,
                               std::chrono::seconds grace) {
  using Clock = std::chrono::steady_clock;
  if (socket_ < 0) throw PythonFailed(text(interpreter_, " has ended"));
  const auto until = Clock::now() + patience + grace;
  send(line + "\n");
  std::array<char, 1 << 16> buffer{};
  while (true) {
    if (const size_t newline = received_.find('\n'); newline != std::string::npos) {
      std::string answer = received_.substr(0, newline);
      received_.erase(0, newline + 1);
      return answer;
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd waiting{.fd = socket_, .events = POLLIN, .revents = 0};
    const int ready = left > 0 ? poll(&waiting, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0 || received_.size() > kMostAnswer) {
      end();
      throw PythonFailed(ready <= 0
                             ? text("its evaluation has not ended after ", patience.count(), " s")
                             : "it makes more than 256 MiB");
    }
    const ssize_t n = recv(socket_, buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail();
    received_.append(buffer.data(), static_cast<size_t>(n));
  }
}

}  // namespace seg::detail
