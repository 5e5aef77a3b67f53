/// Files of a configuration and their bases.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "registry/config.hpp"
#include "registry/python_reader.hpp"
#include "registry/templates.hpp"

namespace seg::detail {

/// Reads files, `.yaml` and `.py` in any mixture, and lays each over its bases.
class ConfigLoader {
 public:
  /// \param keep_deletes  `_delete_` keys that had nothing to delete stay.
  explicit ConfigLoader(Diagnostics& problems, bool keep_deletes = false)
      : problems_(problems), keep_deletes_(keep_deletes) {}

  /// The tree of a file with its bases; nothing where it could not be read.
  /// \param from  where the file is asked for; nothing for the first file.
  std::optional<Config> load(const std::filesystem::path& path, const Config* from);

 private:
  /// What a file holds itself, and what lies under it.
  struct Layers {
    Config child, bases;  ///< mappings
  };
  std::optional<Config> load_new(const std::filesystem::path& path, const std::string& shown,
                                 const Config* from);
  std::optional<Layers> yaml_layers(const std::filesystem::path& path, const std::string& shown,
                                    const std::string& text);
  std::optional<Layers> python_layers(const std::filesystem::path& path, const std::string& shown);
  /// The bases of a file side by side; nothing where one could not be read.
  /// \param names  the value of `_base_`; null: there are none.
  std::optional<Config> load_bases(const Config* names, const std::filesystem::path& path);
  /// Adds a base; false where it could not be read.
  bool add_base(Config& all, const Config& name, const std::filesystem::path& path,
                std::vector<std::filesystem::path>& seen);

  Diagnostics& problems_;
  bool keep_deletes_;
  Templates templates_{problems_};
  PythonReader python_{problems_};
  std::vector<std::string> open_, open_shown_;  ///< the chain of files that are being read
  std::map<std::string, std::optional<Config>> done_;
};

}  // namespace seg::detail
