/// Turns exceptions into messages and exit codes.
#pragma once
#include <string>

namespace seg {

/// The exit code of the exception in flight, whose message is written to standard error. Call it
/// inside a catch block.
int report_exception(const std::string& program);

}  // namespace seg
