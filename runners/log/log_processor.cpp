#include "runners/log/log_processor.hpp"

#include <algorithm>
#include <cstdio>
#include <regex>

#include "runners/hooks/run_context.hpp"
#include "runners/start/device.hpp"
#include "runners/start/run_config.hpp"

namespace seg {
namespace {

std::string fixed_text(double value, int64_t digits) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(digits), value);
  return buffer;
}

std::string exponent_text(double value, int64_t digits) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%.*e", static_cast<int>(digits), value);
  return buffer;
}

std::string justified(int64_t value, int64_t widest) {
  const std::string shown = text(value);
  const size_t width = text(widest).size();
  return std::string(width - std::min(width, shown.size()), ' ') + shown;
}

size_t window_of(const CustomStatistic& statistic, const RunContext& context) {
  if (const auto* count = std::get_if<int64_t>(&statistic.window_size)) {
    return static_cast<size_t>(*count);
  }
  return static_cast<size_t>(std::get<std::string>(statistic.window_size) == "epoch"
                                 ? context.batch_index + 1
                                 : context.iter);
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

/// The statistics of all recorded values. In a row of a whole pass, times are means over the pass.
Scalars collect(RunContext& context, bool whole_pass) {
  const LogProcessorParams& params = context.config->log_processor;
  const std::regex mean_names(params.mean_pattern);
  ScalarHistory& log = context.log();
  Scalars out;
  for (const std::string& name : log.names()) {
    const bool is_time = name == "time" || name == "data_time";
    if (whole_pass && is_time) {
      out.emplace_back(name, log.mean(name, 0));
    } else if (std::regex_search(name, mean_names)) {
      out.emplace_back(name, log.mean(name, static_cast<size_t>(params.window_size)));
    } else {
      out.emplace_back(name, log.current(name));
    }
  }
  for (const CustomStatistic& statistic : params.custom_cfg) {
    if (!log.has(statistic.data_src)) continue;
    const size_t window = window_of(statistic, context);
    const std::string& name = statistic.log_name.empty() ? statistic.data_src : statistic.log_name;
    const std::string& how = statistic.method_name;
    put(out, name,
        how == "mean"  ? log.mean(statistic.data_src, window)
        : how == "min" ? log.min(statistic.data_src, window)
        : how == "max" ? log.max(statistic.data_src, window)
                       : log.current(statistic.data_src));
  }
  return out;
}

/// Under `log_with_hierarchy` the back ends see "train/loss" for "loss".
Scalars tagged(const RunContext& context, const Scalars& scalars) {
  if (!context.config->log_processor.log_with_hierarchy) return scalars;
  Scalars out;
  for (const auto& [name, value] : scalars) {
    out.emplace_back(text(phase_name(context.phase), '/', name), value);
  }
  return out;
}

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

size_t history_length(const RunContext& context) {
  const LogProcessorParams& params = context.config->log_processor;
  auto longest = static_cast<size_t>(params.window_size);
  for (const CustomStatistic& statistic : params.custom_cfg) {
    const auto* count = std::get_if<int64_t>(&statistic.window_size);
    if (!count) return 0;
    longest = std::max(longest, static_cast<size_t>(*count));
  }
  return longest;
}

LogRow log_row_of_iter(RunContext& context) {
  const LogProcessorParams& params = context.config->log_processor;
  const Scalars all = collect(context, /*whole_pass=*/false);
  LogRow row{.line = "", .scalars = tagged(context, all)};
  const char* phase = phase_name(context.phase);
  const bool training = context.phase == Phase::kTrain;
  if (params.by_epoch) {
    std::string epoch;
    if (context.phase != Phase::kTest) {
      const int64_t current =
          training ? context.epoch + (context.end_of_epoch ? 0 : 1) : context.epoch;
      epoch = text('[', current, ']');
      const size_t width = text(context.max_epochs).size() + 3;
      epoch = std::string(width - std::min(width, epoch.size()), ' ') + epoch;
      row.scalars.emplace_back("epoch", static_cast<double>(current));
    }
    row.line = text("Epoch(", phase, ")", epoch.empty() ? " " : epoch, "[",
                    justified(context.batch_index + 1, context.batch_count), "/",
                    context.batch_count, "]  ");
  } else if (training) {
    row.line = text("Iter(train) [", justified(context.iter, context.max_iters), "/",
                    context.max_iters, "]  ");
  } else {
    row.line = text("Iter(", phase, ") [", justified(context.batch_index + 1, context.batch_count),
                    "/", context.batch_count, "]  ");
  }
  row.scalars.emplace_back("iter", static_cast<double>(context.iter));

  std::vector<std::string> rates, rest;
  for (const auto& [name, value] : all) {
    if (name.ends_with("lr")) {
      rates.push_back(name + ": " + exponent_text(value, params.num_digits));
    } else if (name != "time" && name != "data_time" && (training || name.starts_with("loss"))) {
      rest.push_back(name + ": " + fixed_text(value, params.num_digits));
    }
  }
  row.line += join(rates, " ") + "  ";
  const double* time = find_scalar(all, "time");
  const double* data_time = find_scalar(all, "data_time");
  if (time && data_time && context.eta_s >= 0) {
    row.line += text("eta: ", duration_text(context.eta_s),
                     "  time: ", fixed_text(*time, params.num_digits),
                     "  data_time: ", fixed_text(*data_time, params.num_digits), "  ");
  }
  if (const auto peak = take_peak_memory_mb(context.device)) {
    row.line += text("memory: ", *peak, "  ");
    row.scalars.emplace_back("memory", static_cast<double>(*peak));
  }
  row.line += join(rest, "  ");
  return row;
}

LogRow log_row_of_pass(RunContext& context) {
  const LogProcessorParams& params = context.config->log_processor;
  const char* phase = phase_name(context.phase);
  LogRow row;
  const std::string count = text('[', context.batch_count, '/', context.batch_count, ']');
  row.line = params.by_epoch && context.phase == Phase::kVal
                 ? text("Epoch(val) [", context.epoch, "]", count, "  ")
                 : text(params.by_epoch ? "Epoch(" : "Iter(", phase, ") ", count, "  ");
  Scalars values, times;
  for (const auto& entry : collect(context, /*whole_pass=*/true)) {
    (entry.first == "time" || entry.first == "data_time" ? times : values).push_back(entry);
  }
  values.insert(values.end(), times.begin(), times.end());
  std::vector<std::string> shown;
  for (const auto& [name, value] : values) {
    // Values of single classes stand in the table above the line.
    if (name.find('.') == std::string::npos) {
      shown.push_back(name + ": " + fixed_text(value, params.num_digits));
    }
  }
  row.line += "  " + join(shown, "  ");
  row.scalars = tagged(context, values);
  return row;
}

}  // namespace seg
