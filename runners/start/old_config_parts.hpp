/// The parts of the translation of configurations of MMSegmentation 0.x; see old_config.hpp.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "registry/config.hpp"
#include "registry/yaml.hpp"

namespace seg {

/// Why most values are left out.
inline constexpr const char* kNothingLikeIt = "nothing here does the same";

/// Collects what a translation has to say.
class OldNotes {
 public:
  explicit OldNotes(Diagnostics& problems) : problems_(problems) {}
  /// A value that comes near the old one, or that replaces it.
  /// \param now  path of the new value; "" if there is none.
  void add(const Origin& where, const std::string& old_path, const std::string& now,
           const std::string& what);
  void left_out(const Origin& where, const std::string& old_path, const std::string& why);
  void error(const Origin& where, const std::string& old_path, const std::string& what);
  const YamlComments& comments() const { return comments_; }

 private:
  Diagnostics& problems_;
  YamlComments comments_;
};

/// The options of one mapping of the old config, taken one by one. The mapping must outlive it.
class OldOptions {
 public:
  /// \param map  null or no mapping: there are no options.
  OldOptions(const Config* map, std::string path);
  /// Null where the option is absent or null.
  const Config* take(std::string_view key);
  /// The text of a string or another scalar, "" where absent.
  std::string take_text(std::string_view key);
  /// Passes over options that have no effect on results.
  void ignore(std::initializer_list<std::string_view> keys);
  /// Gives `to` all that was not taken, under the same names.
  void move_rest(Config& to);
  void leave_out_rest(OldNotes& notes, const std::string& why = kNothingLikeIt);
  std::string path(std::string_view key = {}) const;
  const Origin& origin() const { return origin_; }
  bool has(std::string_view key) const;

 private:
  Origin origin_;
  std::string path_;
  std::vector<const Config::Item*> rest_;
};

/// What pipelines of 0.x do to a sample and data_preprocessor now does to a batch.
struct OldBatchSteps {
  const Config* normalize = nullptr;
  const Config* pad = nullptr;
  std::string path;  ///< of the pipeline
};

/// An old pipeline in the steps of today.
struct OldPipeline {
  Config steps;
  Config tta_steps;  ///< null without test-time augmentation
  OldBatchSteps batch_steps;
  const Config* annotations = nullptr;  ///< its LoadAnnotations
};
/// \param now  path of the new pipeline.
/// \param annotations  a LoadAnnotations for pipelines that need one and have none.
OldPipeline translate_old_pipeline(const Config& steps, const std::string& old_path,
                                   const std::string& now, const Config* annotations,
                                   OldNotes& notes);

/// Gives the model of the tree a data_preprocessor.
void add_old_preprocessor(const OldBatchSteps& train, const OldBatchSteps& test, Config& tree,
                          OldNotes& notes);

/// `data` and `evaluation.metric` become loaders and evaluators, and the model gets its
/// data_preprocessor.
void translate_old_data(const Config& old, Config& tree, OldNotes& notes);
/// Length, optimizer and schedules.
void translate_old_schedule(const Config& old, Config& tree, OldNotes& notes);
/// Hooks, records, environment and start.
void translate_old_runtime(const Config& old, Config& tree, OldNotes& notes);

/// Whether training counts iterations, and how many (or epochs), where the config says.
struct OldLength {
  bool by_epoch = false;
  const Config* steps = nullptr;
};
OldLength old_length(const Config& old);

/// Values that stand for the one written at `origin`.
template <class T>
Config placed(const T& value, const Origin& origin) {
  Config out = Config::of(value);
  out.origin = origin;
  return out;
}
Config placed_map(const Origin& origin);
Config placed_list(const Origin& origin, std::vector<Config> elements = {});
/// A mapping with nothing but a type.
Config typed_map(const char* type, const Origin& origin);

/// The value of a key; null where it is absent or null.
const Config* old_value(const Config& map, std::string_view key);
/// A type without its scope; "" for what has none.
std::string old_type(const Config& part);
/// The number that a scalar says.
std::optional<double> old_number(const Config* value);
bool old_true(const Config* value);
/// The elements of a list, or the one value.
std::vector<const Config*> one_or_more(const Config* value);

}  // namespace seg
