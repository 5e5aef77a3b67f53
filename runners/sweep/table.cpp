#include "runners/sweep/table.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "registry/printed.hpp"
#include "registry/yaml_scalar.hpp"
#include "runners/log/log_processor.hpp"
#include "runners/sweep/names.hpp"
#include "runners/sweep/text_table.hpp"
#include "runners/visualization/scalar_rows.hpp"

namespace seg {
namespace {

using Json = nlohmann::ordered_json;

std::string metric_text(double value) { return printed("%.4g", value); }

std::string progress_text(const RunResult& result) {
  if (!result.max_iters) return result.iter > 0 ? text(result.iter) : "";
  return text(result.iter, "/", *result.max_iters);
}

/// The best runs: the members of the best group.
std::set<const RunReport*> best_members(const SweepSpec& spec,
                                        const std::vector<RunReport>& reports) {
  const auto groups = groups_of(reports);
  const auto best = best_group(groups, spec.greater_is_better());
  if (!best) return {};
  return {groups[*best].members.begin(), groups[*best].members.end()};
}

std::string groups_text(const SweepSpec& spec, const std::vector<RunReport>& reports,
                        const std::vector<SweptColumn>& columns, int width) {
  const auto groups = groups_of(reports);
  const auto best = best_group(groups, spec.greater_is_better());
  std::vector<TableRow> rows{{text("mean of ", spec.metric), "std", "seeds"}};
  for (const SweptColumn& column : columns) {
    if (column.key != "seed") rows[0].push_back(column.label);
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    const RunGroup& group = groups[g];
    const bool has = !group.metrics.empty();
    TableRow row{has ? metric_text(group.mean()) + (best == g ? " *" : "") : "",
                 has ? metric_text(group.deviation()) : "",
                 text(group.metrics.size(), "/", group.members.size())};
    const auto first = static_cast<size_t>(group.members[0] - reports.data());
    for (const SweptColumn& column : columns) {
      if (column.key != "seed") row.push_back(column.values[first]);
    }
    rows.push_back(std::move(row));
  }
  return aligned_table(rows, width);
}

}  // namespace

std::vector<SweptColumn> swept_columns(const std::vector<RunReport>& reports) {
  std::vector<SweptColumn> out;
  const auto column = [&](const std::string& key) -> SweptColumn& {
    for (SweptColumn& one : out) {
      if (one.key == key) return one;
    }
    return out.emplace_back(SweptColumn{key, "", std::vector<std::string>(reports.size())});
  };
  for (size_t i = 0; i < reports.size(); ++i) {
    const SweepRun& run = reports[i].run;
    if (!run.base_label.empty()) column("base").values[i] = run.base_label;
    for (const auto& [key, value] : run.changes) column(key).values[i] = value_label(value);
    if (run.seed) column("seed").values[i] = text(*run.seed);
  }
  std::erase_if(out, [](const SweptColumn& one) {
    return std::all_of(one.values.begin(), one.values.end(),
                       [&](const std::string& value) { return value == one.values[0]; });
  });
  std::vector<std::string> keys;
  for (const SweptColumn& one : out) keys.push_back(one.key);
  const auto labels = short_keys(keys);
  for (size_t i = 0; i < out.size(); ++i) out[i].label = labels[i];
  return out;
}

std::string table_text(const SweepSpec& spec, const std::vector<RunReport>& reports, int width) {
  const auto columns = swept_columns(reports);
  const auto best = best_members(spec, reports);
  std::vector<TableRow> rows{{"run", "state", "iter", "eta", spec.metric, "at"}};
  for (const SweptColumn& column : columns) rows[0].push_back(column.label);
  for (size_t i = 0; i < reports.size(); ++i) {
    const auto& [run, state, result, status] = reports[i];
    TableRow row{run.name.substr(0, run.name.find('_')), status_word(status), progress_text(result),
                 result.eta_s ? duration_text(*result.eta_s) : ""};
    row.push_back(result.metric
                      ? metric_text(*result.metric) + (best.count(&reports[i]) > 0 ? " *" : "")
                      : "");
    row.push_back(result.metric ? text(result.metric_step) : "");
    for (const SweptColumn& column : columns) row.push_back(column.values[i]);
    rows.push_back(std::move(row));
  }
  // The marks stand behind the numbers, which stay below each other.
  for (size_t i = 0; i < rows.size(); ++i) {
    std::string& cell = rows[i][4];
    if (!cell.ends_with(" *")) cell += "  ";
  }
  std::string out = aligned_table(rows, width);
  if (!spec.seeds.empty()) out += "\n" + groups_text(spec, reports, columns, width);
  return out + "\n" + counts_text(reports) + "\n";
}

std::string table_csv(const SweepSpec& spec, const std::vector<RunReport>& reports) {
  const auto columns = swept_columns(reports);
  std::vector<TableRow> rows{{"run", "state", "iter", "max_iters", spec.metric, "step"}};
  for (const SweptColumn& column : columns) rows[0].push_back(column.key);
  rows[0].insert(rows[0].end(), {"exit_code", "error"});
  for (size_t i = 0; i < reports.size(); ++i) {
    const auto& [run, state, result, status] = reports[i];
    TableRow row{run.name,
                 status_word(status),
                 text(result.iter),
                 result.max_iters ? text(*result.max_iters) : "",
                 result.metric ? number_text(*result.metric, "") : "",
                 result.metric ? text(result.metric_step) : ""};
    for (const SweptColumn& column : columns) row.push_back(column.values[i]);
    row.push_back(state.exit_code ? text(*state.exit_code) : "");
    row.push_back(state.error);
    rows.push_back(std::move(row));
  }
  return csv_table(rows);
}

std::string table_json(const SweepSpec& spec, const std::vector<RunReport>& reports) {
  const auto columns = swept_columns(reports);
  Json rows = Json::array();
  for (size_t i = 0; i < reports.size(); ++i) {
    const auto& [run, state, result, status] = reports[i];
    Json row{{"run", run.name}, {"state", status_word(status)}, {"iter", result.iter}};
    row["max_iters"] = result.max_iters ? Json(*result.max_iters) : Json();
    row["metric"] = result.metric ? Json(*result.metric) : Json();
    row["step"] = result.metric ? Json(result.metric_step) : Json();
    Json values = Json::object();
    for (const SweptColumn& column : columns) {
      const std::string& value = column.values[i];
      const auto number = detail::float_value(value);
      values[column.key] = number ? Json(*number) : Json(value);
    }
    row["values"] = values;
    if (state.exit_code) row["exit_code"] = *state.exit_code;
    if (!state.error.empty()) row["error"] = state.error;
    rows.push_back(std::move(row));
  }
  const Json out{{"metric", spec.metric}, {"runs", rows}};
  return out.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string failures_text(const std::vector<RunReport>& reports) {
  std::vector<std::string> lines;
  for (const RunReport& report : reports) {
    if (report.status != RunStatus::kFailed) continue;
    lines.push_back(text("  ", report.run.name, ": ", report.state.error));
  }
  if (lines.empty()) return "";
  return text(lines.size(), " of ", reports.size(), " runs failed:\n", join(lines, "\n"));
}

}  // namespace seg
