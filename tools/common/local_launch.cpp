#include "tools/common/local_launch.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <map>
#include <system_error>
#include <thread>

#include "registry/log.hpp"
#include "runners/dist/communication_errors.hpp"
#include "runners/dist/launch_store.hpp"
#include "runners/start/device.hpp"
#include "runners/start/signals.hpp"
#include "tools/common/command_line.hpp"

extern "C" char** environ;

namespace seg {
namespace {

using LaunchClock = std::chrono::steady_clock;

/// The part of a run that is on this machine.
struct MachinePlace {
  int node = 0, nodes = 1;
  std::string host = "127.0.0.1";
  int port = 0;  ///< 0: any
};

int environment_number(const char* name, int fallback, int least) {
  const char* value = std::getenv(name);
  if (!value || *value == '\0') return fallback;
  char* end = nullptr;
  const long number = std::strtol(value, &end, 10);
  if (*end != '\0' || number < least || number > 65535) {
    throw UsageError(text("--nproc: the variable ", name, " is '", value,
                          "', expected a whole number of at least ", least));
  }
  return static_cast<int>(number);
}

MachinePlace machine_place() {
  MachinePlace place;
  place.nodes = environment_number("NNODES", 1, 1);
  if (place.nodes == 1) return place;
  const char* host = std::getenv("MASTER_ADDR");
  if (!host || !std::getenv("NODE_RANK")) {
    throw UsageError(text("--nproc: NNODES is ", place.nodes, ", which also needs NODE_RANK, 0 to ",
                          place.nodes - 1,
                          ", and MASTER_ADDR, the address of the machine with NODE_RANK=0"));
  }
  place.node = environment_number("NODE_RANK", 0, 0);
  if (place.node >= place.nodes) {
    throw UsageError(
        text("--nproc: NODE_RANK=", place.node, " does not go with NNODES=", place.nodes));
  }
  place.host = host;
  place.port = environment_number("MASTER_PORT", 29500, 1);
  return place;
}

int usable_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
  return std::max(1, CPU_COUNT(&cores));
}

/// The environment with some variables replaced, as execve takes it.
class ChildEnvironment {
 public:
  explicit ChildEnvironment(const std::map<std::string, std::string>& own) {
    for (char** entry = environ; *entry; ++entry) {
      const std::string_view line = *entry;
      if (own.count(std::string(line.substr(0, line.find('=')))) == 0) entries_.emplace_back(line);
    }
    for (const auto& [name, value] : own) entries_.push_back(text(name, "=", value));
    for (std::string& entry : entries_) pointers_.push_back(entry.data());
    pointers_.push_back(nullptr);
  }
  ChildEnvironment(const ChildEnvironment&) = delete;
  ChildEnvironment& operator=(const ChildEnvironment&) = delete;
  char** data() { return pointers_.data(); }

 private:
  std::vector<std::string> entries_;
  std::vector<char*> pointers_;
};

/// Writes all of it; a reader that went away is nobody's failure.
void write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
}

/// Errors that ranks have written on standard error. All ranks find the same mistake of a
/// configuration or a data set: it is shown once.
class ErrorLines {
 public:
  bool is_repeated(const std::string& line, int rank) {
    constexpr size_t kMostLines = 1000;
    if (line.find("error: ") == std::string::npos) return false;
    if (const auto found = first_.find(line); found != first_.end()) return found->second != rank;
    if (first_.size() < kMostLines) first_.emplace(line, rank);
    return false;
  }

 private:
  std::map<std::string, int> first_;
};

/// One output of a process, of which whole lines come out.
class OutputPipe {
 public:
  OutputPipe(int rank, int from, int to) : rank_(rank), from_(from), to_(to) {
    fcntl(from_, F_SETFL, fcntl(from_, F_GETFL) | O_NONBLOCK);
  }
  OutputPipe(const OutputPipe&) = delete;
  OutputPipe& operator=(const OutputPipe&) = delete;
  ~OutputPipe() {
    if (from_ >= 0) close(from_);
  }

  int descriptor() const { return from_; }  ///< -1 at its end

