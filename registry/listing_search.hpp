/// The search of tools/list: types and options by words of their names and meanings.
#pragma once
#include <string>
#include <vector>

#include "registry/registry.hpp"

namespace seg {

/// The types, options (those of mappings in options too) and keys that have all words (split at
/// blanks) in their names or meanings, one a line, those whose name is the word itself first; ""
/// for none. A word is found at the beginning of a word, in names anywhere; upper and lower case
/// are one. \param keys  of the top level of a configuration.
std::string search_listed(const std::string& words, const std::vector<OptionDoc>& keys);

}  // namespace seg
