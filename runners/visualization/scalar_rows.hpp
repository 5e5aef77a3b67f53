/// Rows of scalars.json: one JSON object a line, as MMEngine writes them.
#pragma once
#include <cstdint>
#include <string>

#include "runners/log/scalars.hpp"

namespace seg {

/// Values that are counts, written without a decimal point: "iter", "epoch", "memory", "step".
bool is_whole_scalar(std::string_view name);

/// "5.65e-05", "3.0"; the shortest text that reads back to the same number, as in Python. What is
/// not finite becomes `otherwise`.
std::string number_text(double value, std::string_view otherwise);

/// {"lr": 0.01, "iter": 10, "step": 10} without a line end. NaN, as of a class that does not occur,
/// is null: JSON has no such number.
std::string scalar_row(const Scalars& scalars, int64_t step);

}  // namespace seg
