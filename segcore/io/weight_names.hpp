/// Names of weights: what training programs put around them, mappings, and advice where none fits.
#pragma once
#include <functional>
#include <regex>
#include <string>
#include <vector>

#include "segcore/io/named_weights.hpp"
#include "segcore/io/weights.hpp"

namespace seg {

using NamedTensors = ChangesBeforeLoad::NamedTensors;

/// Names listed in messages before the rest is only counted.
inline constexpr size_t kListedNames = 8;
std::string short_list(const std::vector<std::string>& names);

/// \throws UsageError for what is no regular expression.
std::regex name_pattern(const std::string& pattern);

/// The weights of a state dict under the names that the options give. Words that wrappers of
/// modules add are removed and logged: "module." (DataParallel), "_orig_mod." (torch.compile) and
/// the like from every name; "model." (Lightning), which a model may have itself, only where no
/// name fits with it and some do without.
/// \param fits   whether a name is one that is looked for; null where nothing is known of them.
/// \param where  the file, for the log.
/// \throws CheckpointError where two names become one, or none is under the prefix.
NamedTensors tensors_by_name(const Value& state, const LoadOptions& options,
                             const std::function<bool(const std::string&)>& fits,
                             const std::string& where);

/// Two names that are most alike and how to make them one, for a file that does not fit at all; ""
/// where no two are alike.
/// \param in_config  whether the options of `init_cfg` are at hand; else tools/convert is named.
std::string nearest_names_text(const NamedTensors& given, const NamedTensors& wanted,
                               const std::string& where, bool in_config);

}  // namespace seg
