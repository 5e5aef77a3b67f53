/// What a plain text of YAML stands for: its kind, and the number that it writes.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "registry/config.hpp"

namespace seg::detail {

/// The kind that YAML's core schema gives to a plain text: `1e-3` is a float, `yes` a string.
/// Beyond it, `_` may stand between digits, as in Python and YAML 1.1.
Config::Kind plain_kind(std::string_view text);

/// The number that a text of kind kInt stands for ("+5", "1_000", "0x1F"), where it fits 64 bits.
std::optional<int64_t> int_value(std::string_view text);
/// The same for kInt and kFloat.
std::optional<double> float_value(std::string_view text);

}  // namespace seg::detail
