/// `.py` configurations, which Python evaluates in a process of its own.
#pragma once
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "registry/config.hpp"

namespace seg::detail {

class PythonProcess;

/// Starts `python3` (or `$SEGCORE_PYTHON`) with the first file, and asks it about each.
///
/// Bases are read and merged by the caller, so that `.py` and `.yaml` may be bases of each other:
/// `run` is given what lies under the file, for whatever the file computes with it. Errors, of the
/// file or of Python itself, are added to `problems`.
class PythonReader {
 public:
  /// \param patience  after which a file's code, or a process without an answer, is ended. Nothing
  ///                  that a config computes takes as long.
  explicit PythonReader(Diagnostics& problems,
                        std::chrono::seconds patience = std::chrono::seconds(20));
  ~PythonReader();
  PythonReader(const PythonReader&) = delete;
  PythonReader& operator=(const PythonReader&) = delete;

  /// The paths in `_base_`, a list; nothing after an error.
  /// \param shown  the file's name in messages.
  std::optional<Config> bases(const std::filesystem::path& file, const std::string& shown);

  /// The mapping that a file makes, without what its bases hold; nothing after an error.
  /// \param bases  merged; its keys that the file refers to are marked, and values that the file's
  ///               code changes in place are changed.
  std::optional<Config> run(const std::filesystem::path& file, const std::string& shown,
                            Config& bases);

  /// A class of a Python file, from its syntax tree. Its code is not run; only expressions that can
  /// do no more than make a value are computed.
  struct Class {
    std::string name;
    std::vector<std::string> registered;  ///< the names that configs have for it
    Origin where;
    std::vector<std::string> bases;   ///< names without modules
    std::optional<Config> metainfo;   ///< METAINFO
    Config options;                   ///< a mapping: what its constructor sets in its base's
    std::vector<std::string> beyond;  ///< what else it does: "defines load_data_list()"
  };
  /// All classes of a file; nothing after an error.
  std::optional<std::vector<Class>> classes(const std::filesystem::path& file,
                                            const std::string& shown);

 private:
  /// The answer; nothing after an error.
  std::optional<nlohmann::json> ask(const std::filesystem::path& file, const std::string& shown,
                                    const nlohmann::json& question);
  void report(const nlohmann::json& error, const std::filesystem::path& file,
              const std::string& shown);

  Diagnostics& problems_;
  std::chrono::seconds patience_;
  std::unique_ptr<PythonProcess> process_;
};

}  // namespace seg::detail
