/// The option `classes` of losses with one value per class: "all", "present" (in the labels), or a
/// list of classes.
#pragma once
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "registry/schema.hpp"

namespace seg {

using ClassChoice = std::variant<std::vector<int64_t>, std::string>;

/// Reports a word that is neither "all" nor "present".
void check_class_choice(const ClassChoice& classes, Problems& problems);
/// \throws OptionError ("classes") for an empty list, or a class outside [0, channels).
void check_class_choice(const ClassChoice& classes, int64_t channels);

}  // namespace seg
