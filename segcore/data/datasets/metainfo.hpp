/// The classes of a data set: those that it comes with, and `metainfo`, which replaces them.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "registry/schema.hpp"
#include "segcore/data/dataset.hpp"

namespace seg {

/// `metainfo`: names and colours that replace those that a data set comes with.
struct MetaInfo {
  /// A list, or a file with one name per line.
  std::optional<std::variant<std::vector<std::string>, std::string>> classes;
  std::vector<std::array<int64_t, 3>> palette;
};

/// Keys other than `classes` and `palette` are allowed, as MMEngine allows them, with a warning.
template <>
struct Convert<MetaInfo> {
  static TypeDoc type();
  static std::optional<MetaInfo> from(const Config& c, const std::string& path,
                                      Diagnostics& problems);
  static std::string show(const MetaInfo& value);
};

/// The classes that a data set comes with.
struct KnownClasses {
  std::vector<std::string> names;
  std::vector<std::array<int, 3>> palette;  ///< RGB
};

/// Removes the blanks that published lists have around some names ("bed ", " Optic Cup").
void strip_class_names(std::vector<std::string>& names);

/// The names that `metainfo` gives, else those that the data set comes with.
/// \throws OptionError where `metainfo` names a file that cannot be read, or has a name twice.
std::vector<std::string> class_names(const std::optional<MetaInfo>& info,
                                     const KnownClasses& known);

/// What labels are mapped to, and the names and colours that they have then.
struct ResolvedClasses {
  std::vector<std::string> names;
  std::vector<std::array<int, 3>> palette;  ///< RGB, one a class
  std::vector<std::pair<int64_t, int64_t>> label_map;
};
/// \param unlabelled  a raw label besides the classes that means "ignored".
/// \throws OptionError for `metainfo` that does not fit.
ResolvedClasses resolve_classes(const std::optional<MetaInfo>& info, const KnownClasses& known,
                                std::optional<int64_t> unlabelled, int64_t ignore_index);

/// What explains that a path is not there: " (seen from /home/me)" where it is relative, or that it
/// is one of Windows.
std::string seen_from(const std::string& path);

}  // namespace seg
