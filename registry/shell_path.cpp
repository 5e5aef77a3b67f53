#include "registry/shell_path.hpp"

#include <cctype>
#include <cstdlib>

namespace seg {
namespace {

/// Length of "~", "$NAME" or "${NAME}" in front of a slash; 0 for other texts.
size_t prefix_length(std::string_view path) {
  const size_t end = path.find('/');
  if (end == std::string_view::npos) return 0;
  const std::string_view first = path.substr(0, end);
  if (first == "~") return end;
  if (!first.starts_with('$')) return 0;
  const bool braces = first.size() > 3 && first[1] == '{' && first.back() == '}';
  const std::string_view name = braces ? first.substr(2, first.size() - 3) : first.substr(1);
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])) != 0) return 0;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_') return 0;
  }
  return end;
}

}  // namespace

std::string_view shell_variable(std::string_view path) {
  const std::string_view first = path.substr(0, prefix_length(path));
  if (first.empty()) return {};
  if (first == "~") return "HOME";
  return first[1] == '{' ? first.substr(2, first.size() - 3) : first.substr(1);
}

std::optional<std::string> expand_shell_path(const std::string& path) {
  const std::string name(shell_variable(path));
  if (name.empty()) return path;
  const char* value = std::getenv(name.c_str());
  if (!value || *value == '\0') return std::nullopt;
  return value + path.substr(prefix_length(path));
}

}  // namespace seg
