/// A line at the bottom of the console that the log makes room for.
#pragma once
#include <functional>

namespace seg::log {

/// Called before each record on the console; null ends it. It must not log.
void before_console_line(std::function<void()> make_room);

}  // namespace seg::log
