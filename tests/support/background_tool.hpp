/// A program that runs beside the test, and can be stopped at any moment.
#pragma once
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace seg::test {

class BackgroundTool {
 public:
  using Environment = std::vector<std::pair<std::string, std::string>>;
  /// \param words  the program and its arguments.
  /// \param output  file that both streams are appended to.
  /// \param environment  variables of the program in addition to those of the test.
  BackgroundTool(const std::vector<std::string>& words, std::string output,
                 const Environment& environment = {})
      : output_(std::move(output)), begin_(all_output().size()) {
    std::fflush(nullptr);  // else the child writes again what is buffered
    pid_ = fork();
    if (pid_ != 0) return;
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    if (!freopen(output_.c_str(), "a", stdout) || !freopen(output_.c_str(), "a", stderr)) {
      _exit(126);
    }
    std::vector<char*> argv;
    for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  BackgroundTool(const BackgroundTool&) = delete;
  BackgroundTool& operator=(const BackgroundTool&) = delete;
  /// Nothing outlives a test that failed.
  ~BackgroundTool() {
    if (pid_ <= 0) return;
    send(SIGKILL);
    wait();
  }

  void send(int signal) const { kill(pid_, signal); }
  /// The exit code, or minus the signal that ended it.
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  bool running() const {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
  }
  /// What it has printed so far.
  std::string output() const { return all_output().substr(begin_); }
  /// Waits until it has printed `words` `count` times. \return false if it ended before.
  bool wait_for(const std::string& words, int count = 1) const {
    for (;;) {
      const bool over = !running();
      const std::string text = output();
      int found = 0;
      for (size_t at = 0; (at = text.find(words, at)) != std::string::npos; ++at) ++found;
      if (found >= count) return true;
      if (over) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

 private:
  std::string all_output() const {
    std::ifstream in(output_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::string output_;
  size_t begin_ = 0;
  pid_t pid_ = 0;
};

}  // namespace seg::test
