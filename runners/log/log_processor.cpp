#include "runners/log/log_processor.hpp"

#include <algorithm>
#include <cstdio>
#include <regex>
#include <set>

#include "registry/printed.hpp"
#include "runners/hooks/stage.hpp"
#include "runners/log/records.hpp"
#include "runners/start/device.hpp"
#include "runners/train/progress.hpp"

namespace seg {

Schema<CustomStatistic> CustomStatistic::schema() {
  using P = CustomStatistic;
  return Schema<P>("One statistic of a recorded value besides the usual one.")
      .required("data_src", &P::data_src, "the recorded value, such as loss")
      .optional("log_name", &P::log_name, "its name in the log; null: data_src")
      .optional("method_name", &P::method_name, "mean, min, max or current",
                one_of({"mean", "min", "max", "current"}))
      .optional("window_size", &P::window_size, "steps, or epoch, or global")
      .validate([](const P& p, Problems& problems) {
        const auto* word = std::get_if<std::string>(&p.window_size);
        if (word && *word != "epoch" && *word != "global") {
          problems.error("window_size",
                         text("expected a number of steps, epoch or global, got '", *word, "'"));
        }
        const auto* count = std::get_if<int64_t>(&p.window_size);
        if (count && *count < 1) problems.error("window_size", "must be at least 1");
      });
}

Schema<LogProcessorParams> LogProcessorParams::schema() {
  using P = LogProcessorParams;
  return Schema<P>("How recorded values become lines of the log.")
      .accepted("type", "there is one, LogProcessor")
      .optional("window_size", &P::window_size, "steps to average over", at_least(1))
      .optional("by_epoch", &P::by_epoch, "lines count epochs")
      .optional("custom_cfg", &P::custom_cfg, "statistics besides the usual ones")
      .optional("num_digits", &P::num_digits, "digits after the point", in_range(0, 17))
      .optional("log_with_hierarchy", &P::log_with_hierarchy,
                "recorded names begin with train/, val/ or test/")
      .optional("mean_pattern", &P::mean_pattern,
                "regular expression for the names that are logged as means")
      .validate([](const P& p, Problems& problems) {
        try {
          const std::regex pattern(p.mean_pattern);
        } catch (const std::regex_error& e) {
          problems.error("mean_pattern", text("not a regular expression: ", e.what()));
        }
        std::set<std::string> names;
        for (const CustomStatistic& statistic : p.custom_cfg) {
          const auto& name = statistic.log_name.empty() ? statistic.data_src : statistic.log_name;
          if (!names.insert(name).second) {
            problems.error("custom_cfg", text("two statistics are called '", name, "'"));
          }
        }
      });
}

namespace {

std::string fixed_text(double value, int64_t digits) {
  return printed("%.*f", static_cast<int>(digits), value);
}

std::string exponent_text(double value, int64_t digits) {
  return printed("%.*e", static_cast<int>(digits), value);
}

/// Padded with spaces at the left to `width`.
std::string right_aligned(const std::string& shown, size_t width) {
  return std::string(width - std::min(width, shown.size()), ' ') + shown;
}

/// "[ 10/160000]", as wide as at the end.
std::string count_text(int64_t done, int64_t total) {
  return text('[', right_aligned(text(done), text(total).size()), '/', total, ']');
}

/// "  [9]", as wide as for the last epoch and one more space.
std::string epoch_text(int64_t epoch, int64_t max_epochs) {
  return right_aligned(text('[', epoch, ']'), text(max_epochs).size() + 3);
}

void put(Scalars& scalars, const std::string& name, double value) {
  for (auto& [key, old] : scalars) {
    if (key == name) {
      old = value;
      return;
    }
  }
  scalars.emplace_back(name, value);
}

bool is_time(const std::string& name) { return name == "time" || name == "data_time"; }

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  const int64_t days = whole / 86400, rest = whole % 86400;
  char clock[32];
  std::snprintf(clock, sizeof(clock), "%d:%02d:%02d", static_cast<int>(rest / 3600),
                static_cast<int>(rest / 60 % 60), static_cast<int>(rest % 60));
  if (days == 0) return clock;
  return text(days, days == 1 ? " day, " : " days, ", clock);
}

size_t history_length(const LogProcessorParams& params) {
  auto longest = static_cast<size_t>(params.window_size);
  for (const CustomStatistic& statistic : params.custom_cfg) {
    const auto* count = std::get_if<int64_t>(&statistic.window_size);
    if (!count) return 0;
    longest = std::max(longest, static_cast<size_t>(*count));
  }
  return longest;
}

Scalars LogProcessor::collect(ScalarHistory& history, const Windows& windows, bool whole) const {
  const std::regex mean_names(params_.mean_pattern);
  Scalars out;
  for (const std::string& name : history.names()) {
    if (whole && is_time(name)) {
      out.emplace_back(name, history.mean(name, 0));
    } else if (std::regex_search(name, mean_names)) {
      out.emplace_back(name, history.mean(name, static_cast<size_t>(params_.window_size)));
    } else {
      out.emplace_back(name, history.current(name));
    }
  }
  for (const CustomStatistic& statistic : params_.custom_cfg) {
    const std::string& source = statistic.data_src;
    if (!history.has(source)) continue;
    const auto* count = std::get_if<int64_t>(&statistic.window_size);
    const auto window = static_cast<size_t>(
        count                                                     ? *count
        : std::get<std::string>(statistic.window_size) == "epoch" ? windows.epoch
                                                                  : windows.global);
    const std::string& how = statistic.method_name;
    put(out, statistic.log_name.empty() ? source : statistic.log_name,
        how == "mean"  ? history.mean(source, window)
        : how == "min" ? history.min(source, window)
        : how == "max" ? history.max(source, window)
                       : history.current(source));
  }
  return out;
}

Scalars LogProcessor::tagged(const Scalars& scalars, const char* phase) const {
  if (!params_.log_with_hierarchy) return scalars;
  Scalars out;
  for (const auto& [name, value] : scalars) out.emplace_back(text(phase, '/', name), value);
  return out;
}

void LogProcessor::append_values(LogRow& row, const Scalars& all, bool only_losses, double eta_s,
                                 c10::Device device) const {
  std::vector<std::string> rates, rest;
  for (const auto& [name, value] : all) {
    if (name.ends_with("lr")) {
      rates.push_back(name + ": " + exponent_text(value, params_.num_digits));
    } else if (!is_time(name) && (!only_losses || name.starts_with("loss"))) {
      rest.push_back(name + ": " + fixed_text(value, params_.num_digits));
    }
  }
  row.line += join(rates, " ") + "  ";
  const double* time = find_scalar(all, "time");
  const double* data_time = find_scalar(all, "data_time");
  if (time && data_time && eta_s >= 0) {
    row.line +=
        text("eta: ", duration_text(eta_s), "  time: ", fixed_text(*time, params_.num_digits),
             "  data_time: ", fixed_text(*data_time, params_.num_digits), "  ");
  }
  if (const auto peak = take_peak_memory_mb(device)) {
    row.line += text("memory: ", *peak, "  ");
    row.scalars.emplace_back("memory", static_cast<double>(*peak));
  }
  row.line += join(rest, "  ");
}

LogRow LogProcessor::train_row(Records& records, const Progress& progress,
                               c10::Device device) const {
  const Windows windows{.epoch = progress.step_in_epoch(), .global = progress.iter};
  const Scalars all = collect(records.train, windows, /*whole=*/false);
  LogRow row{.line = "", .scalars = tagged(all, "train")};
  if (params_.by_epoch) {
    const int64_t epoch = progress.epoch + (progress.ends_epoch() ? 0 : 1);
    row.scalars.emplace_back("epoch", static_cast<double>(epoch));
    row.line = text("Epoch(train)", epoch_text(epoch, progress.max_epochs),
                    count_text(progress.step_in_epoch(), progress.epoch_length), "  ");
  } else {
    row.line = text("Iter(train) ", count_text(progress.iter, progress.max_iters), "  ");
  }
  row.scalars.emplace_back("iter", static_cast<double>(progress.iter));
  append_values(row, all, /*only_losses=*/false, records.eta_s, device);
  return row;
}

LogRow LogProcessor::eval_row(Records& records, const Progress& progress, const EvalInfo& eval,
                              const EvalStep& step, c10::Device device) const {
  const Windows windows{.epoch = step.done(), .global = progress.iter};
  const Scalars all = collect(records.eval, windows, /*whole=*/false);
  LogRow row{.line = "", .scalars = tagged(all, eval.name())};
  std::string epoch = " ";
  if (params_.by_epoch && eval.of_training) {
    row.scalars.emplace_back("epoch", static_cast<double>(progress.epoch));
    epoch = epoch_text(progress.epoch, progress.max_epochs);
  }
  row.line = text(params_.by_epoch ? "Epoch(" : "Iter(", eval.name(), ")", epoch,
                  count_text(step.done(), eval.num_batches), "  ");
  row.scalars.emplace_back("iter", static_cast<double>(progress.iter));
  append_values(row, all, /*only_losses=*/true, records.eta_s, device);
  return row;
}

LogRow LogProcessor::result_row(Records& records, const Progress& progress,
                                const EvalInfo& eval) const {
  const Windows windows{.epoch = eval.num_batches, .global = progress.iter};
  const std::string count = text('[', eval.num_batches, '/', eval.num_batches, ']');
  LogRow row;
  row.line = params_.by_epoch && eval.of_training
                 ? text("Epoch(val) [", progress.epoch, "]", count, "  ")
                 : text(params_.by_epoch ? "Epoch(" : "Iter(", eval.name(), ") ", count, "  ");
  Scalars values, times;
  for (const auto& entry : collect(records.eval, windows, /*whole=*/true)) {
    (is_time(entry.first) ? times : values).push_back(entry);
  }
  values.insert(values.end(), times.begin(), times.end());
  std::vector<std::string> shown;
  for (const auto& [name, value] : values) {
    // Values of single classes are in the table above the line.
    if (name.find('.') == std::string::npos) {
      shown.push_back(name + ": " + fixed_text(value, params_.num_digits));
    }
  }
  row.line += "  " + join(shown, "  ");
  row.scalars = tagged(values, eval.name());
  return row;
}

}  // namespace seg
