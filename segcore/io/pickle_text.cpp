#include "segcore/io/pickle_text.hpp"

#include <charconv>

namespace seg {

std::string_view PickleText::line() {
  const size_t end = text_.find('\n', at_);
  if (end == std::string_view::npos) fail("cut short");
  const auto out = text_.substr(at_, end - at_);
  at_ = end + 1;
  return out;
}

int64_t PickleText::decimal(std::string_view digits) const {
  int64_t out = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  if (error != std::errc() || end != digits.data() + digits.size()) fail("a number is expected");
  return out;
}

namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_code_point(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
    return;
  }
  const int tails = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr uint8_t kLead[] = {0, 0xc0, 0xe0, 0xf0};
  out.push_back(static_cast<char>(kLead[tails] | (c >> (6 * tails) & 0x3f)));
  for (int i = tails; i-- > 0;) out.push_back(static_cast<char>(0x80 | (c >> (6 * i) & 0x3f)));
}

/// The character that a one-letter escape stands for; the letter itself where it stands for none.
char unescaped(char letter) {
  switch (letter) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '0':
      return '\0';
    default:
      return letter;
  }
}

}  // namespace

std::string PickleText::quoted(std::string_view literal) const {
  if (literal.size() < 2 || (literal[0] != '\'' && literal[0] != '"') ||
      literal.back() != literal[0]) {
    fail("a quoted string is expected");
  }
  literal = literal.substr(1, literal.size() - 2);
  std::string out;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 >= literal.size()) {
      out.push_back(literal[i]);
      continue;
    }
    const char c = literal[++i];
    if (c != 'x') {
      out.push_back(unescaped(c));
      continue;
    }
    if (i + 2 >= literal.size()) fail("a string escape is cut short");
    const int high = hex_digit(literal[i + 1]), low = hex_digit(literal[i + 2]);
    if (high < 0 || low < 0) fail("a wrong string escape");
    out.push_back(static_cast<char>(high << 4 | low));
    i += 2;
  }
  return out;
}

std::string PickleText::raw_unicode(std::string_view escaped) const {
  std::string out;
  for (size_t i = 0; i < escaped.size(); ++i) {
    const char c = escaped[i];
    const size_t digits = i + 1 < escaped.size() && c == '\\' ? (escaped[i + 1] == 'u'   ? 4
                                                                 : escaped[i + 1] == 'U' ? 8
                                                                                         : 0)
                                                              : 0;
    if (digits == 0) {
      append_code_point(out, static_cast<uint8_t>(c));
      continue;
    }
    if (i + 1 + digits >= escaped.size()) fail("a string escape is cut short");
    uint32_t code = 0;
    for (size_t k = 0; k < digits; ++k) {
      const int digit = hex_digit(escaped[i + 2 + k]);
      if (digit < 0) fail("a wrong string escape");
      code = code << 4 | static_cast<uint32_t>(digit);
    }
    append_code_point(out, code);
    i += 1 + digits;
  }
  return out;
}

}  // namespace seg
