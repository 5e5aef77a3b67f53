/// Configurations of MMSegmentation 0.x, whose keys have other names.
#pragma once
#include <string>

#include "registry/config.hpp"

namespace seg {

/// What is wrong with a resolved config of MMSegmentation 0.x, with its place in `where`; "" for
/// all others.
std::string old_config_problem(const Config& tree, Origin& where);

}  // namespace seg