  void forward(ErrorLines& errors) {
    std::array<char, 16384> buffer{};
    for (;;) {
      const ssize_t count = read(from_, buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) break;
      if (count <= 0) {
        close(from_);
        from_ = -1;
        if (!rest_.empty() && rest_.back() != '\n') rest_ += '\n';
        break;
      }
      rest_.append(buffer.data(), static_cast<size_t>(count));
    }
    std::string out;
    for (size_t end; (end = rest_.find('\n')) != std::string::npos; rest_.erase(0, end + 1)) {
      const std::string line = rest_.substr(0, end + 1);
      if (to_ == STDERR_FILENO && errors.is_repeated(line, rank_)) continue;
      out += (rank_ == 0 ? std::string() : text("[", rank_, "] ")) + line;
    }
    write_all(to_, out);
  }

 private:
  int rank_, from_, to_;
  std::string rest_;
};

/// A process of the run.
struct StartedProcess {
  int rank = 0;
  pid_t pid = 0;  ///< 0: it has ended
};

std::string end_text(int status) {
  return WIFSIGNALED(status) ? "was killed by " + stop_signal_name(WTERMSIG(status))
                             : text("exited with ", WEXITSTATUS(status));
}

int end_code(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// What the parent waits for besides the end of processes: those that schedulers and terminals
/// send.
sigset_t launcher_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU, SIGTSTP}) {
    struct sigaction action {};
    sigaction(signal, nullptr, &action);
    if (signal != SIGCHLD && action.sa_handler == SIG_IGN) continue;  // nohup
    sigaddset(&signals, signal);
  }
  return signals;
}

