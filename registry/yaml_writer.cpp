// dump_yaml and dump_flow: YAML as PyYAML's `dump(default_flow_style=False)` lays it out, so that a
// config written here looks like one that MMEngine wrote, and both read either.
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "registry/text.hpp"
#include "registry/yaml.hpp"
#include "registry/yaml_scalar.hpp"

namespace seg {
namespace {

bool writer_digits_only(std::string_view s, std::string_view also) {
  if (s.empty()) return false;
  for (char c : s) {
    if ((c < '0' || c > '9') && also.find(c) == std::string_view::npos) return false;
  }
  return true;
}

/// Whether PyYAML, which reads YAML 1.1, takes the text for something else than a string where the
/// core schema does not: yes, 1:30, 2026-01-31, =.
bool is_special_in_yaml_1_1(std::string_view s) {
  static constexpr std::array<std::string_view, 15> kWords{"yes", "Yes", "YES", "no", "No",
                                                           "NO",  "on",  "On",  "ON", "off",
                                                           "Off", "OFF", "=",   "<<", "..."};
  for (std::string_view word : kWords) {
    if (s == word) return true;
  }
  if (s.find_first_of("0123456789") == std::string_view::npos) return false;
  const bool begins_like_a_number = s[0] == '-' || s[0] == '+' || s[0] == '.' || s[0] <= '9';
  return begins_like_a_number && (writer_digits_only(s, "+-.:_TtZz eE") || s.starts_with("0b"));
}

bool needs_escapes(std::string_view s) {
  for (char c : s) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) return true;
  }
  // Line separators of Unicode, which YAML folds, and the byte order mark.
  for (const char* bytes : {"\xC2\x85", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xEF\xBB\xBF"}) {
    if (s.find(bytes) != std::string_view::npos) return true;
  }
  return s.find("{{") != std::string_view::npos;  // would be substituted when read back
}

std::string double_quoted(std::string_view s) {
  std::string out = "\"";
  for (size_t i = 0; i < s.size(); ++i) {
    const auto byte = static_cast<unsigned char>(s[i]);
    switch (s[i]) {
      case '"':
        out += "\\\"";
        continue;
      case '\\':
        out += "\\\\";
        continue;
      case '\n':
        out += "\\n";
        continue;
      case '\t':
        out += "\\t";
        continue;
      case '\r':
        out += "\\r";
        continue;
      default:
        break;
    }
    const std::string_view rest = s.substr(i);
    if (byte < 0x20 || byte == 0x7F || rest.starts_with("{{")) {
      constexpr std::string_view kHex = "0123456789ABCDEF";
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else if (rest.starts_with("\xC2\x85")) {
      out += "\\N";
      i += 1;
    } else if (rest.starts_with("\xE2\x80\xA8") || rest.starts_with("\xE2\x80\xA9")) {
      out += rest[2] == '\xA8' ? "\\L" : "\\P";
      i += 2;
    } else if (rest.starts_with("\xEF\xBB\xBF")) {
      out += "\\uFEFF";
      i += 2;
    } else {
      out += s[i];
    }
  }
  return out + '"';
}

bool can_be_plain(std::string_view s, bool flow) {
  if (s.empty() || s.front() == ' ' || s.back() == ' ' || s.back() == ':') return false;
  constexpr std::string_view kIndicators = "-?:,[]{}#&*!|>'\"%@`";
  const bool may_begin_plain = s.size() > 1 && (s[0] == '-' || (s[0] == '?' && !flow)) &&
                               s[1] != ' ' && !s.starts_with("---");
  if (kIndicators.find(s.front()) != std::string_view::npos && !may_begin_plain) return false;
  if (flow && s.find_first_of(",[]{}?") != std::string_view::npos) return false;
  return s.find(": ") == std::string_view::npos && s.find(" #") == std::string_view::npos;
}

std::string single_quoted(std::string_view s) {
  std::string out = "'";
  for (char c : s) {
    out += c;
    if (c == '\'') out += c;
  }
  return out + "'";
}

std::string string_text(std::string_view s, bool flow) {
  if (needs_escapes(s)) return double_quoted(s);
  const bool plain = can_be_plain(s, flow) && detail::plain_kind(s) == Config::Kind::kString &&
                     !is_special_in_yaml_1_1(s);
  return plain ? std::string(s) : single_quoted(s);
}

/// Keys are texts, but PyYAML writes those that are numbers without quotes and reads them as
/// numbers, which they stay when written without quotes again.
std::string key_text(std::string_view key, bool flow) {
  if (detail::plain_kind(key) == Config::Kind::kInt) return std::string(key);
  return string_text(key, flow);
}

/// `1e-3` as `1.0e-3`, `1E5` as `1.0E+5`: YAML 1.1 takes them for strings otherwise.
std::string float_text(const std::string& written) {
  if (written.find_first_of("nN") != std::string::npos) return written;  // .inf and .nan
  const size_t e = written.find_first_of("eE");
  std::string mantissa = written.substr(0, e);
  if (mantissa.find('.') == std::string::npos) mantissa += ".0";
  if (e == std::string::npos) return mantissa;
  const bool has_sign = written[e + 1] == '-' || written[e + 1] == '+';
  return mantissa + written[e] + (has_sign ? "" : "+") + written.substr(e + 1);
}

/// YAML 1.1 does not know `0o17`. All else stays as written: an option that is a text may want it.
std::string int_text(const std::string& written) {
  if (!written.starts_with("0o")) return written;
  const auto value = detail::int_value(written);
  return value ? seg::text(*value) : written;
}

std::string scalar_text(const Config& c, bool flow) {
  switch (c.kind) {
    case Config::Kind::kNull:
      return "null";
    case Config::Kind::kString:
      return string_text(c.scalar, flow);
    case Config::Kind::kInt:
      return int_text(c.scalar);
    case Config::Kind::kFloat:
      return float_text(c.scalar);
    default:
      return c.scalar;
  }
}

void write_flow(const Config& c, std::string& out) {
  if (c.is_list()) {
    out += '[';
    for (size_t i = 0; i < c.list.size(); ++i) {
      if (i > 0) out += ", ";
      write_flow(c.list[i], out);
    }
    out += ']';
  } else if (c.is_map()) {
    out += '{';
    for (size_t i = 0; i < c.map.size(); ++i) {
      if (i > 0) out += ", ";
      out += key_text(c.map[i].key, true) + ": ";
      write_flow(c.map[i].value, out);
    }
    out += '}';
  } else {
    out += scalar_text(c, true);
  }
}

/// As it may stand behind a `#`.
std::string comment_text(std::string_view s) {
  std::string out(s);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20) c = '?';
  }
  return out;
}

