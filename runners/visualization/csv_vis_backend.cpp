#include <algorithm>
#include <filesystem>
#include <optional>

#include "runners/visualization/scalar_rows.hpp"
#include "runners/visualization/visualizer.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {

struct CSVVisBackendParams {
  std::optional<std::string> save_dir;
  std::string scalar_save_file = "scalars.csv";
};

/// A table for spreadsheets: a row for each epoch or validation, with the training values that were
/// last logged before it and the metrics.
class CSVVisBackend final : public VisBackend {
 public:
  using Params = CSVVisBackendParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Writes a CSV table with one row per epoch or validation: the training values last "
               "logged, then the metrics.")
        .optional("save_dir", &Params::save_dir, "folder; null: the run's")
        .optional("scalar_save_file", &Params::scalar_save_file, "name of the table");
  }
  CSVVisBackend(const Params& params, const VisPlace& place)
      : params_(params), folder_(params.save_dir.value_or(place.folder)) {}

  void add_scalars(const Scalars& scalars, int64_t step) override {
    if (find_scalar(scalars, "iter")) {
      // A logged training step; the row of an epoch is its last one.
      const double* epoch = find_scalar(scalars, "epoch");
      const double* before = training_ ? find_scalar(*training_, "epoch") : nullptr;
      if (epoch && before && *epoch != *before) add_row_of_training();
      training_ = scalars;
      training_step_ = step;
    } else {
      add_row(scalars, step);
    }
  }
  void flush() override {
    // What was trained since the last validation, at the end or when the run is stopped.
    add_row_of_training();
  }
  ~CSVVisBackend() override {
    try {
      flush();
    } catch (const Error&) {
      // The disk is full: the end of the run reports it, and a destructor must not throw.
    }
  }

 private:
  bool fresh() const { return training_step_ > last_step_; }
  /// Unless a row of metrics has the values already.
  void add_row_of_training() {
    if (training_ && fresh()) add_row({}, training_step_);
  }
  void add_row(const Scalars& metrics, int64_t step) {
    std::vector<std::string> row(columns_.size());
    auto set = [&](const std::string& name, std::string value) {
      auto place = std::find(columns_.begin(), columns_.end(), name);
      const auto at = static_cast<size_t>(place - columns_.begin());
      if (place == columns_.end()) {
        columns_.push_back(name);
        for (auto& earlier : rows_) earlier.resize(columns_.size());
      }
      row.resize(columns_.size());
      row[at] = std::move(value);
    };
    // Metrics may be numbered by epochs; the column counts training steps.
    set("step", std::to_string(std::max(step, training_step_)));
    if (training_ && fresh()) {
      for (const auto& [name, value] : *training_) {
        set(name, is_whole_scalar(name) ? std::to_string(static_cast<int64_t>(value))
                                        : number_text(value, ""));
      }
      last_step_ = training_step_;
    }
    // "time" and "data_time" of a validation are other values than those of training.
    for (const auto& [name, value] : metrics) {
      const bool taken = training_ && find_scalar(*training_, name);
      set((taken ? "val/" : "") + name, number_text(value, ""));
    }
    rows_.push_back(std::move(row));
    save();
  }
  /// New columns change the first line, so the table is written anew.
  void save() const {
    std::string table = csv_line(columns_);
    for (const auto& cells : rows_) table += csv_line(cells);
    make_folders(folder_);
    write_file_atomically(folder_ + "/" + params_.scalar_save_file, table);
  }
  static std::string csv_line(const std::vector<std::string>& cells) {
    std::string out;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i > 0) out += ',';
      if (cells[i].find_first_of(",\"\n\r") == std::string::npos) {
        out += cells[i];
        continue;
      }
      out += '"';
      for (const char c : cells[i]) out += c == '"' ? std::string("\"\"") : std::string(1, c);
      out += '"';
    }
    return out + "\n";
  }

  Params params_;
  std::string folder_;
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
  std::optional<Scalars> training_;
  int64_t training_step_ = 0, last_step_ = -1;
};
SEG_REGISTER(VisBackend, CSVVisBackend);

}  // namespace seg
