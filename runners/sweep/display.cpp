#include "runners/sweep/display.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <sstream>
#include <thread>

#include "registry/console_line.hpp"
#include "registry/log.hpp"
#include "registry/terminal.hpp"
#include "runners/sweep/slurm.hpp"
#include "runners/sweep/table.hpp"

namespace seg {
namespace {

constexpr auto kTablePause = std::chrono::seconds(1);

bool on_terminal() { return isatty(STDOUT_FILENO) == 1; }

size_t terminal_lines() {
  winsize size{};
  constexpr size_t kUsual = 24;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : kUsual;
}

/// A text at the bottom of the terminal that is replaced each time.
class LiveText {
 public:
  LiveText() {
    log::before_console_line([this] { clear(); });
  }
  ~LiveText() { log::before_console_line(nullptr); }
  LiveText(const LiveText&) = delete;
  LiveText& operator=(const LiveText&) = delete;

  void show(const std::string& words) {
    clear();
    std::fputs(words.c_str(), stdout);
    std::fflush(stdout);
    lines_ = static_cast<size_t>(std::count(words.begin(), words.end(), '\n'));
  }
  void clear() {
    if (lines_ > 0) std::printf("\033[%zuA\033[J", lines_);
    std::fflush(stdout);
    lines_ = 0;
  }

 private:
  size_t lines_ = 0;
};

/// Leaves out of a long table the rows of runs that are not running.
std::string fitted(const std::string& table, size_t most) {
  std::vector<std::string> lines;
  std::istringstream in(table);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  constexpr size_t kHead = 1, kFoot = 2;
  for (size_t i = lines.size(); lines.size() > most && i-- > kHead;) {
    const bool kept = i + kFoot >= lines.size() || lines[i].find(" running ") != std::string::npos;
    if (!kept) lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return join(lines, "\n") + "\n";
}

std::string live_table(const SweepSpec& spec, const std::vector<RunReport>& reports) {
  return fitted(table_text(spec, reports, terminal_width(STDOUT_FILENO) - 1), terminal_lines() - 1);
}

class TableDisplay final : public SweepDisplay {
 public:
  explicit TableDisplay(const SweepSpec& spec) : spec_(spec) {}
  void show(const std::vector<RunReport>& reports) override {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + kTablePause;
    text_.show(live_table(spec_, reports));
  }
  ~TableDisplay() override { text_.clear(); }

 private:
  const SweepSpec& spec_;
  LiveText text_;
  std::chrono::steady_clock::time_point next_;
};

class LogDisplay final : public SweepDisplay {
 public:
  explicit LogDisplay(const SweepSpec& spec) : spec_(spec) {}
  void show(const std::vector<RunReport>& reports) override {
    for (const RunReport& report : reports) {
      const auto [before, first] = shown_.emplace(report.run.number, report.status);
      const bool same = before->second == report.status;
      before->second = report.status;
      if (same && !(first && report.status == RunStatus::kRunning)) continue;
      const auto& result = report.result;
      log::info(report.run.name, ": ", status_word(report.status),
                result.metric && report.status != RunStatus::kRunning
                    ? text(", ", spec_.metric, " ", *result.metric, " at ", result.metric_step)
                    : std::string(),
                report.state.error.empty() ? "" : ": " + report.state.error);
    }
  }

 private:
  const SweepSpec& spec_;
  std::map<size_t, RunStatus> shown_;
};

}  // namespace

std::unique_ptr<SweepDisplay> make_display(const SweepSpec& spec) {
  if (on_terminal()) return std::make_unique<TableDisplay>(spec);
  return std::make_unique<LogDisplay>(spec);
}

void show_table(const SweepFolder& folder, const SweepSpec& spec) {
  ReportReader reader(folder, spec);
  const auto read = [&] {
    auto reports = reader.read();
    if (spec.engine == "slurm") settle_by_queue(folder, reports);
    return reports;
  };
  if (!on_terminal()) {
    std::fputs(table_text(spec, read(), 0).c_str(), stdout);
    return;
  }
  LiveText live;
  for (;;) {
    const auto reports = read();
    const bool running = std::any_of(reports.begin(), reports.end(), [](const RunReport& report) {
      return report.status == RunStatus::kRunning;
    });
    if (!running) {
      live.show(table_text(spec, reports, terminal_width(STDOUT_FILENO) - 1));
      return;
    }
    live.show(live_table(spec, reports));
    std::this_thread::sleep_for(kTablePause);
  }
}

}  // namespace seg
