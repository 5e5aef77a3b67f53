#include "runners/visualization/run_log.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "registry/error.hpp"
#include "registry/file_text.hpp"
#include "registry/printed.hpp"
#include "runners/visualization/scalar_rows.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

struct LogFileRow {
  int64_t step = 0;
  int64_t epoch = 0;  ///< of a training row that has one
  bool training = false;
  std::vector<std::pair<std::string, double>> values;
};

std::vector<LogFileRow> read_log_file(const fs::path& path) {
  const auto read = file_text(path.string());
  if (!read) throw DataError(text("cannot read ", path.string()));
  const std::string& contents = *read;
  std::vector<LogFileRow> rows;
  int64_t number = 0;
  for (size_t begin = 0; begin < contents.size();) {
    const size_t end = contents.find('\n', begin);
    if (end == std::string::npos) break;  // the run is writing this line
    const std::string line = contents.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \r\t") == std::string::npos) continue;
    // MMEngine writes NaN, which is no JSON.
    std::string clean = line;
    for (size_t at = 0; (at = clean.find(": NaN", at)) != std::string::npos;) {
      clean.replace(at + 2, 3, "null");
    }
    const auto json = nlohmann::ordered_json::parse(clean, nullptr, false);
    if (!json.is_object()) {
      throw DataError(text(path.string(), ":", number, ": not a row of recorded values: '",
                           line.substr(0, 60), line.size() > 60 ? "...'" : "'"));
    }
    LogFileRow row;
    for (const auto& [key, value] : json.items()) {
      if (!value.is_number()) continue;
      if (key == "step") {
        row.step = static_cast<int64_t>(value.get<double>());
      } else {
        row.values.emplace_back(key, value.get<double>());
      }
    }
    row.training = json.contains("iter");
    if (row.training && json.contains("epoch") && json["epoch"].is_number()) {
      row.epoch = static_cast<int64_t>(json["epoch"].get<double>());
    }
    if (!json.contains("step") && row.training) {
      row.step = static_cast<int64_t>(json["iter"].get<double>());
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Whether metrics are numbered by epochs instead of steps, judged from the rows. A validation
/// comes after the training steps in front of it, so a lower number than theirs is one of epochs.
/// Where an epoch is a single step, both are the same.
std::optional<bool> metrics_by_epoch(const std::vector<LogFileRow>& rows) {
  std::optional<int64_t> trained;
  bool known = false;
  for (const LogFileRow& row : rows) {
    if (row.training) {
      trained = row.step;
    } else if (trained) {
      if (row.step < *trained) return true;
      known = true;
    }
  }
  return known ? std::optional(false) : std::nullopt;
}

/// scalars.json of all launches, in order of time.
std::vector<fs::path> log_files(const fs::path& path) {
  if (fs::is_regular_file(path)) return {path};
  for (const char* inside : {"scalars.json", "vis_data/scalars.json"}) {
    if (fs::is_regular_file(path / inside)) return {path / inside};
  }
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    const fs::path file = entry.path() / "vis_data" / "scalars.json";
    if (fs::is_regular_file(file)) found.push_back(file);
  }
  std::sort(found.begin(), found.end());  // folders are named by time
  return found;
}

/// Removes what launches before did beyond the step that this one continued from, and notes that
/// step. A launch that begins with a validation owed it from the step of its number, whose training
/// row stays; one that begins with a training row did the steps up to it anew.
void cut_at_resume(RunLog& run, const std::vector<LogFileRow>& rows, bool by_epoch) {
  if (run.series.empty()) return;
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  int64_t training = kNever, validation = kNever;  // the first steps that are done anew
  for (const LogFileRow& row : rows) {
    if (row.training && training == kNever) {
      training = row.step;
      // What was validated after it is validated again.
      const int64_t repeated = !by_epoch ? row.step : row.epoch > 0 ? row.epoch : kNever;
      validation = std::min(validation, repeated);
    } else if (!row.training && validation == kNever) {
      validation = row.step;
      if (!by_epoch) training = row.step + 1;
    }
    if (training != kNever && validation != kNever) break;
  }
  int64_t last = 0;
  for (Series& s : run.series) {
    const int64_t from = s.training ? training : validation;
    std::erase_if(s.points, [&](const auto& p) { return p.first >= from; });
    if (!s.by_epoch && !s.points.empty()) last = std::max(last, s.points.back().first);
  }
  if (last > 0) run.resumes.push_back(last);
}

std::string short_number(double value) { return printed("%.6g", value); }

}  // namespace

const Series* RunLog::find(const std::string& key) const {
  for (const Series& s : series) {
    if (s.key == key) return &s;
  }
  return nullptr;
}

RunLog read_run_log(const std::string& path) {
  if (!fs::exists(path)) throw DataError(text(path, " does not exist"));
  const auto files = log_files(path);
  if (files.empty()) {
    throw DataError(text("there is no scalars.json in ", path,
                         " (a work dir, <work dir>/<time>, or the file itself is expected)"));
  }
  RunLog run;
  run.path = path;
  std::map<std::string, size_t> places;
  // The rows of a launch killed early may not show it: then it counts as the one before.
  bool by_epoch = false;
  for (const fs::path& file : files) {
    const std::vector<LogFileRow> rows = read_log_file(file);
    if (rows.empty()) continue;
    by_epoch = metrics_by_epoch(rows).value_or(by_epoch);
    cut_at_resume(run, rows, by_epoch);
    for (const LogFileRow& row : rows) {
      if (row.epoch > 0) {
        // The last row of an epoch has most of its steps.
        run.epoch_steps = std::max(run.epoch_steps, (row.step + row.epoch - 1) / row.epoch);
      }
      for (const auto& [key, value] : row.values) {
        const auto [found, fresh] = places.emplace(key, run.series.size());
        if (fresh) run.series.push_back({key, row.training, by_epoch && !row.training, {}});
        Series& s = run.series[found->second];
        // Training and validation have values of one name ("time"): the first kind is taken.
        if (s.training != row.training) continue;
        if (!s.points.empty() && s.points.back().first >= row.step) continue;
        s.points.emplace_back(row.step, value);
      }
    }
  }
  if (run.series.empty()) {
    throw DataError(text("nothing is recorded yet in ", files.back().string()));
  }
  return run;
}

void name_runs(std::vector<RunLog>& runs) {
  // As many of the last parts of the path as it takes.
  for (size_t parts = 1; parts < 20; ++parts) {
    std::set<std::string> names;
    for (RunLog& run : runs) {
      std::vector<std::string> words;
      fs::path path = fs::path(run.path).lexically_normal();
      if (path.filename() == "scalars.json") path = path.parent_path();
      if (path.filename().empty()) path = path.parent_path();
      if (path.filename() == "vis_data") path = path.parent_path();
      for (const auto& part : path) words.push_back(part.string());
      const size_t from = words.size() > parts ? words.size() - parts : 0;
      run.name = join(
          std::vector<std::string>(words.begin() + static_cast<ptrdiff_t>(from), words.end()), "/");
      names.insert(run.name);
    }
    if (names.size() == runs.size()) return;
  }
}

void check_keys(const std::vector<RunLog>& runs, const std::vector<std::string>& keys) {
  std::vector<std::string> known;
  for (const RunLog& run : runs) {
    for (const Series& s : run.series) {
      if (std::find(known.begin(), known.end(), s.key) == known.end()) known.push_back(s.key);
    }
  }
  for (const std::string& key : keys) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw UsageError(text("--keys: nothing is recorded under '", key, "'.",
                            did_you_mean(key, known), " Known: ", join(known, ", ")));
    }
  }
}

