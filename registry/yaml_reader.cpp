#include "registry/yaml_reader.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <limits>
#include <optional>
#include <sstream>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

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

/// A bracket expression of this project stands where YAML would read a mapping in a mapping or end
/// a plain text, so its special characters are swapped for control characters, which a config
/// cannot hold, before YAML sees them, and back after. One byte for one keeps the columns right.
constexpr std::string_view kTemplateChars = "{}:\"',[]#& ";
constexpr char kTemplateFirst = '\x0e';

std::string protect_templates(std::string text) {
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

std::string unprotect_templates(std::string text) {
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

/// yaml-cpp reads the escapes \N and \_ as single bytes, which are no UTF-8.
std::string repaired_utf8(std::string text) {
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

/// What YAML's own messages mean for the person who wrote the text.
std::string yaml_advice(const std::string& message) {
  struct Advice {
    const char* message;
    const char* text;
  };
  static constexpr std::array<Advice, 17> kAdvice{{
      {"illegal map value", "a ':' where no key can stand; check the indentation and the quotes"},
      {"illegal map key", "a '?' where no key can stand"},
      {"illegal block entry", "a '-' where no list item can stand; check the indentation"},
      {"illegal flow end", "a closing bracket without an opening one"},
      {"end of map not found", "a key without ':', or a line that is indented wrongly"},
      {"end of map flow not found", "a '}' or a ',' is missing"},
      {"end of sequence not found", "a list item without '-', or a line that is indented wrongly"},
      {"end of sequence flow not found", "a ']' or a ',' is missing"},
      {"illegal EOF in scalar", "a closing quote is missing"},
      {"unknown token", "a character that cannot begin a value; put the text in quotes"},
      {"illegal tab when looking for indentation", "a tab in the indentation; use spaces"},
      {"the referenced anchor is not defined", "'*' refers to an anchor that is not defined above"},
      {"alias not found after *",
       "the name of an anchor must follow '*'; put other text in quotes"},
      {"anchor not found after &", "a name must follow '&'; put other text in quotes"},
      {"unknown escape character",
       "in double quotes '\\' begins an escape; write a path in single quotes, or with '/'"},
      {"illegal character in scalar", "a character that cannot stand in a text"},
      {"illegal document indicator in scalar", "a '---' or '...' inside a text in quotes"},
  }};
  for (const Advice& a : kAdvice) {
    if (message == a.message) return a.text;
  }
  return message;
}

/// Ends the reading of one document.
struct YamlStop {
  YAML::Mark mark;
  std::string path;
  std::string message;
};

/// Makes the tree from the events of the parser.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& name, Diagnostics& problems)
      : file_(std::make_shared<const std::string>(name)), problems_(problems) {}

  Config take() { return std::move(root_); }

  /// Where the last scalar began that was not plain.
  const YAML::Mark& last_quoted() const { return last_quoted_; }

  Origin origin(const YAML::Mark& mark) const {
    if (mark.is_null()) return {file_, 0, 0};
    return {file_, mark.line + 1, mark.column + 1};
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {
    for (Config::Item& item : root_.map) {
      if (used_.contains(item.key)) item.used = true;
    }
  }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Config value;
    value.origin = origin(mark);
    add(std::move(value), mark, anchor, /*plain=*/false);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      throw YamlStop{mark, path(), "'*' refers to the very value that it stands in"};
    }
    if (!top_key().empty() && found->second.top_key != top_key()) {
      used_.insert(found->second.top_key);
    }
    count(found->second.values, mark);
    if (stack_.size() + found->second.depth > detail::kMaxConfigDepth) too_deep(mark);
    add(Config(found->second.value), mark, 0, /*plain=*/false);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& raw) override {
    Config value;
    value.scalar = repaired_utf8(unprotect_templates(raw));
    value.origin = origin(mark);
    value.kind = kind_of(tag, value.scalar, mark);
    if (value.is_null()) value.scalar.clear();
    if (tag != "?") last_quoted_ = mark;
    add(std::move(value), mark, anchor, /*plain=*/tag == "?");
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(Config::Kind::kList, mark, anchor);
    if (tag == "tag:yaml.org,2002:python/tuple") {
      stack_.back().value.is_tuple = true;
    } else if (tag != "tag:yaml.org,2002:python/list") {
      check_tag(tag, "tag:yaml.org,2002:seq", mark);
    }
  }
  void OnSequenceEnd() override { end(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(Config::Kind::kMap, mark, anchor);
    if (tag != "tag:yaml.org,2002:python/dict") check_tag(tag, "tag:yaml.org,2002:map", mark);
  }
  void OnMapEnd() override {
    Frame& frame = stack_.back();
    expand_merges(frame);
    end();
  }

 private:
  struct Anchored {
    Config value;
    std::string top_key;
    size_t values = 0, depth = 0;
  };
  /// A list or mapping that is being read.
  struct Frame {
    Config value;
    YAML::Mark mark;
    YAML::anchor_t anchor = 0;
    bool is_key = false;    ///< stands where a key should, and is dropped
    bool has_key = false;   ///< a mapping's key was read, its value not
    bool merge = false;     ///< that key is `<<`
    bool repeated = false;  ///< that key was there before
    std::string key;
    Origin key_origin;
    std::unordered_map<std::string, int> lines;  ///< of the keys
    std::vector<std::pair<size_t, Config>> merges;
  };

  /// The path of the value that would come next.
  std::string path() const {
    std::string out;
    for (const Frame& frame : stack_) {
      if (frame.value.is_map() && !frame.has_key) break;
      if (!out.empty()) out += '.';
      out += frame.value.is_map() ? frame.key : seg::text(frame.value.list.size());
    }
    return out;
  }

  std::string top_key() const {
    return stack_.empty() || !stack_.front().has_key ? std::string() : stack_.front().key;
  }

  void count(size_t values, const YAML::Mark& mark) {
    values_ += values;
    if (values_ > detail::kMaxConfigValues) {
      throw YamlStop{mark, path(),
                     seg::text("more than ", detail::kMaxConfigValues,
                               " values; aliases within aliases multiply")};
    }
  }

  [[noreturn]] void too_deep(const YAML::Mark& mark) const {
    throw YamlStop{mark, "",
                   seg::text("lists and mappings are nested deeper than ", detail::kMaxConfigDepth,
                             " levels")};
  }

  Config::Kind kind_of(const std::string& tag, const std::string& text, const YAML::Mark& mark) {
    using Kind = Config::Kind;
    if (tag == "?" || tag.empty()) return detail::plain_kind(text);
    if (tag == "!") return Kind::kString;
    constexpr std::string_view kPrefix = "tag:yaml.org,2002:";
    if (tag.starts_with(kPrefix)) {
      std::string_view type = std::string_view(tag).substr(kPrefix.size());
      if (type.starts_with("python/")) type.remove_prefix(7);
      if (type == "str" || type == "unicode") return Kind::kString;
      const Kind plain = detail::plain_kind(text);
      if (type == "int" && plain == Kind::kInt) return plain;
      if (type == "float" && (plain == Kind::kInt || plain == Kind::kFloat)) return Kind::kFloat;
      if (type == "bool" && plain == Kind::kBool) return plain;
      if (type == "null" || type == "none") return Kind::kNull;
      if (type == "int" || type == "float" || type == "bool") {
        problems_.error(origin(mark), path(),
                        seg::text("'", text, "' is not of the type !!", type));
        return Kind::kString;
      }
    }
    unknown_tag(tag, mark);
    return Kind::kString;
  }

  void check_tag(const std::string& tag, std::string_view allowed, const YAML::Mark& mark) {
    if (tag.empty() || tag == "?" || tag == "!" || tag == allowed) return;
    unknown_tag(tag, mark);
  }

  void unknown_tag(std::string tag, const YAML::Mark& mark) {
    constexpr std::string_view kPrefix = "tag:yaml.org,2002:";
    if (tag.starts_with(kPrefix)) tag = "!!" + tag.substr(kPrefix.size());
    problems_.error(origin(mark), path(),
                    seg::text("values with the tag ", tag,
                              " cannot be read; write plain texts, numbers, lists and mappings"));
  }

  void begin(Config::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    count(1, mark);
    if (stack_.size() >= detail::kMaxConfigDepth) too_deep(mark);
    Frame frame;
    frame.value.kind = kind;
    frame.value.origin = origin(mark);
    frame.mark = mark;
    frame.anchor = anchor;
    if (!stack_.empty() && stack_.back().value.is_map() && !stack_.back().has_key) {
      problems_.error(
          origin(mark), path(),
          "a key must be a text, not a list or mapping; text with brackets needs quotes");
      frame.is_key = true;
    }
    stack_.push_back(std::move(frame));
  }

  void end() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    if (frame.is_key) {
      Frame& parent = stack_.back();
      parent.has_key = true;
      parent.repeated = true;  // its value is dropped
      parent.key = "?";
      return;
    }
    place(std::move(frame.value), frame.anchor);
  }

  void add(Config value, const YAML::Mark& mark, YAML::anchor_t anchor, bool plain) {
    count(1, mark);
    if (!stack_.empty() && stack_.back().value.is_map() && !stack_.back().has_key) {
      read_key(value, mark, plain);
      if (anchor != 0) remember(anchor, value);
      return;
    }
    place(std::move(value), anchor);
  }

  void read_key(const Config& key, const YAML::Mark& mark, bool plain) {
    Frame& frame = stack_.back();
    frame.merge = plain && key.scalar == "<<";
    frame.repeated = false;
    if (!key.is_scalar()) {
      problems_.error(origin(mark), path(), "a key must be a text");
      frame.repeated = true;
    } else if (key.scalar.size() > detail::kMaxKeyBytes) {
      problems_.error(origin(mark), path(),
                      seg::text("a key of more than ", detail::kMaxKeyBytes,
                                " bytes; is a bracket or a quote missing before it?"));
      frame.repeated = true;
    }
    frame.has_key = true;
    frame.key = key.scalar;
    frame.key_origin = origin(mark);
    if (frame.merge || frame.repeated) return;
    const auto [first, fresh] = frame.lines.emplace(frame.key, mark.line + 1);
    if (!fresh) {
      problems_.error(
          frame.key_origin, path(),
          seg::text("this key is there twice; it was first given in line ", first->second));
      frame.repeated = true;
    }
  }

  void remember(YAML::anchor_t anchor, const Config& value) {
    anchors_[anchor] = {value, top_key(), detail::count_values(value), detail::depth_of(value)};
  }

  void place(Config value, YAML::anchor_t anchor) {
    if (anchor != 0) remember(anchor, value);
    if (stack_.empty()) {
      root_ = std::move(value);
      return;
    }
    Frame& frame = stack_.back();
    if (frame.value.is_list()) {
      frame.value.list.push_back(std::move(value));
      return;
    }
    if (frame.merge) {
      frame.merges.emplace_back(frame.value.map.size(), std::move(value));
    } else if (!frame.repeated) {
      frame.value.map.push_back({frame.key, frame.key_origin, std::move(value)});
    }
    frame.has_key = frame.merge = frame.repeated = false;
  }

  /// `<<: *a` and `<<: [*a, *b]`: keys that are not there yet, those of earlier mappings first.
  void expand_merges(Frame& frame) {
    for (auto merge = frame.merges.rbegin(); merge != frame.merges.rend(); ++merge) {
      Config& given = merge->second;
      std::vector<Config> sources;
      if (given.is_list()) {
        sources = std::move(given.list);
      } else {
        sources.push_back(std::move(given));
      }
      std::vector<Config::Item> fresh;
      for (Config& source : sources) {
        if (!source.is_map()) {
          problems_.error(source.origin, path(), "'<<' takes a mapping or a list of mappings");
          continue;
        }
        for (Config::Item& item : source.map) {
          if (frame.lines.emplace(item.key, 0).second) fresh.push_back(std::move(item));
        }
      }
      auto at = frame.value.map.begin() + static_cast<std::ptrdiff_t>(merge->first);
      frame.value.map.insert(at, std::make_move_iterator(fresh.begin()),
                             std::make_move_iterator(fresh.end()));
    }
  }

  std::shared_ptr<const std::string> file_;
  Diagnostics& problems_;
  std::vector<Frame> stack_;
  std::unordered_map<YAML::anchor_t, Anchored> anchors_;
  std::unordered_set<std::string> used_;  ///< top-level keys whose values aliases repeat elsewhere
  size_t values_ = 0;
  YAML::Mark last_quoted_ = YAML::Mark::null_mark();
  Config root_;
};

/// The text from a line (counted from 0) on.
std::string_view from_line(std::string_view text, int line) {
  for (; line > 0; --line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  return text;
}

/// Whether the quotes that open at or after the mark (a tag may come first) are never closed, which
/// yaml-cpp overlooks where the text ends in a line break.
bool quotes_stay_open(std::string_view text, const YAML::Mark& mark) {
  if (mark.is_null()) return false;
  text = from_line(text, mark.line);
  if (static_cast<size_t>(mark.column) >= text.size()) return false;
  text.remove_prefix(static_cast<size_t>(mark.column));
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

bool tab_indents(std::string_view text, int line) {
  text = from_line(text, line);
  return text.substr(0, std::min(text.find_first_not_of(" \t"), text.size())).find('\t') !=
         std::string_view::npos;
}

/// The first thing that no configuration text can hold, as a message; its place in `at`.
std::string wrong_character(const std::string& text, size_t& at) {
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

size_t detail::count_values(const Config& config) {
  size_t count = 1;
  for (const Config& c : config.list) count += count_values(c);
  for (const Config::Item& item : config.map) count += count_values(item.value);
  return count;
}

size_t detail::depth_of(const Config& config) {
  size_t deepest = 0;
  for (const Config& c : config.list) deepest = std::max(deepest, depth_of(c));
  for (const Config::Item& item : config.map) deepest = std::max(deepest, depth_of(item.value));
  return config.is_list() || config.is_map() ? deepest + 1 : 0;
}

Config detail::read_yaml(const std::string& text, const std::string& name, bool templates,
                         Diagnostics& problems) {
  TreeBuilder builder(name, problems);
  size_t at = 0;
  if (std::string wrong = wrong_character(text, at); !wrong.empty()) {
    const auto line =
        std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    const size_t before = text.rfind('\n', at);
    YAML::Mark mark;
    mark.line = static_cast<int>(line);
    mark.column = static_cast<int>(before == std::string::npos ? at : at - before - 1);
    problems.error(builder.origin(mark), "", wrong);
    return {};
  }
  std::istringstream stream(templates ? protect_templates(text) : text);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return {};
    if (quotes_stay_open(text, builder.last_quoted())) {
      problems.error(builder.origin(builder.last_quoted()), "",
                     "not valid YAML: these quotes are not closed");
      return {};
    }
    Config root = builder.take();
    Diagnostics ignored;
    TreeBuilder second(name, ignored);
    if (parser.HandleNextDocument(second)) {
      const bool marked =
          text.find("\n---") != std::string::npos || text.find("\n...") != std::string::npos;
      problems.error(second.take().origin, "",
                     marked ? "a second document ('---'); one file holds one"
                            : "not valid YAML: this does not continue what stands above it; check "
                              "the indentation");
    }
    return root;
  } catch (const YamlStop& e) {
    problems.error(builder.origin(e.mark), e.path, e.message);
  } catch (const YAML::Exception& e) {
    const bool tab = !e.mark.is_null() && tab_indents(text, e.mark.line);
    problems.error(builder.origin(e.mark), "",
                   seg::text("not valid YAML: ",
                             tab ? "a tab in the indentation; use spaces" : yaml_advice(e.msg)));
  } catch (const std::exception& e) {
    problems.error(builder.origin(YAML::Mark::null_mark()), "",
                   seg::text("cannot be read as YAML: ", e.what()));
  }
  return {};
}

}  // namespace seg
