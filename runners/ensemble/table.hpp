/// What the models of an ensemble reach, side by side.
#pragma once
#include <string>
#include <vector>

#include "runners/ensemble/test_stage.hpp"

namespace seg {

struct EnsembleRow {
  std::string kind;  ///< "member", "mean" or "meta"
  std::string name;
  TestMetrics metrics;
};

/// Writes table.txt, table.md and table.csv into the folder: the metrics of all classes together,
/// a line a model. \return the text. \throws FileError
std::string write_ensemble_table(const std::string& folder, const std::vector<EnsembleRow>& rows);

}  // namespace seg