/// Starts the processes of this machine and looks after them until the last has ended.
class ProcessLauncher {
 public:
  ProcessLauncher(const LocalLaunch& launch, const MachinePlace& place)
      : launch_(launch), place_(place), signals_(launcher_signals()) {
    // Before the store has a thread, which would else get some of them.
    pthread_sigmask(SIG_BLOCK, &signals_, &former_mask_);
    signal_file_ = signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK);
    store_.emplace(place_.node == 0 ? LaunchStore::serve(place_.port)
                                    : LaunchStore::at(place_.host, place_.port));
    for (int local = 0; local < launch_.count; ++local) start(local);
  }
  ProcessLauncher(const ProcessLauncher&) = delete;
  ProcessLauncher& operator=(const ProcessLauncher&) = delete;
  ~ProcessLauncher() {
    send_all(SIGKILL);
    for (const StartedProcess& one : processes_) {
      if (one.pid > 0) waitpid(one.pid, nullptr, 0);
    }
    close(signal_file_);
    pthread_sigmask(SIG_SETMASK, &former_mask_, nullptr);
  }

  int run() {
    while (running()) {
      wait_for_something();
      take_signals();
      collect();
      end_those_left();
    }
    for (const auto& pipe : pipes_) {
      if (pipe->descriptor() >= 0) pipe->forward(errors_);
    }
    if (!failure_.empty() && code_ != kStoppedBySignal) {
      std::cerr << "error: " << failure_ << std::endl;
    }
    leave_run();
    return code_;
  }

 private:
  int world() const { return place_.nodes * launch_.count; }

  void start(int local) {
    const int rank = place_.node * launch_.count + local;
    std::map<std::string, std::string> own{
        {"MASTER_ADDR", place_.host},
        {"MASTER_PORT", text(store_->port())},
        {"RANK", text(rank)},
        {"WORLD_SIZE", text(world())},
        {"LOCAL_RANK", text(local)},
        {"LOCAL_WORLD_SIZE", text(launch_.count)},
        {"TORCHELASTIC_USE_AGENT_STORE", "True"},
        {"TORCHELASTIC_RESTART_COUNT", "0"},
    };
    if (!std::getenv("OMP_NUM_THREADS")) {
      own["OMP_NUM_THREADS"] = text(std::max(1, usable_cores() / launch_.count));
    }
    ChildEnvironment environment(own);
    std::vector<std::string> words = launch_.words;
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);

    // The first process has the console to itself, with its colours and its progress bar.
    std::array<int, 2> out{-1, -1}, err{-1, -1};
    const bool first = rank == 0;
    if (!first) open_pipe(out);
    if (!first || isatty(STDERR_FILENO) == 0) open_pipe(err);
    std::cout.flush();
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
      // Only what may follow fork() in a program with threads.
      setpgid(0, 0);  // a terminal's Ctrl-C comes once, from the parent
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (getppid() != parent) _exit(kPeerLost);
      if (out[1] >= 0) dup2(out[1], STDOUT_FILENO);
      if (err[1] >= 0) dup2(err[1], STDERR_FILENO);
      signal(SIGTTOU, SIG_IGN);  // not in the terminal's foreground
      sigprocmask(SIG_SETMASK, &former_mask_, nullptr);
      execve(launch_.program.c_str(), argv.data(), environment.data());
      _exit(127);
    }
    for (const int end : {out[1], err[1]}) {
      if (end >= 0) close(end);
    }
    if (out[0] >= 0) pipes_.push_back(std::make_unique<OutputPipe>(rank, out[0], STDOUT_FILENO));
    if (err[0] >= 0) pipes_.push_back(std::make_unique<OutputPipe>(rank, err[0], STDERR_FILENO));
    if (pid < 0) throw std::system_error(errno, std::generic_category(), "cannot start a process");
    setpgid(pid, pid);  // in whichever of the two is first
    processes_.push_back({rank, pid});
  }

  static void open_pipe(std::array<int, 2>& ends) {
    if (pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw std::system_error(errno, std::generic_category(), "cannot start a process");
    }
  }

  bool running() const {
    return std::any_of(processes_.begin(), processes_.end(),
                       [](const StartedProcess& one) { return one.pid > 0; });
  }

  void send_all(int signal) const {
    for (const StartedProcess& one : processes_) {
      if (one.pid > 0) kill(-one.pid, signal);
    }
  }

  void wait_for_something() {
    std::vector<pollfd> files{{.fd = signal_file_, .events = POLLIN, .revents = 0}};
    for (const auto& pipe : pipes_) {
      files.push_back({.fd = pipe->descriptor(), .events = POLLIN, .revents = 0});
    }
    int wait_ms = -1;
    if (deadline_) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - LaunchClock::now());
      wait_ms = static_cast<int>(std::max<int64_t>(0, left.count()));
    }
    if (poll(files.data(), files.size(), wait_ms) < 0) return;
    for (size_t i = 0; i < pipes_.size(); ++i) {
      if (files[i + 1].revents != 0 && pipes_[i]->descriptor() >= 0) pipes_[i]->forward(errors_);
    }
  }

  void take_signals() {
    signalfd_siginfo info{};
    while (read(signal_file_, &info, sizeof info) == sizeof info) {
      const auto signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGTSTP) {
        send_all(SIGSTOP);
        raise(SIGSTOP);
        send_all(SIGCONT);
      } else if (signal != SIGCHLD) {
        signalled_ = true;
        send_all(signal);
      }
    }
  }

  /// Notes which processes have ended.
  void collect() {
    for (StartedProcess& one : processes_) {
      int status = 0;
      if (one.pid <= 0 || waitpid(one.pid, &status, WNOHANG) != one.pid) continue;
      one.pid = 0;
      const int code = end_code(status);
      if (code == 0) continue;
      store_->report_end(one.rank, WIFSIGNALED(status)
                                       ? "killed by " + stop_signal_name(WTERMSIG(status))
                                       : end_text(status));
      if (!deadline_) deadline_ = LaunchClock::now() + std::chrono::seconds(launch_.grace_s);
      // Whoever lost a peer ends because of it, though it may be seen first; and whoever is ended
      // here is not the cause.
      if (last_signal_ != 0 || (code_ != 0 && (code_ != kPeerLost || code == kPeerLost))) continue;
      code_ = code;
      failure_ = text("rank ", one.rank, " of ", world(), " ", end_text(status));
    }
  }

  /// Once one has failed and the others had their time.
  void end_those_left() {
    if (!deadline_ || LaunchClock::now() < *deadline_) return;
    last_signal_ = last_signal_ == 0 ? SIGTERM : SIGKILL;
    for (const StartedProcess& one : processes_) {
      if (one.pid <= 0) continue;
      std::cerr << "error: rank " << one.rank << " does not end and gets "
                << stop_signal_name(last_signal_) << std::endl;
    }
    send_all(last_signal_);
    deadline_ = LaunchClock::now() + std::chrono::seconds(launch_.terminate_s);
  }

  /// The store stays while processes of other machines need it.
  void leave_run() {
    if (place_.nodes == 1) return;
    store_->leave();
    if (place_.node != 0) return;
    // After a failure another machine may be gone, and the rest only reads who was lost.
    const int patience_s = code_ == 0 ? launch_.grace_s : launch_.terminate_s;
    const auto until = LaunchClock::now() + std::chrono::seconds(patience_s);
    while (store_->launchers_done() < place_.nodes && LaunchClock::now() < until && !signalled_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      take_signals();
    }
  }

  const LocalLaunch& launch_;
  MachinePlace place_;
  sigset_t signals_{}, former_mask_{};
  int signal_file_ = -1;
  std::optional<LaunchStore> store_;
  std::vector<StartedProcess> processes_;
  std::vector<std::unique_ptr<OutputPipe>> pipes_;
  ErrorLines errors_;
  std::optional<LaunchClock::time_point> deadline_;  ///< until those left are sent a signal
  int last_signal_ = 0;                              ///< that this process ended others with
  bool signalled_ = false;
  int code_ = 0;
  std::string failure_;
};

