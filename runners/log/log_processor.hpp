/// Turns recorded values into the lines of the log and the rows of scalars.json.
#pragma once
#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "registry/schema.hpp"
#include "runners/log/scalars.hpp"

namespace seg {

struct EvalInfo;
struct EvalStep;
struct Progress;
struct Records;

/// One statistic of a logged value besides the usual ones.
struct CustomStatistic {
  std::string data_src;
  std::string log_name;  ///< empty: replaces data_src
  std::string method_name = "mean";
  std::variant<int64_t, std::string> window_size = int64_t{10};  ///< a count, "epoch" or "global"
  static Schema<CustomStatistic> schema();
};

struct LogProcessorParams {
  int64_t window_size = 10;
  bool by_epoch = true;
  std::vector<CustomStatistic> custom_cfg;
  int64_t num_digits = 4;
  bool log_with_hierarchy = false;
  std::string mean_pattern = ".*(loss|time|data_time|grad_norm).*";
  static Schema<LogProcessorParams> schema();
};

struct LogRow {
  std::string line;  ///< "Iter(train) [10/20]  lr: ..."
  Scalars scalars;   ///< for the visualizer
};

/// Formats rows as MMEngine 0.10's LogProcessor does.
class LogProcessor {
 public:
  explicit LogProcessor(const LogProcessorParams& params) : params_(params) {}

  /// After a training step. \param device  whose peak memory is read, and reset.
  LogRow train_row(Records& records, const Progress& progress, c10::Device device) const;
  /// After a step of a validation or a test.
  LogRow eval_row(Records& records, const Progress& progress, const EvalInfo& eval,
                  const EvalStep& step, c10::Device device) const;
  /// After a whole validation or test, with its metrics.
  LogRow result_row(Records& records, const Progress& progress, const EvalInfo& eval) const;

 private:
  /// Where a step is among all and in its epoch, for windows given in words.
  struct Windows {
    int64_t epoch = 0, global = 0;
  };
  /// The statistics of all recorded values. \param whole  times are means over all kept values.
  Scalars collect(ScalarHistory& history, const Windows& windows, bool whole) const;
  /// Under `log_with_hierarchy` back ends see "train/loss" for "loss".
  Scalars tagged(const Scalars& scalars, const char* phase) const;
  /// What follows the position: rates, times, memory and the other values.
  void append_values(LogRow& row, const Scalars& all, bool only_losses, double eta_s,
                     c10::Device device) const;

  LogProcessorParams params_;
};

/// How many values of each name the statistics of a config need; 0: all.
size_t history_length(const LogProcessorParams& params);

/// "1 day, 2:03:04" for seconds, as Python's timedelta prints them.
std::string duration_text(double seconds);

}  // namespace seg
