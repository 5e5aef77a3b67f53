/// Turns recorded values into the lines of the log and the rows of scalars.json.
#pragma once
#include <string>

#include "runners/log/scalars.hpp"

namespace seg {

struct RunContext;

struct LogRow {
  std::string line;  ///< "Iter(train) [10/20]  lr: ..."
  Scalars scalars;   ///< for the visualizer
};

/// After a step of training, validation or test.
LogRow log_row_of_iter(RunContext& context);
/// After a validation or a test, with its metrics.
LogRow log_row_of_pass(RunContext& context);

/// How many values of each name have to be kept for the statistics that a config asks for; 0 for
/// all.
size_t history_length(const RunContext& context);

/// "1 day, 2:03:04" for seconds, as Python's timedelta prints them.
std::string duration_text(double seconds);

}  // namespace seg
