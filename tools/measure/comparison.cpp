#include "tools/measure/comparison.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "registry/error.hpp"
#include "registry/printed.hpp"
#include "registry/yaml.hpp"
#include "runners/sweep/run_one.hpp"
#include "runners/sweep/text_table.hpp"
#include "segcore/io/atomic_file.hpp"
#include "tools/measure/measuring_process.hpp"
#include "tools/measure/temporary_folder.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

constexpr const char* kOurs = "segcore";
constexpr const char* kTheirs = "MMSegmentation";
constexpr const char* kScript = "tools/benchmark_mmseg.py";
/// Exit codes after which nothing else of the same Python can be measured: it has no
/// MMSegmentation, it is no program, there is none of this name.
constexpr int kNotInstalled = 77, kNotExecutable = 126, kNotFound = 127;

/// One way in which MMSegmentation takes a step.
struct PeerMode {
  const char* key;
  const char* shown;
  const char* option;
};
constexpr PeerMode kPeerModes[] = {{"eager", "eager", ""},
                                   {"channels_last", "channels-last", "--channels-last"},
                                   {"compiled", "compiled", "--compile"}};

/// What is compared of a measure.
struct Cost {
  double seconds = 0;  ///< of a step by its median, of an image, or to the end of the first step
  double images_per_second = 0;  ///< 0: it has none
  double memory_mb = 0;          ///< 0: it has none
};

/// \param found  what a process measured: {"step": {...}}, {"data": [{...}]} or {"start": {...}}.
/// \throws DataError where something is missing.
Cost cost_of(const std::string& what, const Measured& found) {
  const auto number = [&](const char* key) {
    const Measured::json_pointer path("/" + what + (what == "data" ? "/0/" : "/") + key);
    if (!found.contains(path)) throw DataError(text("its answer has no '", key, "'"));
    return found.at(path).get<double>();
  };
  if (what == "start") return {.seconds = number("seconds_to_first_step")};
  if (what == "data") {
    const double rate = number("images_per_second");
    return {.seconds = 1 / rate, .images_per_second = rate};
  }
  const double seconds = number("seconds_per_step_median");
  return {.seconds = seconds,
          .images_per_second = number("batch_size") / seconds,
          .memory_mb = number("peak_memory_mb")};
}

/// Of several runs: the mean time, and the largest memory.
Cost cost_of_all(const std::vector<Cost>& runs) {
  Cost out;
  for (const Cost& run : runs) {
    out.seconds += run.seconds / static_cast<double>(runs.size());
    out.memory_mb = std::max(out.memory_mb, run.memory_mb);
  }
  return out;
}

std::string shown_number(double value) {
  if (value == 0) return "";
  // No exponent where a rate or megabytes have more digits.
  return printed(value >= 1000 ? "%.0f" : "%.3g", value);
}

class Measuring {
 public:
  Measuring(const BenchmarkArguments& arguments, const RunConfig& config)
      : arguments_(arguments), config_(config) {
    // Both sides get the threads that ours takes.
    const int64_t threads = config.env_cfg.num_threads.value_or(at::get_num_threads());
    setenv("OMP_NUM_THREADS", text(threads).c_str(), 1);
    found_["config"] = arguments.config;
    found_["cpu_threads"] = threads;
    found_["amp"] = arguments.amp;
    if (compared()) {
      found_["against"] = arguments.against;
      write_file_atomically(resolved(), dump_yaml(config.tree));
      rows_.push_back({"", "seconds", "images a second", "MB", "times as fast", "memory"});
    }
  }

  void take(const std::string& what) {
    if (what != "data") {
      if (auto found = turns(what, {})) found_[what] = std::move(*found);
      return;
    }
    std::vector<int64_t> counts = arguments_.threads;
    if (counts.empty()) {
      counts.push_back(config_.train_dataloader ? config_.train_dataloader->num_workers : 0);
    }
    for (const int64_t count : counts) {
      auto found = turns(what, {"--threads", text(count)});
      if (!found) return;
      found_[what].push_back(std::move(*found));
    }
  }

