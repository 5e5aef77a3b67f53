/// A tree as Python writes it.
#pragma once
#include <string>

#include "registry/config.hpp"

namespace seg {

/// A float as Python's repr() writes it: 1e-05, 0.0001, 1.0.
std::string python_float(double value);

/// JSON as json.dumps(tree, sort_keys=True, separators=(",", ":")) writes it: keys in the order of
/// code points, other characters than ASCII escaped, tuples as lists.
std::string python_json(const Config& tree);

}  // namespace seg
