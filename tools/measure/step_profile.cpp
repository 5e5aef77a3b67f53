#include "tools/measure/step_profile.hpp"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "registry/printed.hpp"
#include "registry/text.hpp"
#include "runners/start/device.hpp"
#include "runners/sweep/text_table.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/profile/machine_peak.hpp"
#include "segcore/profile/operator_recorder.hpp"
#include "tools/measure/benchmarked_model.hpp"

namespace seg {
namespace {

/// Sums over calls, of a step.
struct Cost {
  double calls = 0, forward = 0, backward = 0, other = 0, bytes = 0, flops = 0;

  double seconds() const { return forward + backward + other; }
  void add(const OperatorCall& call, double steps) {
    calls += 1 / steps;
    double& phase = call.phase == "forward" ? forward : call.phase == "backward" ? backward : other;
    phase += call.seconds / steps;
    bytes += static_cast<double>(call.bytes) / steps;
    flops += static_cast<double>(call.flops) / steps;
  }
};

/// In the order in which names first came.
struct CostTable {
  std::vector<std::pair<std::string, Cost>> rows;

  Cost& of(const std::string& name) {
    const auto found = index_.try_emplace(name, rows.size()).first;
    if (found->second == rows.size()) rows.emplace_back(name, Cost());
    return rows[found->second].second;
  }

 private:
  std::map<std::string, size_t> index_;
};

/// 3.72 G
std::string short_number(double value, const char* unit) {
  if (value == 0) return "";
  const char* prefixes[] = {"", "k", "M", "G", "T"};
  int prefix = 0;
  while (value >= 1000 && prefix < 4) value /= 1000, ++prefix;
  const char* form = value < 10 ? "%.2f %s%s" : value < 100 ? "%.1f %s%s" : "%.0f %s%s";
  return printed(form, value, prefixes[prefix], unit);
}

std::string milliseconds(double seconds) {
  if (seconds == 0) return "";
  return printed(seconds < 0.1 ? "%.2f" : "%.1f", 1e3 * seconds);
}

std::string percent(double part, double whole) { return printed("%.1f %%", 100 * part / whole); }

/// The nearer of the two limits.
std::string of_peak(const Cost& cost, const MachinePeak& peak) {
  const double arithmetic = cost.flops / peak.flops, copying = cost.bytes / peak.bytes;
  if (cost.seconds() == 0 || std::max(arithmetic, copying) == 0) return "";
  return text(printed("%.0f %%", 100 * std::max(arithmetic, copying) / cost.seconds()),
              arithmetic > copying ? " flops" : " bytes");
}

std::string cut_name(const std::string& name, int64_t parts) {
  size_t end = 0;
  for (int64_t i = 0; i < parts; ++i) {
    end = name.find('.', end + (i > 0));
    if (end == std::string::npos) return name;
  }
  return name.substr(0, end);
}

class StepProfile {
 public:
  StepProfile(const ProfileArguments& arguments, const RunConfig& config, c10::Device device)
      : arguments_(arguments),
        device_(device),
        model_(config, device),
        batch_(synthetic_batch(arguments.step, config, model_)) {}

  std::string run() {
    // Kineto would lose the trace with a line of its own.
    if (!arguments_.trace.empty()) const AtomicFile writable(arguments_.trace);
    for (int64_t i = 0; i < arguments_.step.warmup; ++i) model_.step(batch_);
    time_steps();
    record_steps();
    peak_ = measure_peak(device_);
    if (!arguments_.trace.empty()) write_trace();
    const auto [height, width] = model_.input_shape();
    const int threads = at::get_num_threads();
    return text(
        "a training step, ", batch_.size(), batch_.size() == 1 ? " image" : " images", " of ",
        height, "x", width, arguments_.step.amp ? ", mixed precision" : "", ", on ", device_.str(),
        device_.is_cpu() ? text(" with ", threads, threads == 1 ? " thread" : " threads") : "",
        "\n  ", milliseconds(seconds_), " ms, the median of ", arguments_.step.iters, "; ",
        milliseconds(recorded_seconds_),
        " ms while it is recorded\n  peak measured here: ", short_number(peak_.flops, "FLOPs/s"),
        " (a multiplication with an addition is one), ", short_number(peak_.bytes, "B/s"),
        " of copying\n\n", phase_table(), "\n", module_table(), "\n", operator_table(), "\n",
        notes("operators that a GPU's queue is waited for", waits_),
        notes("copies between contiguous and channels-last", format_copies_));
  }

 private:
  double timed_step() {
    const double begin = seconds_now();
    model_.step(batch_);
    synchronize_device(device_);
    return seconds_now() - begin;
  }

  void time_steps() {
    std::vector<double> seconds;
    for (int64_t i = 0; i < arguments_.step.iters; ++i) seconds.push_back(timed_step());
    seconds_ = median(std::move(seconds));
  }

