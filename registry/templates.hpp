/// `{{...}}` in the strings of a configuration.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "registry/config.hpp"

namespace seg::detail {

/// Fills in names of the file (`{{fileBasename}}`), variables of the environment (`{{$HOME:/tmp}}`)
/// and values of bases (`{{_base_.model.type}}`), as MMEngine's Config does.
class Templates {
 public:
  explicit Templates(Diagnostics& problems) : problems_(problems) {}

  /// Replaces the names of the file and of the environment.
  void fill_in_place(Config& node, const std::string& path, const std::filesystem::path& file);
  /// Replaces `{{_base_.key}}`. Without `bases` they could not be read, which was reported.
  void fill_from_base(Config& node, const std::string& path, Config* bases, bool has_bases = true);

 private:
  std::string filled_text(const std::string& text, const Origin& origin, const std::string& path,
                          const std::filesystem::path& file, bool& whole_from_environment);
  std::string file_value(std::string_view name, const Origin& origin, const std::string& path,
                         const std::filesystem::path& file);
  /// \param expression  "$NAME:default"
  std::string environment_value(std::string_view expression, const Origin& origin,
                                const std::string& path);
  const Config* base_value(std::string_view key, const Origin& origin, const std::string& path,
                           Config* bases, bool has_bases);

  Diagnostics& problems_;
  size_t values_ = 0;
};

}  // namespace seg::detail
