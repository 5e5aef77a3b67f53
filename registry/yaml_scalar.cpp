#include "registry/yaml_scalar.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <string>
#include <system_error>

namespace seg {
namespace {

bool yaml_digit(char c) { return c >= '0' && c <= '9'; }

/// The position after the digits at `i`, between which '_' may stand; `i` where there are none.
size_t yaml_skip_digits(std::string_view s, size_t i) {
  while (i < s.size() && (yaml_digit(s[i]) || (s[i] == '_' && i > 0 && yaml_digit(s[i - 1]) &&
                                               i + 1 < s.size() && yaml_digit(s[i + 1])))) {
    ++i;
  }
  return i;
}

bool yaml_is_int(std::string_view s) {
  if (s.starts_with("0x") || s.starts_with("0o")) {
    const bool hex = s[1] == 'x';
    return s.size() > 2 && std::all_of(s.begin() + 2, s.end(), [hex](unsigned char c) {
             return hex ? std::isxdigit(c) != 0 : (c >= '0' && c <= '7');
           });
  }
  const size_t begin = !s.empty() && (s[0] == '+' || s[0] == '-') ? 1 : 0;
  const size_t end = yaml_skip_digits(s, begin);
  return end > begin && end == s.size();
}

bool yaml_is_float(std::string_view s) {
  if (!s.empty() && (s[0] == '+' || s[0] == '-')) {
    s.remove_prefix(1);
    if (s == ".inf" || s == ".Inf" || s == ".INF") return true;
  }
  for (const char* word : {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"}) {
    if (s == word) return true;
  }
  const size_t whole = yaml_skip_digits(s, 0);
  size_t i = whole;
  size_t fraction = 0;
  if (i < s.size() && s[i] == '.') {
    fraction = yaml_skip_digits(s, i + 1) - (i + 1);
    i += 1 + fraction;
  }
  if (whole + fraction == 0) return false;
  if (i < s.size() && (s[i] == 'e' || s[i] == 'E')) {
    ++i;
    if (i < s.size() && (s[i] == '+' || s[i] == '-')) ++i;
    const size_t begin = i;
    i = yaml_skip_digits(s, i);
    if (i == begin) return false;
  }
  return i == s.size();
}

}  // namespace

Config::Kind detail::plain_kind(std::string_view text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") {
    return Config::Kind::kNull;
  }
  for (const char* word : {"true", "True", "TRUE", "false", "False", "FALSE"}) {
    if (text == word) return Config::Kind::kBool;
  }
  if (yaml_is_int(text)) return Config::Kind::kInt;
  return yaml_is_float(text) ? Config::Kind::kFloat : Config::Kind::kString;
}

std::optional<int64_t> detail::int_value(std::string_view text) {
  if (plain_kind(text) != Config::Kind::kInt) return std::nullopt;
  std::string digits;
  for (char c : text) {
    if (c != '_' && c != '+') digits += c;
  }
  int base = 10;
  if (digits.starts_with("0x") || digits.starts_with("0o")) {
    base = digits[1] == 'x' ? 16 : 8;
    digits.erase(0, 2);
  }
  int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [last, failure] = std::from_chars(digits.data(), end, value, base);
  if (failure != std::errc{} || last != end) return std::nullopt;
  return value;
}

std::optional<double> detail::float_value(std::string_view text) {
  const Config::Kind kind = plain_kind(text);
  if (kind == Config::Kind::kInt) {
    if (const auto value = int_value(text)) return static_cast<double>(*value);
  } else if (kind != Config::Kind::kFloat) {
    return std::nullopt;
  }
  std::string digits;
  for (char c : text) {
    if (c != '_') digits += c;
  }
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.erase(0, 1);
  double value = 0;
  if (digits.starts_with(".i") || digits.starts_with(".I")) {
    value = std::numeric_limits<double>::infinity();
  } else if (digits.starts_with(".n") || digits.starts_with(".N")) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    const char* end = digits.data() + digits.size();
    const auto [last, failure] = std::from_chars(digits.data(), end, value);
    if (failure == std::errc::result_out_of_range) {
      // Python reads 1e-400 as 0 and 1e400 as inf.
      value = std::strtod(digits.c_str(), nullptr);
    } else if (failure != std::errc{} || last != end) {
      return std::nullopt;
    }
  }
  return negative ? -value : value;
}

}  // namespace seg