  void record_steps() {
    const auto steps = static_cast<double>(arguments_.step.iters);
    for (int64_t i = 0; i < arguments_.step.iters; ++i) {
      RecordedStep step = record_operators(model_.model(), device_,
                                           [&] { recorded_seconds_ += timed_step() / steps; });
      for (const OperatorCall& call : step.calls) {
        phases_.of(call.phase.empty() ? "other" : call.phase).add(call, steps);
        modules_.of(cut_name(call.module, arguments_.depth)).add(call, steps);
        operators_.of(call.name).add(call, steps);
      }
      waits_ = std::move(step.waits);
      format_copies_ = std::move(step.format_copies);
    }
  }

  void write_trace() {
    namespace profiler = torch::autograd::profiler;
    using torch::profiler::impl::ActivityType;
    std::set<ActivityType> activities{ActivityType::CPU};
    if (device_.is_cuda()) activities.insert(ActivityType::CUDA);
    // Else Kineto prints that there is no GPU.
    if (device_.is_cpu()) ::setenv("KINETO_LOG_LEVEL", "5", /*overwrite=*/0);
    const torch::profiler::impl::ProfilerConfig settings(
        torch::profiler::impl::ProfilerState::KINETO, /*report_input_shapes=*/true);
    profiler::prepareProfiler(settings, activities);
    profiler::enableProfiler(settings, activities,
                             {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION,
                              at::RecordScope::USER_SCOPE});
    timed_step();
    profiler::disableProfiler()->save(arguments_.trace);
  }

  std::string phase_table() {
    std::vector<TableRow> out{{"phase", "ms", "share", "flops", "of peak"}};
    double inside = 0;
    for (const auto& [name, cost] : phases_.rows) {
      inside += cost.seconds();
      out.push_back({name, milliseconds(cost.seconds()), percent(cost.seconds(), recorded_seconds_),
                     short_number(cost.flops, ""), of_peak(cost, peak_)});
    }
    const double outside = std::max(0.0, recorded_seconds_ - inside);
    out.push_back(
        {"outside of operators", milliseconds(outside), percent(outside, recorded_seconds_)});
    return aligned_table(out, /*width=*/0);
  }

  std::string module_table() {
    std::vector<TableRow> out{
        {"module", "forward ms", "backward ms", "share", "bytes", "flops", "of peak"}};
    for (const auto& [name, cost] : modules_.rows) {
      if (cost.forward + cost.backward == 0) continue;
      out.push_back({name, milliseconds(cost.forward), milliseconds(cost.backward),
                     percent(cost.seconds(), recorded_seconds_), short_number(cost.bytes, "B"),
                     short_number(cost.flops, ""), of_peak(cost, peak_)});
    }
    return aligned_table(out, /*width=*/0);
  }

  std::string operator_table() {
    auto rows = operators_.rows;
    std::ranges::stable_sort(rows, std::greater(),
                             [](const auto& row) { return row.second.seconds(); });
    const size_t shown = std::min(rows.size(), static_cast<size_t>(arguments_.top));
    std::vector<TableRow> out{{"operator", "calls", "ms", "share", "bytes", "flops", "of peak"}};
    const auto add = [&](const std::string& name, const Cost& cost) {
      out.push_back({name, printed("%.0f", cost.calls), milliseconds(cost.seconds()),
                     percent(cost.seconds(), recorded_seconds_), short_number(cost.bytes, "B"),
                     short_number(cost.flops, ""), of_peak(cost, peak_)});
    };
    for (size_t i = 0; i < shown; ++i) add(rows[i].first, rows[i].second);
    Cost rest;
    for (size_t i = shown; i < rows.size(); ++i) {
      const Cost& one = rows[i].second;
      rest.calls += one.calls;
      rest.other += one.seconds();
      rest.bytes += one.bytes;
      rest.flops += one.flops;
    }
    if (shown < rows.size()) add(text(rows.size() - shown, " others"), rest);
    return aligned_table(out, /*width=*/0);
  }

  std::string notes(const char* what, const std::vector<OperatorNote>& found) const {
    if (found.empty()) return text(what, ": none\n");
    std::map<std::string, std::pair<int64_t, double>> by_place;
    double bytes = 0;
    for (const OperatorNote& note : found) {
      auto& [count, sum] = by_place[text(note.phase, "  ", note.module, "  ", note.name)];
      ++count;
      sum += static_cast<double>(note.bytes);
      bytes += static_cast<double>(note.bytes);
    }
    std::string out =
        text(what, ": ", found.size(), bytes > 0 ? ", " : "", short_number(bytes, "B"), "\n");
    for (const auto& [place, counts] : by_place) {
      out += text("  ", counts.first, " x  ", place, counts.second > 0 ? "  " : "",
                  short_number(counts.second, "B"), "\n");
    }
    return out;
  }

  const ProfileArguments& arguments_;
  c10::Device device_;
  BenchmarkedModel model_;
  Batch batch_;
  double seconds_ = 0, recorded_seconds_ = 0;
  CostTable phases_, modules_, operators_;
  std::vector<OperatorNote> waits_, format_copies_;
  MachinePeak peak_;
};

}  // namespace

std::string profile_step(const ProfileArguments& arguments, const RunConfig& config,
                         c10::Device device) {
  return StepProfile(arguments, config, device).run();
}

}  // namespace seg
