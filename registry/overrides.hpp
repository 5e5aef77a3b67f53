/// The texts of `--cfg-options`, read as MMEngine's DictAction reads them.
#pragma once
#include <string>
#include <vector>

#include "registry/config.hpp"

namespace seg::detail {

/// "a.b=1" and its like as one tree to be merged with `index_lists`. The origins are
/// "--cfg-options #1" and so on.
Config read_overrides(const std::vector<std::string>& overrides, Diagnostics& problems);

}  // namespace seg::detail
