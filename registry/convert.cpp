#include "registry/convert.hpp"

#include <cmath>

#include "registry/yaml.hpp"
#include "registry/yaml_scalar.hpp"

namespace seg {

void detail::wrong_type(const Config& got, const std::string& path, const std::string& wanted,
                        Diagnostics& problems) {
  constexpr size_t kLongestShown = 60;
  std::string shown = dump_flow(got);
  if (got.kind == Config::Kind::kString && !shown.starts_with('\'') && !shown.starts_with('"')) {
    shown = "'" + shown + "'";
  }
  if (shown.size() > kLongestShown) {
    size_t end = kLongestShown - 3;
    while (end > 0 && (static_cast<unsigned char>(shown[end]) & 0xC0) == 0x80) --end;  // in UTF-8
    shown = shown.substr(0, end) + "...";
  }
  const Config::Kind without_quotes = plain_kind(got.scalar);
  const bool number_in_quotes =
      got.kind == Config::Kind::kString &&
      (without_quotes == Config::Kind::kInt || without_quotes == Config::Kind::kFloat);
  problems.error(got.origin, path,
                 text("expected ", wanted, ", got ", shown,
                      number_in_quotes ? ", which is a string because of its quotes" : ""));
}

namespace {
TypeDoc scalar_doc(TypeDoc::Kind kind, std::string name) {
  return {.kind = kind, .name = std::move(name), .items = {}};
}

/// The number that a scalar which is one stands for; not that of a string which looks like one.
std::optional<double> number(const Config& c) {
  if (c.kind != Config::Kind::kInt && c.kind != Config::Kind::kFloat) return std::nullopt;
  return detail::float_value(c.scalar);
}
}  // namespace

TypeDoc Convert<bool>::type() { return scalar_doc(TypeDoc::Kind::kBool, "bool"); }
std::optional<bool> Convert<bool>::from(const Config& c, const std::string& path,
                                        Diagnostics& problems) {
  if (c.kind == Config::Kind::kBool) {
    const char first = c.scalar.empty() ? 'f' : c.scalar[0];
    return first == 't' || first == 'T';
  }
  detail::wrong_type(c, path, "true or false", problems);
  return std::nullopt;
}
std::string Convert<bool>::show(const bool& v) { return v ? "true" : "false"; }

TypeDoc Convert<int64_t>::type() { return scalar_doc(TypeDoc::Kind::kInt, "int"); }
std::optional<int64_t> Convert<int64_t>::from(const Config& c, const std::string& path,
                                              Diagnostics& problems) {
  if (c.kind == Config::Kind::kInt) {
    // Not through a double, which holds only 53 bits of a seed.
    if (const auto value = detail::int_value(c.scalar)) return value;
    problems.error(c.origin, path, text("the number ", c.scalar, " is too large"));
    return std::nullopt;
  }
  const auto value = number(c);
  if (value && std::floor(*value) == *value && std::abs(*value) < 9e15) {
    return static_cast<int64_t>(*value);
  }
  detail::wrong_type(c, path, "int", problems);
  return std::nullopt;
}
std::string Convert<int64_t>::show(const int64_t& v) { return text(v); }

TypeDoc Convert<double>::type() { return scalar_doc(TypeDoc::Kind::kFloat, "float"); }
std::optional<double> Convert<double>::from(const Config& c, const std::string& path,
                                            Diagnostics& problems) {
  if (const auto value = number(c)) return value;
  detail::wrong_type(c, path, "float", problems);
  return std::nullopt;
}
std::string Convert<double>::show(const double& v) { return dump_flow(Config::of(v)); }

TypeDoc Convert<std::string>::type() { return scalar_doc(TypeDoc::Kind::kString, "string"); }
std::optional<std::string> Convert<std::string>::from(const Config& c, const std::string& path,
                                                      Diagnostics& problems) {
  if (c.is_scalar()) return c.scalar;
  detail::wrong_type(c, path, "string", problems);
  return std::nullopt;
}
std::string Convert<std::string>::show(const std::string& v) { return dump_flow(Config::of(v)); }

TypeDoc Convert<Config>::type() { return scalar_doc(TypeDoc::Kind::kAny, "any value"); }
std::optional<Config> Convert<Config>::from(const Config& c, const std::string&, Diagnostics&) {
  return c;
}
std::string Convert<Config>::show(const Config& v) { return dump_flow(v); }

}  // namespace seg
