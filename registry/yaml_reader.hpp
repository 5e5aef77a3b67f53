/// One YAML text as a tree, without bases and substitution.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

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

/// The kind that YAML's core schema gives to a plain text: `1e-3` is a float, `yes` a string.
/// Beyond it, `_` may stand between digits, as in Python and YAML 1.1.
Config::Kind plain_kind(std::string_view text);

/// The number that a text of kind kInt stands for ("+5", "1_000", "0x1F"), where it fits 64 bits.
std::optional<int64_t> int_value(std::string_view text);
/// The same for kInt and kFloat.
std::optional<double> float_value(std::string_view text);

size_t count_values(const Config& config);
size_t depth_of(const Config& config);

}  // namespace seg::detail
