#include "registry/yaml_text.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>

#include "registry/text.hpp"

namespace seg {
namespace {

/// A bracket expression of this project stands where YAML would read a mapping in a mapping or end
/// a plain text, so its special characters are swapped for control characters, which a config
/// cannot hold, before YAML sees them, and back after. One byte for one keeps the columns right.
constexpr std::string_view kTemplateChars = "{}:\"',[]#& ";
constexpr char kTemplateFirst = '\x0e';

/// The length of the UTF-8 character at `i`, or 0 where there is none.
size_t utf8_length(std::string_view s, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(s[k]); };
  const unsigned char first = byte(i);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first < 0xE0   ? 2
                        : first >= 0xE0 && first < 0xF0 ? 3
                        : first >= 0xF0 && first < 0xF5 ? 4
                                                        : 0;
  if (length == 0 || i + length > s.size()) return 0;
  for (size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return 0;
  }
  return length;
}

/// The value of the escape "\ud83d" at `at`, where it is one with a value from `first` to `last`.
std::optional<uint32_t> utf16_half(std::string_view s, size_t at, uint32_t first, uint32_t last) {
  if (s.substr(at, 2) != "\\u" || at + 6 > s.size()) return std::nullopt;
  uint32_t value = 0;
  const char* end = s.data() + at + 6;
  const auto [stop, failure] = std::from_chars(s.data() + at + 2, end, value, 16);
  if (failure != std::errc{} || stop != end || value < first || value > last) return std::nullopt;
  return value;
}

/// The text from a line (counted from 0) on.
std::string_view from_line(std::string_view text, int line) {
  for (; line > 0; --line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  return text;
}

}  // namespace

std::string detail::with_joined_escapes(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto high = utf16_half(text, at, 0xD800, 0xDBFF);
    const auto low = high ? utf16_half(text, at + 6, 0xDC00, 0xDFFF) : std::nullopt;
    if (low) {
      char joined[16];
      std::snprintf(joined, sizeof joined, "\\U%08x",
                    0x10000 + ((*high - 0xD800) << 10) + (*low - 0xDC00));
      out += joined;
      at += 12;
    } else {
      // An escaped backslash begins no other escape.
      const size_t length = text.compare(at, 2, "\\\\") == 0 ? 2 : 1;
      out += text.substr(at, length);
      at += length;
    }
  }
  return out;
}

std::string detail::protect_templates(std::string text) {
  for (size_t at = text.find("{{"); at != std::string::npos; at = text.find("{{", at + 2)) {
    const size_t end = text.find("}}", at);
    const size_t line_end = text.find('\n', at);
    if (end == std::string::npos || line_end < end) continue;
    if (text.find_first_of("{}", at + 2) < end) continue;
    for (size_t i = at; i < end + 2; ++i) {
      const size_t which = kTemplateChars.find(text[i]);
      if (which != std::string_view::npos) {
        text[i] = static_cast<char>(kTemplateFirst + static_cast<char>(which));
      }
    }
  }
  return text;
}

std::string detail::unprotect_templates(std::string text) {
  constexpr char kOpen[] = {kTemplateFirst, kTemplateFirst, 0};
  constexpr char kClose[] = {kTemplateFirst + 1, kTemplateFirst + 1, 0};
  for (size_t at = text.find(kOpen); at != std::string::npos; at = text.find(kOpen, at)) {
    const size_t end = std::min(text.find(kClose, at), text.size() - 2) + 2;
    for (; at < end; ++at) {
      const int which = text[at] - kTemplateFirst;
      if (which >= 0 && which < static_cast<int>(kTemplateChars.size())) {
        text[at] = kTemplateChars[static_cast<size_t>(which)];
      }
    }
  }
  return text;
}

std::string detail::repaired_utf8(std::string text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text, i);
    if (length == 0) {
      const char byte = text[i];
      text.replace(i, 1, {'\xC2', byte});
      i += 2;
    } else {
      i += length;
    }
  }
  return text;
}

std::string detail::wrong_character(const std::string& text, size_t& at) {
  for (at = 0; at < text.size();) {
    const auto c = static_cast<unsigned char>(text[at]);
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F) {
      return seg::text("this is no YAML text: it holds a control character (byte value ",
                       static_cast<int>(c), ")");
    }
    const size_t length = utf8_length(text, at);
    if (length == 0) {
      return seg::text("this is no YAML text in UTF-8: it holds the byte value ",
                       static_cast<int>(c));
    }
    at += length;
  }
  return {};
}

bool detail::quotes_stay_open(std::string_view text, int line, int column) {
  text = from_line(text, line);
  if (static_cast<size_t>(column) >= text.size()) return false;
  text.remove_prefix(static_cast<size_t>(column));
  while (!text.empty() && (text[0] == '!' || text[0] == '&')) {  // tags and anchors
    text.remove_prefix(std::min(text.find_first_of(" \n"), text.size()));
    text.remove_prefix(std::min(text.find_first_not_of(" \n"), text.size()));
  }
  if (text.empty() || (text[0] != '\'' && text[0] != '"')) return false;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[0] == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == text[0]) {
      if (text[0] == '"' || i + 1 >= text.size() || text[i + 1] != '\'') return false;
      ++i;  // '' inside single quotes
    }
  }
  return true;
}

bool detail::tab_indents(std::string_view text, int line) {
  text = from_line(text, line);
  return text.substr(0, std::min(text.find_first_not_of(" \t"), text.size())).find('\t') !=
         std::string_view::npos;
}

}  // namespace seg