  Comparison result() {
    if (measured_theirs_) out_.table = aligned_table(rows_, /*width=*/0);
    if (!out_.problems.empty()) found_["problems"] = out_.problems;
    out_.json = found_.dump();
    return std::move(out_);
  }

 private:
  bool compared() const { return !arguments_.against.empty(); }
  std::string resolved() const { return folder_ / "resolved.yaml"; }

  /// \return nothing where ours cannot be measured.
  std::optional<Measured> turns(const std::string& what, const std::vector<std::string>& options) {
    const auto first = ours(what, options);
    ++(first ? out_.taken : out_.missed);
    if (!first) return std::nullopt;
    if (!found_.contains("device")) found_["device"] = first->at("device");
    if (!compared()) return part_of(what, *first);
    std::vector<std::pair<std::string, Cost>> theirs;
    Measured found{{"ours", Measured::array({part_of(what, *first)})},
                   {"theirs", Measured::object()}};
    for (const PeerMode& mode : kPeerModes) {
      // How maps are laid out and compiled matters to steps alone.
      if (peer_is_missing_ || (mode.option[0] != '\0' && (what != "step" || theirs.empty()))) break;
      const auto answer = peer(what, mode, options, *first, theirs);
      if (answer) found["theirs"][mode.key] = part_of(what, *answer);
    }
    std::vector<Cost> runs{cost_of(what, *first)};
    if (!theirs.empty()) {
      measured_theirs_ = true;
      if (const auto again = ours(what, options)) {
        runs.push_back(cost_of(what, *again));
        found["ours"].push_back(part_of(what, *again));
      }
      add_ratios(found, cost_of_all(runs), theirs);
    }
    add_rows(what, runs, theirs);
    return found;
  }

  static Measured part_of(const std::string& what, const Measured& answer) {
    return what == "data" ? answer.at(what).at(0) : answer.at(what);
  }

  std::optional<Measured> ours(const std::string& what, const std::vector<std::string>& options) {
    std::vector<std::string> words{program_beside("benchmark"), arguments_.config, "--what", what};
    const auto add_numbers = [&](const char* name, const std::vector<int64_t>& numbers) {
      if (numbers.empty()) return;
      words.emplace_back(name);
      for (const int64_t number : numbers) words.push_back(text(number));
    };
    add_numbers("--iters", {arguments_.iters});
    add_numbers("--warmup", {arguments_.warmup});
    add_numbers("--shape", arguments_.shape);
    add_numbers("--pictures", arguments_.pictures);
    if (arguments_.batch_size > 0) add_numbers("--batch-size", {arguments_.batch_size});
    if (arguments_.amp) words.emplace_back("--amp");
    if (!arguments_.device.empty()) {
      words.insert(words.end(), {"--device", arguments_.device});
    }
    words.insert(words.end(), options.begin(), options.end());
    if (!arguments_.overrides.empty()) {
      words.emplace_back("--cfg-options");
      words.insert(words.end(), arguments_.overrides.begin(), arguments_.overrides.end());
    }
    ProcessAnswer answer = measure_in_process(words, folder_ / "ours", arguments_.limit_s);
    if (!answer.found) {
      note(text(what, " is not measured: ", answer.problem));
    }
    return std::move(answer.found);
  }

