/// Joins values to one string, for messages.
#pragma once
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace seg {

/// text("expected ", n, " maps, got ", m): all that has an `operator<<`.
template <class... T>
std::string text(const T&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class Range>
std::string join(const Range& items, std::string_view separator) {
  std::ostringstream out;
  bool first = true;
  for (const auto& item : items) {
    if (!first) out << separator;
    first = false;
    out << item;
  }
  return out.str();
}

/// " Did you mean 'x'?" for the known name nearest to `wrong` (edit distance, a transposition
/// counts one), or "" when none is close.
std::string did_you_mean(std::string_view wrong, const std::vector<std::string>& known);

}  // namespace seg
