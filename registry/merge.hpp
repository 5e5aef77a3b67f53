/// Lays one tree over another, as `_base_` and `--cfg-options` do.
#pragma once
#include <string>
#include <vector>

#include "registry/config.hpp"

namespace seg::detail {

inline constexpr const char* kBaseKey = "_base_";
inline constexpr const char* kDeleteKey = "_delete_";

/// Lays `child` over `base`: mappings merge key by key, all else replaces; a mapping with
/// `_delete_: true` replaces too. What was replaced is kept in the history of what replaces it.
/// \param base, child  mappings.
/// Over a list, a mapping changes the elements that its keys name, by index or by type.
/// \param index_lists  whether every mapping over a list must be such a one, as paths with dots.
void merge_into(Config& base, Config child, bool index_lists, Diagnostics& problems);

/// The `type` of an element of a list, without its scope; "" for elements of other kinds.
std::string type_of_element(const Config& element);

/// As load_config, but `_delete_` keys stay: parts of the file are laid over other trees later.
Config load_changes(const std::string& path, const std::vector<std::string>& overrides,
                    Diagnostics& problems);

/// Removes the `_delete_` keys that had nothing to delete.
void strip_delete(Config& tree);

}  // namespace seg::detail
