#include "registry/log.hpp"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <stdio_ext.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "registry/console_line.hpp"
#include "registry/error.hpp"

namespace seg::log {
namespace {

/// The names of Python's logging, which tools that read such logs look for.
std::string_view level_name(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
    case spdlog::level::debug:
      return "DEBUG";
    case spdlog::level::info:
      return "INFO";
    case spdlog::level::warn:
      return "WARNING";
    default:
      return "ERROR";
  }
}

class LevelNameFlag final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    const std::string_view name = level_name(message.level);
    out.append(name.data(), name.data() + name.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return spdlog::details::make_unique<LevelNameFlag>();
  }
};

std::unique_ptr<spdlog::formatter> line_format(const std::string& pattern) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<LevelNameFlag>('*').set_pattern(pattern);
  return formatter;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      break;
  }
  return spdlog::level::err;
}

/// The console and, while a file is open, the file.
class LogSinks {
 public:
  LogSinks() : console_(std::make_shared<spdlog::sinks::stdout_color_sink_mt>()) {
    console_->set_formatter(line_format("%m/%d %H:%M:%S - segcore - %^%*%$ - %v"));
  }

  void write(Level level, std::string_view message) {
    const std::scoped_lock lock(mutex_);
    if (holding_) {
      held_.emplace_back(level, message);
    } else {
      write_now(level, message, /*on_console=*/true);
    }
  }

  void write_details(std::string_view message) {
    const std::scoped_lock lock(mutex_);
    write_now(Level::kInfo, message, details_on_console_);
  }

  void set_details_on_console(bool on) {
    const std::scoped_lock lock(mutex_);
    details_on_console_ = on;
  }

  void hold(bool on) {
    const std::scoped_lock lock(mutex_);
    holding_ = on;
  }

  void release() {
    const std::scoped_lock lock(mutex_);
    holding_ = false;
    for (const auto& [level, message] : held_) write_now(level, message, /*on_console=*/true);
    held_.clear();
  }

  void set_level(Level level) {
    const std::scoped_lock lock(mutex_);
    level_ = to_spdlog(level);
  }

  void set_rank(int rank) {
    const std::scoped_lock lock(mutex_);
    rank_ = rank;
  }

  void before_console_line(std::function<void()> make_room) {
    const std::scoped_lock lock(mutex_);
    make_room_ = std::move(make_room);
  }

  void open_file(const std::string& path) {
    std::shared_ptr<spdlog::sinks::basic_file_sink_mt> file;
    if (!path.empty()) {
      try {
        file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path, /*truncate=*/false);
      } catch (const spdlog::spdlog_ex& e) {
        throw DataError(text("cannot write the log file '", path, "': ", e.what()));
      }
      file->set_formatter(line_format("%Y/%m/%d %H:%M:%S - segcore - %* - %v"));
    }
    const std::scoped_lock lock(mutex_);
    file_ = std::move(file);
  }

  void flush() {
    const std::scoped_lock lock(mutex_);
    console_->flush();
    if (file_) file_->flush();
  }

 private:
  void write_now(Level level, std::string_view message, bool on_console) {
    const auto wanted = to_spdlog(level);
    if (wanted < level_) return;
    const spdlog::details::log_msg record("segcore", wanted,
                                          spdlog::string_view_t(message.data(), message.size()));
    // Flushed at once: the last lines of a killed run show why it was killed.
    if (on_console && wanted >= console_level()) write_on_console(record);
    if (!file_) return;
    try {
      file_->log(record);
      file_->flush();
    } catch (const spdlog::spdlog_ex& e) {
      file_.reset();  // a full disk must not end training; the console reports it
      console_->log(
          {"segcore", spdlog::level::err, text("can no longer write to the log file: ", e.what())});
    }
  }

  /// A console that cannot be written to (a full disk behind `>`) loses the line, and no more: the
  /// mark of the failure is removed, so that what the program prints as its result is judged alone.
  void write_on_console(const spdlog::details::log_msg& record) {
    if (make_room_) make_room_();
    const bool intact = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    console_->log(record);
    console_->flush();
    if (!intact || std::ferror(stdout) == 0) return;
    __fpurge(stdout);
    std::clearerr(stdout);
  }

  spdlog::level::level_enum console_level() const {
    return rank_ == 0 ? level_ : std::max(level_, spdlog::level::warn);
  }

  std::mutex mutex_;
  std::shared_ptr<spdlog::sinks::stdout_color_sink_mt> console_;
  std::shared_ptr<spdlog::sinks::basic_file_sink_mt> file_;
  spdlog::level::level_enum level_ = spdlog::level::info;
  int rank_ = 0;
  bool holding_ = false, details_on_console_ = true;
  std::function<void()> make_room_;
  std::vector<std::pair<Level, std::string>> held_;
};

LogSinks& sinks() {
  static LogSinks all;
  return all;
}

}  // namespace

void write(Level level, std::string_view message) { sinks().write(level, message); }

void set_details_on_console(bool on) { sinks().set_details_on_console(on); }
void details(std::string_view message) { sinks().write_details(message); }

bool set_level(std::string_view name) {
  if (name == "DEBUG") {
    sinks().set_level(Level::kDebug);
  } else if (name == "INFO") {
    sinks().set_level(Level::kInfo);
  } else if (name == "WARNING" || name == "WARN") {
    sinks().set_level(Level::kWarning);
  } else if (name == "ERROR" || name == "CRITICAL") {
    sinks().set_level(Level::kError);
  } else {
    return false;
  }
  return true;
}

void open_file(const std::string& path) { sinks().open_file(path); }
void set_rank(int rank) { sinks().set_rank(rank); }
void flush() { sinks().flush(); }
void before_console_line(std::function<void()> make_room) {
  sinks().before_console_line(std::move(make_room));
}

Held::Held() { sinks().hold(true); }
Held::~Held() { release(); }
void Held::stop() { sinks().hold(false); }
void Held::release() { sinks().release(); }

}  // namespace seg::log
