/// The line at the bottom of a terminal that shows how far a run has come.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace seg {

/// What the bar shows.
struct ProgressFacts {
  std::string what;  ///< "train"
  int64_t done = 0, total = 0;
  std::vector<std::string> facts;  ///< most important first; the last are left out of narrow lines
};

/// "train  12/80 [====>        ] eta 0:00:09  loss 0.5123", of exactly `width` columns where that
/// is enough for the counts.
std::string progress_line(const ProgressFacts& progress, int width);

/// "52.1 images/s", or "4.2 s/image" for less than one in a second.
std::string rate_text(double images_per_s);

/// Draws on standard error, if that is a terminal. A line of the log replaces the bar; the next
/// `show` draws it again. There may be one at a time.
class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Whether it would be seen, and was not drawn within the last `pause_s` seconds.
  bool due(double pause_s) const;
  void show(const ProgressFacts& progress);
  void clear();

 private:
  bool terminal_;
  std::atomic<bool> shown_ = false;  ///< records may come from any thread
  std::chrono::steady_clock::time_point drawn_;
};

}  // namespace seg
