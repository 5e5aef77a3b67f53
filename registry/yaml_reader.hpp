/// One YAML text as a tree, without bases and substitution.
#pragma once
#include <cstddef>
#include <string>

#include "registry/config.hpp"

namespace seg::detail {

/// What bounds a tree, so that no text, alias or reference makes one that eats the memory or the
/// stack: the largest config of MMSegmentation has a hundredth of the values and a tenth of the
/// depth.
inline constexpr size_t kMaxConfigValues = 500'000;
inline constexpr size_t kMaxConfigDepth = 100;
/// YAML allows 1024 characters for a key in its line, and each byte may be written as `\xNN`.
inline constexpr size_t kMaxKeyBytes = 250;

/// Reads one document. Errors are added to `problems`, and what could be read is given back: null
/// where that is nothing.
/// \param name       stands for the file in messages.
/// \param templates  whether `{{...}}` may stand where YAML wants quotes around it.
Config read_yaml(const std::string& text, const std::string& name, bool templates,
                 Diagnostics& problems);

size_t count_values(const Config& config);
size_t depth_of(const Config& config);

}  // namespace seg::detail