  /// \param beside  ours, whose device, size of images and of batches are theirs, too.
  std::optional<Measured> peer(const std::string& what, const PeerMode& mode,
                               const std::vector<std::string>& options, const Measured& beside,
                               std::vector<std::pair<std::string, Cost>>& costs) {
    const std::string script = peer_script();
    if (script.empty()) {
      peer_is_missing_ = true;
      note(text("no comparison with ", kTheirs, ": no folder above the program has ", kScript));
      return std::nullopt;
    }
    // env finds a name without a folder.
    std::vector<std::string> words{"/usr/bin/env", arguments_.against,
                                   script,         resolved(),
                                   "--what",       what,
                                   "--device",     beside.at("device").get<std::string>(),
                                   "--iters",      text(arguments_.iters),
                                   "--warmup",     text(arguments_.warmup)};
    if (what == "step") {
      const Measured& step = beside.at(what);
      words.insert(words.end(), {"--batch-size", step.at("batch_size").dump(), "--shape",
                                 step.at("shape").at(0).dump(), step.at("shape").at(1).dump()});
    }
    if (mode.option[0] != '\0') words.emplace_back(mode.option);
    words.insert(words.end(), options.begin(), options.end());
    ProcessAnswer answer = measure_in_process(words, folder_ / "theirs", arguments_.limit_s);
    if (answer.exit_code == kNotExecutable || answer.exit_code == kNotFound) {
      answer.problem = text("there is no program '", arguments_.against, "'");
    }
    if (answer.exit_code == kNotInstalled || answer.exit_code == kNotExecutable ||
        answer.exit_code == kNotFound) {
      peer_is_missing_ = true;
      note(text("no comparison with ", kTheirs, ": ", answer.problem));
      return std::nullopt;
    }
    try {
      if (answer.found) costs.emplace_back(mode.key, cost_of(what, *answer.found));
    } catch (const DataError& e) {
      answer = {.found = std::nullopt, .problem = e.what()};
    }
    if (!answer.found) {
      note(text("no comparison of ", what, " with ", kTheirs, " (", mode.shown,
                "): ", answer.problem));
    }
    return std::move(answer.found);
  }

  /// The same problem of several measures is told once.
  void note(const std::string& sentence) {
    if (std::ranges::find(out_.problems, sentence) == out_.problems.end()) {
      out_.problems.push_back(sentence);
    }
  }

  static void add_ratios(Measured& found, const Cost& ours,
                         const std::vector<std::pair<std::string, Cost>>& theirs) {
    const auto& fastest = *std::ranges::min_element(
        theirs, {}, [](const auto& entry) { return entry.second.seconds; });
    found["fastest"] = fastest.first;
    found["times_as_fast"] = rounded(fastest.second.seconds / ours.seconds);
    if (ours.memory_mb > 0) {
      found["memory"] = rounded(ours.memory_mb / fastest.second.memory_mb);
    }
  }

  void add_rows(const std::string& what, const std::vector<Cost>& ours,
                const std::vector<std::pair<std::string, Cost>>& theirs) {
    const auto row = [&](const std::string& of, const Cost& cost) {
      return TableRow{text(what, ": ", of),
                      shown_number(cost.seconds),
                      shown_number(cost.images_per_second),
                      shown_number(cost.memory_mb),
                      "",
                      ""};
    };
    for (const Cost& cost : ours) rows_.push_back(row(kOurs, cost));
    const Cost all = cost_of_all(ours);
    for (const auto& entry : theirs) {
      const Cost& cost = entry.second;
      const auto* mode = std::ranges::find_if(
          kPeerModes, [&](const PeerMode& known) { return known.key == entry.first; });
      TableRow cells = row(text(kTheirs, what == "step" ? text(", ", mode->shown) : ""), cost);
      cells[4] = shown_number(cost.seconds / all.seconds);
      if (all.memory_mb > 0) cells[5] = shown_number(all.memory_mb / cost.memory_mb);
      rows_.push_back(std::move(cells));
    }
  }

  /// In the source tree or package that this program lies in; "" where there is none.
  static std::string peer_script() {
    std::error_code ignored;
    for (fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
         folder.has_relative_path(); folder = folder.parent_path()) {
      if (fs::exists(folder / kScript, ignored)) return (folder / kScript).string();
    }
    return {};
  }

  const BenchmarkArguments& arguments_;
  const RunConfig& config_;
  TemporaryFolder folder_;
  Measured found_;
  Comparison out_;
  std::vector<TableRow> rows_;
  bool peer_is_missing_ = false, measured_theirs_ = false;
};

}  // namespace

const std::vector<std::string>& compared_measures() {
  static const std::vector<std::string> measures{"step", "data", "start"};
  return measures;
}

Comparison compare(const BenchmarkArguments& arguments, const std::vector<std::string>& what,
                   const RunConfig& config) {
  Measuring measuring(arguments, config);
  for (const std::string& measure : compared_measures()) {
    if (std::ranges::find(what, measure) != what.end()) measuring.take(measure);
  }
  return measuring.result();
}

}  // namespace seg
