#include "tools/measure/measuring_process.hpp"

#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <thread>

#include "registry/file_text.hpp"
#include "registry/text.hpp"
#include "runners/start/signals.hpp"
#include "runners/sweep/child_program.hpp"

namespace seg {
namespace {

struct LastLines {
  std::string any, error;
  std::optional<Measured> json;
};

LastLines last_lines(const std::string& output) {
  LastLines out;
  std::istringstream in(output);
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    out.any = line;
    if (line.find("error: ") != std::string::npos) out.error = line;
    Measured found = Measured::parse(line, nullptr, /*allow_exceptions=*/false);
    if (found.is_object()) out.json = std::move(found);
  }
  return out;
}

std::string without_prefix(const std::string& line, const std::string& prefix) {
  return line.starts_with(prefix) ? line.substr(prefix.size()) : line;
}

/// \return the status of waitpid; nothing if the time is up.
std::optional<int> wait_for_end(const ChildProgram& child, int64_t limit_s) {
  constexpr auto kPause = std::chrono::milliseconds(10);
  const double until = seconds_now() + static_cast<double>(limit_s);
  int status = 0;
  while (!child.ended(status)) {
    if (seconds_now() > until) {
      child.send(SIGKILL);
      while (!child.ended(status)) std::this_thread::sleep_for(kPause);
      return std::nullopt;
    }
    std::this_thread::sleep_for(kPause);
  }
  return status;
}

}  // namespace

ProcessAnswer measure_in_process(const std::vector<std::string>& words, const std::string& output,
                                 int64_t limit_s) {
  std::error_code ignored;
  std::filesystem::remove(output, ignored);
  const ChildProgram child(words, output);
  const std::optional<int> status = wait_for_end(child, limit_s);
  ProcessAnswer answer;
  if (!status) {
    answer.problem = text("not done after ", limit_s, " s");
    return answer;
  }
  LastLines last = last_lines(file_text(output).value_or(""));
  if (WIFSIGNALED(*status)) {
    answer.problem = "killed by " + stop_signal_name(WTERMSIG(*status));
    return answer;
  }
  answer.exit_code = WEXITSTATUS(*status);
  if (answer.exit_code == 0 && last.json) {
    answer.found = std::move(last.json);
    return answer;
  }
  answer.problem = without_prefix(last.error.empty() ? last.any : last.error, "error: ");
  if (answer.problem.empty()) {
    answer.problem = text("it ended with exit code ", answer.exit_code, " and no message");
  }
  return answer;
}

}  // namespace seg
