#include "runners/log/progress_bar.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "registry/console_line.hpp"
#include "registry/printed.hpp"
#include "registry/terminal.hpp"

namespace seg {

std::string progress_line(const ProgressFacts& progress, int width) {
  const std::string total = std::to_string(progress.total);
  std::string count = std::to_string(progress.done);
  count.insert(0, total.size() - std::min(total.size(), count.size()), ' ');
  const std::string head = progress.what + "  " + count + "/" + total + " ";
  constexpr size_t kShortestBar = 12, kBrackets = 2;
  const auto columns = static_cast<size_t>(std::max(0, width));
  std::string tail;
  for (const std::string& fact : progress.facts) {
    const std::string more = tail + (tail.empty() ? " " : "  ") + fact;
    if (head.size() + more.size() + kBrackets + kShortestBar > columns) break;
    tail = more;
  }
  const size_t used = head.size() + tail.size() + kBrackets;
  if (used >= columns) return head.substr(0, columns);
  const size_t bar = columns - used;
  const auto share =
      progress.total > 0
          ? std::clamp(static_cast<double>(progress.done) / static_cast<double>(progress.total),
                       0.0, 1.0)
          : 0.0;
  const auto filled = static_cast<size_t>(share * static_cast<double>(bar));
  std::string drawn(filled, '=');
  if (filled > 0 && filled < bar) drawn.back() = '>';
  return head + "[" + drawn + std::string(bar - filled, ' ') + "]" + tail;
}

std::string rate_text(double images_per_s) {
  // Always as wide, so that the bar keeps its length.
  if (images_per_s < 1) return printed("%4.1f s/image", 1 / std::max(images_per_s, 1e-6));
  return printed(images_per_s < 99.95 ? "%4.1f images/s" : "%4.0f images/s", images_per_s);
}

ProgressBar::ProgressBar() : terminal_(isatty(STDERR_FILENO) == 1) {
  if (terminal_) log::before_console_line([this] { clear(); });
}

ProgressBar::~ProgressBar() {
  if (!terminal_) return;
  log::before_console_line(nullptr);
  clear();
}

bool ProgressBar::due(double pause_s) const {
  if (!terminal_) return false;
  const std::chrono::duration<double> since = std::chrono::steady_clock::now() - drawn_;
  return !shown_ || since.count() >= pause_s;
}

void ProgressBar::show(const ProgressFacts& progress) {
  if (!terminal_) return;
  // Not the last column, where some terminals begin a new line.
  const std::string line = progress_line(progress, terminal_width(STDERR_FILENO) - 1);
  std::fprintf(stderr, "\r\033[2K%s\r", line.c_str());
  std::fflush(stderr);
  shown_ = true;
  drawn_ = std::chrono::steady_clock::now();
}

void ProgressBar::clear() {
  if (!shown_) return;
  std::fputs("\r\033[2K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace seg
