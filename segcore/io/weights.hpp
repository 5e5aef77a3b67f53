/// Moves weights between modules and checkpoints: state dicts in Python's order, and loading by
/// name with a report.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "segcore/io/value.hpp"

namespace torch::nn {
class Module;
}

namespace seg {

/// The weights of a module as Python's state_dict() has them: name -> tensor, of each module its
/// parameters, then its buffers, then its children, in order of registration. The tensors are
/// the module's own (detached), not copies.
Value state_dict(const torch::nn::Module& module);

/// How names of a checkpoint become names of the model before they are compared.
struct LoadOptions {
  /// Takes only what lies under this prefix, which is removed ("backbone." or "backbone").
  std::string prefix;
  /// Regular expressions (ECMAScript) and replacements ("\\1" or "$1"), applied in order to every
  /// name, before the prefix is removed. Words of wrappers ("module.", "_orig_mod.") are removed
  /// first.
  std::vector<std::pair<std::string, std::string>> revise_keys;
  /// A rule that fits no name is an error, not a warning.
  bool use_all_rules = false;
  /// Anything missing, unexpected or of another shape is a WeightsMismatch.
  bool strict = false;
  /// Names that may be missing or unexpected without a report (regular expressions).
  std::vector<std::string> ignore;
  /// The options above are the user's, in a configuration: advice is given in their words.
  bool in_config = false;
};

/// A module that adapts to weights before load_state_dict compares their names with its own.
class ChangesBeforeLoad {
 public:
  using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;
  virtual ~ChangesBeforeLoad() = default;
  /// \param weights  those below the module, names without its prefix. Names may be changed, and
  /// the
  ///                 module may register tensors that only these weights have.
  virtual void before_load(NamedTensors& weights) = 0;
};

/// The outcome of a load.
struct LoadReport {
  struct ShapeMismatch {
    std::string name;
    std::vector<int64_t> expected, found;  ///< of the model, of the checkpoint
  };
  std::vector<std::string> matched, missing, unexpected;
  std::vector<ShapeMismatch> mismatched;

  bool exact() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  /// Mismatches in MMEngine's words, long lists shortened; "" where everything fitted.
  std::string text() const;
};

/// The state dict inside a checkpoint: under `state_dict`, `model`, `module` and the like, or the
/// checkpoint itself where it maps names to tensors.
/// \param key  take this entry and no other ("ema_state_dict"); "" to search.
/// \throws CheckpointError where there is none; the text lists what the checkpoint holds instead.
Value find_state_dict(const Value& checkpoint, const std::string& key = "");

/// \throws CheckpointError for a name that is too long to be one of a weight.
void check_name_length(const std::string& name);

/// Copies weights by name into a module, converting types and devices. Tensors of another shape are
/// skipped and reported. Words that wrappers of modules put in front of names are removed.
/// \param state  name -> tensor, or a checkpoint that holds one (find_state_dict is applied).
/// \param where  the file, for messages.
/// \throws WeightsMismatch with `strict`, with the report; or where no name fits at all.
LoadReport load_state_dict(torch::nn::Module& module, const Value& state,
                           const LoadOptions& options = {}, const std::string& where = "");

}  // namespace seg
