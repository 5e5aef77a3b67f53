#include "registry/yaml_reader.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <exception>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "registry/yaml_scalar.hpp"
#include "registry/yaml_text.hpp"

namespace seg {
namespace {

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
    // A few messages go on with what was found: "unknown escape character: d".
    if (message == a.message || message.starts_with(std::string(a.message) + ":")) return a.text;
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
    value.scalar = detail::repaired_utf8(detail::unprotect_templates(raw));
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

}  // namespace

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
    const YAML::Mark& quoted = builder.last_quoted();
    if (!quoted.is_null() && quotes_stay_open(text, quoted.line, quoted.column)) {
      problems.error(builder.origin(quoted), "", "not valid YAML: these quotes are not closed");
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
    if (e.msg.starts_with(YAML::ErrorMsg::INVALID_UNICODE)) {
      const std::string joined = with_joined_escapes(text);
      if (joined != text) return read_yaml(joined, name, templates, problems);
    }
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
