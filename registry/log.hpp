/// The log: finished texts in, lines on the console and in the log file out. spdlog is a detail of
/// log.cpp (its fmt and the one of LibTorch must not meet in one source file).
#pragma once
#include <string>
#include <string_view>

#include "registry/text.hpp"

namespace seg::log {

enum class Level { kDebug, kInfo, kWarning, kError };

/// Writes one record; lines after the first are written as they are.
void write(Level level, std::string_view message);

/// "DEBUG", "INFO", "WARNING" or "ERROR", as `log_level` has it; false for any other word.
bool set_level(std::string_view name);
/// From now on also writes to `path` ("2026/11/21 03:26:08 - segcore - INFO - ..."); "" ends it.
void open_file(const std::string& path);
/// On the console, ranks other than 0 keep quiet below warnings; their files have everything.
void set_rank(int rank);
/// Whether details() appear on the console too, as they do by default.
void set_details_on_console(bool on);
/// Long records of level INFO that people look up: the config, the environment.
void details(std::string_view message);
/// Writes out what is buffered.
void flush();

/// Holds records back until the log file is open, so that earlier ones are written to it, in their
/// place. There may be one at a time.
class Held {
 public:
  Held();
  ~Held();  ///< writes what is still kept
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  /// Later records are written at once; those held keep waiting.
  void stop();
  /// Stops, and writes those kept.
  void release();
};

template <class... T>
void debug(const T&... parts) {
  write(Level::kDebug, text(parts...));
}
template <class... T>
void info(const T&... parts) {
  write(Level::kInfo, text(parts...));
}
template <class... T>
void warn(const T&... parts) {
  write(Level::kWarning, text(parts...));
}
template <class... T>
void error(const T&... parts) {
  write(Level::kError, text(parts...));
}

}  // namespace seg::log