/// The file of this program, which may have been replaced while it ran.
std::string own_program() {
  std::array<char, 4096> path{};
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size());
  std::string file(path.data(), static_cast<size_t>(std::max<ssize_t>(0, size)));
  return access(file.c_str(), X_OK) == 0 ? file : "/proc/self/exe";
}

/// The command line of each process.
std::vector<std::string> words_of_processes(const std::vector<std::string>& words) {
  std::vector<std::string> out{words.at(0), "--launcher", "pytorch"};
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "--") {
      out.insert(out.end(), words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      break;
    }
    if (words[i] == "--nproc") {
      ++i;
    } else if (!words[i].starts_with("--nproc=")) {
      out.push_back(words[i]);
    }
  }
  return out;
}

int count_of(const std::string& nproc) {
  if (nproc != "gpu") return std::stoi(nproc);
  std::string problem;
  const int gpus = visible_gpus(problem);
  if (gpus > 0) return gpus;
  throw UsageError(text("--nproc gpu: ", problem, ". Write the number of processes"));
}

}  // namespace

void add_nproc(CLI::App& app, std::optional<std::string>& nproc) {
  app.add_option("--nproc", nproc,
                 "start this many processes on this machine, which work as one; gpu: one for each "
                 "GPU that is visible. NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT in the "
                 "environment join several machines")
      ->type_name("N|gpu")
      ->check(CLI::Validator(
          [](std::string& given) {
            return given == "gpu" ? std::string() : whole_number(1)(given);
          },
          ""));
}

std::optional<LocalLaunch> local_launch(const std::optional<std::string>& nproc,
                                        const std::optional<std::string>& launcher,
                                        const std::vector<std::string>& words) {
  if (!nproc) return std::nullopt;
  if (launcher && *launcher != "none") {
    throw UsageError(text("--nproc starts the processes itself: leave it out where ", *launcher,
                          " starts them, or leave out --launcher"));
  }
  constexpr int kMostProcesses = 4096;
  const int count = nproc->size() > 4 ? kMostProcesses + 1 : count_of(*nproc);
  if (count > kMostProcesses) {
    throw UsageError(text("--nproc: at most ", kMostProcesses, " processes, got ", *nproc));
  }
  if (count == 1 && machine_place().nodes == 1) return std::nullopt;
  log::set_level("ERROR");
  return LocalLaunch{.program = own_program(), .words = words_of_processes(words), .count = count};
}

int launch_processes(const LocalLaunch& launch) {
  return ProcessLauncher(launch, machine_place()).run();
}

}  // namespace seg
