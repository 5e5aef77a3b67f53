/// Numbers in words of messages and tables.
#pragma once
#include <string>

namespace seg {

/// As std::printf writes it: printed("%.4g", value).
[[gnu::format(printf, 1, 2)]] std::string printed(const char* format, ...);

}  // namespace seg
