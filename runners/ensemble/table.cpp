#include "runners/ensemble/table.hpp"

#include <algorithm>

#include "registry/printed.hpp"
#include "registry/text.hpp"
#include "runners/sweep/text_table.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

/// Metrics of all classes together, in the order of the first test that has them.
std::vector<std::string> ensemble_metrics(const std::vector<EnsembleRow>& rows) {
  std::vector<std::string> out;
  for (const EnsembleRow& row : rows) {
    for (const auto& [name, value] : row.metrics) {
      const bool of_one_class = name.find('.') != std::string::npos;
      const bool seconds = name.ends_with("time");
      if (of_one_class || seconds) continue;
      if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
    }
  }
  return out;
}

std::string value_text(const TestMetrics& metrics, const std::string& name) {
  for (const auto& [key, value] : metrics) {
    if (key == name) return printed("%.2f", value);
  }
  return "";
}

std::vector<TableRow> cells_of(const std::vector<EnsembleRow>& rows) {
  const auto metrics = ensemble_metrics(rows);
  std::vector<TableRow> out{{"model", "stage"}};
  out[0].insert(out[0].end(), metrics.begin(), metrics.end());
  for (const EnsembleRow& row : rows) {
    TableRow cells{row.name, row.kind};
    for (const std::string& metric : metrics) cells.push_back(value_text(row.metrics, metric));
    out.push_back(std::move(cells));
  }
  return out;
}

}  // namespace

std::string write_ensemble_table(const std::string& folder, const std::vector<EnsembleRow>& rows) {
  const auto cells = cells_of(rows);
  const std::string words = aligned_table(cells, /*width=*/0);
  write_file_atomically(folder + "/table.txt", words);
  write_file_atomically(folder + "/table.md", markdown_table(cells));
  write_file_atomically(folder + "/table.csv", csv_table(cells));
  return words;
}

}  // namespace seg
