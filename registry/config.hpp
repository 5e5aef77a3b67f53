/// The resolved configuration: a tree of values, each of which knows where it was written.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "registry/error.hpp"

namespace seg {

/// Where a value was written, kept through `_base_` merging so that every message points at the
/// line a person has to edit. For overrides the file is "--cfg-options #2" and the line 0.
struct Origin {
  std::shared_ptr<const std::string> file;
  int line = 0;    ///< 1-based; 0 without a line.
  int column = 0;  ///< 1-based.
  /// "configs/a.yaml:3:5", "--cfg-options #2" or "<unknown>".
  std::string text() const;
};

/// A node of a configuration. Scalars are typed as YAML's core schema has it (`1e-3` is a float, a
/// quoted "1" a string), and keep their text as written.
class Config {
 public:
  enum class Kind { kNull, kBool, kInt, kFloat, kString, kList, kMap };
  struct Item;
  /// A value that a later file or option replaced.
  struct Replaced {
    Origin origin;
    std::string shown;  ///< flow-style YAML
  };

  Kind kind = Kind::kNull;
  std::string scalar;        ///< text of a scalar, without quotes
  std::vector<Config> list;  ///< kList
  bool is_tuple = false;     ///< a list that was written as !!python/tuple
  std::vector<Item> map;     ///< kMap, in file order, keys unique
  Origin origin;
  std::vector<Replaced> history;  ///< earlier values of this key, oldest first

  bool is_null() const { return kind == Kind::kNull; }
  bool is_scalar() const {
    return kind != Kind::kNull && kind != Kind::kList && kind != Kind::kMap;
  }
  bool is_list() const { return kind == Kind::kList; }
  bool is_map() const { return kind == Kind::kMap; }

  /// The item of a map, or nullptr; also nullptr if this is not a map.
  const Item* find(std::string_view key) const;
  Item* find(std::string_view key);
  /// The value at a dotted path ("train_cfg.max_iters", "param_scheduler.0.end"), or nullptr.
  const Config* at_path(std::string_view dotted) const;
  /// Adds or replaces an item of a map (a null becomes a map first).
  Config& set(std::string_view key, Config value);

  static Config null();
  static Config of(bool value);
  static Config of(int64_t value);
  static Config of(double value);
  static Config of(std::string value);
  static Config of(const char* value);
};

struct Config::Item {
  std::string key;
  Origin key_origin;
  Config value;
  /// Of top-level items: whether something refers to it or it comes from a dumped config, so that
  /// it may be a variable; and whether a file refers to it as `{{_base_.key}}`.
  bool used = false, referred = false;
  /// Of top-level items: a later file gave the variable another value, which those that had
  /// referred to it do not see.
  bool too_late = false;
};

/// A key below a path: "model" and "backbone" are "model.backbone"; a path may be empty.
std::string dotted(const std::string& path, std::string_view key);

/// One thing wrong with a configuration.
struct Diagnostic {
  Origin where;
  std::string path;     ///< "model.decode_head"; may be empty
  std::string message;  ///< what is wrong, and what to write instead
  bool warning = false;
};

/// Collects every problem of a configuration instead of stopping at the first.
class Diagnostics {
 public:
  void error(Origin where, std::string path, std::string message);
  void warn(Origin where, std::string path, std::string message);
  bool has_errors() const { return errors_ > 0; }
  size_t error_count() const { return errors_; }
  const std::vector<Diagnostic>& list() const { return list_; }
  /// Appends all of the other's.
  void add(const Diagnostics& other);
  /// The errors as "where: error: path: message" lines and a line that counts them.
  std::string text() const;
  /// "where: warning: path: message", one a line, "" for none.
  std::string warnings_text() const;
  /// "where: path: message" each, for a log that has a word for warnings.
  std::vector<std::string> warning_lines() const;

 private:
  std::vector<Diagnostic> list_;
  size_t errors_ = 0;
};

/// A configuration with one or more errors (exit 1).
class ConfigError : public Error {
 public:
  explicit ConfigError(Diagnostics found) : Error(found.text()), diagnostics(std::move(found)) {}
  Diagnostics diagnostics;
};

/// Collects the errors of several builders, so that all are reported at once:
///
///   BuildErrors errors;
///   for (const auto& spec : specs) errors.attempt([&] { parts.push_back(spec.build()); });
///   errors.throw_if_any();
class BuildErrors {
 public:
  /// \return false where the builder found the configuration wrong.
  template <class Build>
  bool attempt(const Build& build) {
    try {
      build();
      return true;
    } catch (const ConfigError& e) {
      found_.add(e.diagnostics);
      return false;
    }
  }
  const Diagnostics& found() const { return found_; }
  Diagnostics& found() { return found_; }
  /// \throws ConfigError
  void throw_if_any() const {
    if (found_.has_errors()) throw ConfigError(found_);
  }

 private:
  Diagnostics found_;
};

}  // namespace seg
