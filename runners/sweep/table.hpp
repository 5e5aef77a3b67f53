/// The runs of a sweep as a table: for people, as CSV and as JSON.
#pragma once
#include <string>
#include <vector>

#include "runners/sweep/results.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

/// What a sweep varies: a column of its tables.
struct SweptColumn {
  std::string key;                  ///< dotted; "base" or "seed" for those
  std::string label;                ///< short
  std::vector<std::string> values;  ///< of each run; "" where it does not change the key
};

/// Of the keys that have more than one value, in the order of the sweep's file.
std::vector<SweptColumn> swept_columns(const std::vector<RunReport>& reports);

/// A line a run, the best ones of each group marked, and a line a group where there are several
/// seeds.
/// \param width  of the terminal: the last columns of swept values are left out of narrow ones; 0:
///               all.
std::string table_text(const SweepSpec& spec, const std::vector<RunReport>& reports, int width);
std::string table_csv(const SweepSpec& spec, const std::vector<RunReport>& reports);
std::string table_json(const SweepSpec& spec, const std::vector<RunReport>& reports);

/// "3 of 6 runs failed" with the error of each; "" where none did.
std::string failures_text(const std::vector<RunReport>& reports);

}  // namespace seg
