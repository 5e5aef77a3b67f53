/// A JSON Schema of all configurations, for editors.
#pragma once
#include <string>
#include <vector>

#include "registry/convert.hpp"

namespace seg {

/// Draft 07, which YAML editors know best, of the options `root` and all registered types.
///
/// Where a mapping names its `type`, options that this type does not have, values of a wrong type
/// or out of range are marked, and its options are completed. Nothing is required: a file may lay
/// its changes to the files of its `_base_`, or be such a base. Every value may also be a
/// substitution in quotes ("{{_base_.crop_size}}"). Top-level keys that are not known are variables
/// and allowed.
///
/// \param title  what such a file is.
std::string json_schema(const std::vector<OptionDoc>& root,
                        const std::string& title = "Configuration of segcore");

}  // namespace seg
