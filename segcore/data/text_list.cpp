#include "segcore/data/text_list.hpp"

#include <cstdio>
#include <string_view>

#include "registry/error.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

/// Bytes of the UTF-8 character at `at`; 0 where there is none.
size_t character_length(std::string_view s, size_t at) {
  const auto lead = static_cast<unsigned char>(s[at]);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || at + length > s.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(s[at + i]) & 0xC0) != 0x80) return 0;
  }
  // Longer than needed, halves of UTF-16 pairs, beyond the last character.
  const auto second = static_cast<unsigned char>(s[at + 1]);
  const bool wrong = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
                     (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
  return wrong ? 0 : length;
}

void check_list_encoding(const std::string& path, std::string_view bytes) {
  if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) {
    throw DataError(path + ": is text in UTF-16; save it as UTF-8");
  }
  if (bytes.find('\0') != std::string_view::npos) {
    throw DataError(path + ": is no text; a name a line was expected");
  }
  size_t line = 1;
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = character_length(bytes, at);
    if (length == 0) {
      char value[8];
      std::snprintf(value, sizeof value, "0x%02X", static_cast<unsigned char>(bytes[at]));
      throw DataError(text(path, ": line ", line, " is not UTF-8: the byte ", value, " at offset ",
                           at, " begins no character. Save the file as UTF-8"));
    }
    line += bytes[at] == '\n';
    at += length;
  }
}

}  // namespace

std::vector<TextLine> read_text_list(const std::string& path) {
  const auto file = read_file_bytes(path);
  std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  check_list_encoding(path, bytes);
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.remove_prefix(3);
  std::vector<TextLine> lines;
  constexpr std::string_view kBlanks = " \t\f\v";
  for (size_t number = 1; !bytes.empty(); ++number) {
    const size_t end = std::min(bytes.find_first_of("\r\n"), bytes.size());
    std::string_view line = bytes.substr(0, end);
    const bool windows = bytes.substr(end).starts_with("\r\n");
    bytes.remove_prefix(std::min(end + (windows ? 2 : 1), bytes.size()));
    const size_t first = line.find_first_not_of(kBlanks);
    if (first == std::string_view::npos) continue;
    line = line.substr(first, line.find_last_not_of(kBlanks) + 1 - first);
    lines.push_back({std::string(line), number});
  }
  return lines;
}

}  // namespace seg