std::vector<std::string> usual_keys(const std::vector<RunLog>& runs) {
  std::vector<std::string> out;
  for (const std::string wanted : {"loss", "mIoU"}) {
    for (const RunLog& run : runs) {
      for (const Series& s : run.series) {
        // "train/loss" under log_with_hierarchy, "a/mIoU" of a metric with a prefix.
        if (s.key != wanted && !s.key.ends_with("/" + wanted)) continue;
        if (std::find(out.begin(), out.end(), s.key) == out.end()) out.push_back(s.key);
      }
    }
  }
  if (out.empty()) out.push_back(runs.at(0).series.at(0).key);
  return out;
}

std::string curves_csv(const std::vector<RunLog>& runs, const std::vector<std::string>& keys) {
  std::string out = "run,step," + join(keys, ",") + "\n";
  for (const RunLog& run : runs) {
    std::map<int64_t, std::vector<std::string>> rows;
    for (size_t k = 0; k < keys.size(); ++k) {
      const Series* series = run.find(keys[k]);
      if (!series) continue;
      for (const auto& [step, value] : series->points) {
        auto& row = rows[step];
        row.resize(keys.size());
        row[k] = number_text(value, "");
      }
    }
    std::string name = run.name;
    if (name.find_first_of(",\"") != std::string::npos) {
      for (size_t at = 0; (at = name.find('"', at)) != std::string::npos; at += 2) {
        name.insert(at, "\"");
      }
      name = "\"" + name + "\"";
    }
    for (const auto& [step, cells] : rows) {
      out += text(name, ",", step, ",", join(cells, ","), "\n");
    }
  }
  return out;
}

std::string curves_summary(const std::vector<RunLog>& runs, const std::vector<std::string>& keys) {
  std::string out;
  for (const std::string& key : keys) {
    for (const RunLog& run : runs) {
      const Series* series = run.find(key);
      if (!series || series->points.empty()) {
        out += text(run.name, "  ", key, ": not recorded\n");
        continue;
      }
      const auto by_value = [](const auto& a, const auto& b) { return a.second < b.second; };
      const auto& points = series->points;
      const auto low = *std::min_element(points.begin(), points.end(), by_value);
      const auto high = *std::max_element(points.begin(), points.end(), by_value);
      const char* unit = series->by_epoch ? "epoch " : "step ";
      out +=
          text(run.name, "  ", key, ": last ", short_number(points.back().second), " (", unit,
               points.back().first, "), lowest ", short_number(low.second), " (", unit, low.first,
               "), highest ", short_number(high.second), " (", unit, high.first, ")\n");
    }
  }
  return out;
}

}  // namespace seg
