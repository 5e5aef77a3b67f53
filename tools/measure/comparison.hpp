/// The measurements of tools/benchmark beside those of MMSegmentation, in turn.
#pragma once
#include <string>
#include <vector>

#include "runners/start/run_config.hpp"
#include "tools/measure/measurement.hpp"

namespace seg {

/// What MMSegmentation can be compared by, in the order in which it is measured.
const std::vector<std::string>& compared_measures();

/// What came of all of them.
struct Comparison {
  std::string
      json;  ///< one line: by measure, of data a list with an entry for each count of threads
  std::vector<std::string> problems;  ///< a sentence for each thing that could not be measured
  std::string table;                  ///< for people; empty without a comparison
  size_t taken = 0, missed = 0;       ///< measures of ours
};

/// Takes each measure in a process of its own: ours, those of MMSegmentation with the Python of
/// `arguments.against` (eager, in channels-last layout, by torch.compile), and ours again. Without
/// `against`, ours alone.
/// \param what    of `compared_measures()`.
/// \param config  what MMSegmentation gets.
Comparison compare(const BenchmarkArguments& arguments, const std::vector<std::string>& what,
                   const RunConfig& config);

}  // namespace seg