class BlockWriter {
 public:
  BlockWriter(bool origins, bool python_tuples, const YamlComments& comments)
      : origins_(origins), tuples_(python_tuples), comments_(comments) {}

  /// Writes a value whose key or dash stands before the end of `out_`. `indent` is the column of
  /// that key or dash; `in_list` whether it is a dash.
  void value(const Config& c, const std::string& path, size_t indent, bool in_list) {
    const bool tagged = c.is_list() && c.is_tuple && tuples_;
    const bool empty = (c.is_list() && c.list.empty()) || (c.is_map() && c.map.empty());
    if (tagged) out_ += " !!python/tuple";
    if (!(c.is_list() || c.is_map()) || empty) {
      out_ += ' ';
      out_ += empty ? (c.is_list() ? "[]" : "{}") : scalar_text(c, false);
      std::vector<std::string> said;
      if (origins_) said.push_back(c.origin.text());
      end_line(std::move(said), path);
      return;
    }
    if (in_list && !tagged) {
      out_ += ' ';  // "- - 1" and "- key: 1": the first entry stands beside the dash
      entries(c, path, indent + 2, /*first_in_line=*/true);
      return;
    }
    end_line({}, path);
    entries(c, path, c.is_map() || in_list ? indent + 2 : indent, false);
  }

  void entries(const Config& c, const std::string& path, size_t indent, bool first_in_line) {
    for (size_t i = 0; i < c.list.size(); ++i) {
      begin_entry(indent, first_in_line);
      out_ += '-';
      value(c.list[i], path_of(path, std::to_string(i)), indent, true);
    }
    for (const Config::Item& item : c.map) {
      begin_entry(indent, first_in_line);
      out_ += key_text(item.key, false) + ":";
      value(item.value, path_of(path, item.key), indent, false);
    }
  }

  void head() {
    const auto found = comments_.find("");
    if (found == comments_.end()) return;
    for (const std::string& remark : found->second) out_ += "# " + comment_text(remark) + "\n";
  }

  std::string out_;

 private:
  /// Without comments no path is needed.
  std::string path_of(const std::string& parent, const std::string& key) const {
    if (comments_.empty()) return {};
    return parent.empty() ? key : parent + "." + key;
  }

  void end_line(std::vector<std::string> said, const std::string& path) {
    if (const auto found = comments_.find(path); !path.empty() && found != comments_.end()) {
      said.insert(said.end(), found->second.begin(), found->second.end());
    }
    if (!said.empty()) out_ += "  # " + comment_text(join(said, "; "));
    out_ += '\n';
  }

  void begin_entry(size_t indent, bool& first_in_line) {
    if (!first_in_line) out_.append(indent, ' ');
    first_in_line = false;
  }

  bool origins_, tuples_;
  const YamlComments& comments_;
};

}  // namespace

std::string dump_yaml(const Config& config, bool origins, bool python_tuples,
                      const YamlComments& comments) {
  BlockWriter writer(origins, python_tuples, comments);
  writer.head();
  const bool empty = config.list.empty() && config.map.empty();
  if (empty) {
    const size_t begin = writer.out_.size();
    writer.value(config, "", 0, false);
    writer.out_.erase(begin, 1);  // the space that follows a key
    return writer.out_;
  }
  if (config.is_tuple && python_tuples) writer.out_ += "!!python/tuple\n";
  writer.entries(config, "", 0, false);
  return writer.out_;
}

std::string dump_flow(const Config& config) {
  std::string out;
  write_flow(config, out);
  return out;
}

}  // namespace seg
