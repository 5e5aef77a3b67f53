/// Measurements in a process of their own, whose memory and start are then theirs alone.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tools/measure/measurement.hpp"

namespace seg {

/// What came of a program that prints its measurements as one line of JSON.
struct ProcessAnswer {
  std::optional<Measured> found;
  std::string problem;  ///< where nothing was found: why, as the end of a sentence
  int exit_code = 0;
};

/// Runs a program to its end. Its output is read and not shown; of a failure the last error counts,
/// else the last line.
/// \param words    the program's path and its arguments.
/// \param output   file for its output.
/// \param limit_s  after so many seconds it is killed.
ProcessAnswer measure_in_process(const std::vector<std::string>& words, const std::string& output,
                                 int64_t limit_s);

}  // namespace seg
