#include "runners/log/flight_report.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "registry/error.hpp"
#include "registry/printed.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

FlightLog flight_log_of(const nlohmann::ordered_json& json) {
  FlightLog out{.rank = json.at("rank"),
                .world_size = json.at("world_size"),
                .host = json.at("host"),
                .reason = json.at("reason"),
                .pid = json.at("pid"),
                .time = json.at("time")};
  if (json.contains("lost")) out.lost = lost_peer_of(json.at("lost"));
  const auto& now = json.at("now");
  out.now = {.iter = now.at("iter"),
             .stage = now.at("stage"),
             .stage_s = now.at("stage_s"),
             .collective = now.at("collective"),
             .collective_number = now.at("collective_number")};
  if (now.contains("waiting_s")) out.now.waiting_s = now.at("waiting_s").get<double>();
  for (const auto& step : json.at("steps")) {
    const int64_t memory = step.at("memory_mb");
    if (out.first_memory_mb == 0) out.first_memory_mb = memory;
    if (memory > 0) out.memory_mb = memory;
    out.samples = step.at("samples").get<std::vector<std::string>>();
  }
  return out;
}

std::string clock_text(double time) {
  const auto seconds = static_cast<std::time_t>(time);
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 32> out{};
  std::strftime(out.data(), out.size(), "%Y-%m-%d %H:%M:%S", &local);
  return out.data();
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// What an ended process met itself; those that only lost another come later.
const FlightLog* first_of_its_own(const std::vector<FlightLog>& logs) {
  const FlightLog* first = nullptr;
  for (const FlightLog& log : logs) {
    const bool told_by_another = contains(log.reason, "another process of this run");
    if (log.lost || told_by_another) continue;
    if (!first || log.time < first->time) first = &log;
  }
  return first;
}

/// The peer that most records name; the first to be named where they disagree.
const LostPeer* named_by_most(const std::vector<FlightLog>& logs) {
  const LostPeer* best = nullptr;
  std::ptrdiff_t most = 0;
  for (const FlightLog& log : logs) {
    if (!log.lost) continue;
    const auto votes = std::count_if(logs.begin(), logs.end(), [&](const FlightLog& other) {
      return other.lost && other.lost->rank == log.lost->rank;
    });
    if (votes > most) best = &*log.lost, most = votes;
  }
  return best;
}

/// All processes stop together, which is told once.
bool is_stop(const FlightLog& log) { return contains(log.reason, "stopped by SIG"); }

std::string advice_on_loss(const LostPeer& lost) {
  if (contains(lost.what, "silent") || contains(lost.what, "not answered")) {
    return "It was stopped, or its machine or network hung: look at the machine and at the "
           "connection to it.";
  }
  if (contains(lost.what, "did not come")) {
    return lost.stage == "data"
               ? "It was still waiting for its data: look at the file system that they are on."
               : "It was alive, and busy or stuck where it was last seen; a collective that takes "
                 "longer on purpose needs a higher env_cfg.dist_cfg.timeout.";
  }
  return "A process that goes without a word was killed: by the kernel for want of memory (dmesg), "
         "by the scheduler for a limit (its log), by a person, or with its machine.";
}

std::string advice_on_reason(const FlightLog& log) {
  if (is_stop(log)) return "Nothing went wrong: the run was stopped.";
  if (contains(log.reason, "crashed with")) {
    return "The process broke down in its own code or a library's: run it again on the batch "
           "above under a debugger, and report it with this record.";
  }
  if (contains(log.reason, "not enough memory") || contains(log.reason, "not enough GPU memory")) {
    return "A smaller batch or crop, or with_cp, needs less memory.";
  }
  return "";
}

std::string batch_text(const std::vector<std::string>& samples) {
  if (samples.empty()) return "";
  constexpr size_t kShown = 4;
  const std::vector<std::string> shown(
      samples.begin(),
      samples.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, samples.size())));
  return text("  its batch: ", join(shown, ", "),
              samples.size() > kShown ? text(" and ", samples.size() - kShown, " more") : "", "\n");
}

std::string place_text(const FlightLog& log) {
  std::string out = text("iteration ", log.now.iter, ", ", log.now.stage);
  if (!log.now.collective.empty()) {
    const auto& waiting = log.now.waiting_s;
    out += text(", ", waiting ? printed("waiting %.1f s in", *waiting) : "after", " '",
                log.now.collective, "' (number ", log.now.collective_number, ')');
  }
  return out;
}

}  // namespace

std::vector<FlightLog> read_flight_logs(const std::string& folder) {
  static const std::regex name("flight_[0-9]+\\.json");
  std::vector<FlightLog> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!std::regex_match(entry.path().filename().string(), name)) continue;
    std::ifstream file(entry.path());
    try {
      out.push_back(flight_log_of(nlohmann::ordered_json::parse(file)));
    } catch (const nlohmann::json::exception& e) {
      throw DataError(text(entry.path().string(), ": is no flight record: ", e.what()));
    }
  }
  std::sort(out.begin(), out.end(),
            [](const FlightLog& a, const FlightLog& b) { return a.rank < b.rank; });
  return out;
}

std::string flight_report(const std::vector<FlightLog>& logs) {
  std::string out, advice;
  int first_rank = -1;
  if (const FlightLog* broken = first_of_its_own(logs)) {
    first_rank = broken->rank;
    out += text("first: rank ", broken->rank, " on ", broken->host, " (pid ", broken->pid, ") at ",
                clock_text(broken->time), ": ", broken->reason, "\n  ", place_text(*broken), "\n",
                batch_text(broken->samples));
    if (broken->memory_mb > broken->first_memory_mb + broken->first_memory_mb / 4) {
      out += text("  its memory grew from ", broken->first_memory_mb, " to ", broken->memory_mb,
                  " MB in the steps recorded\n");
    }
    advice = advice_on_reason(*broken);
  } else if (const LostPeer* lost = named_by_most(logs)) {
    first_rank = lost->rank;
    out += "first: " + lost->text() + "\n";
    const auto own = std::find_if(logs.begin(), logs.end(),
                                  [&](const FlightLog& log) { return log.rank == lost->rank; });
    if (own != logs.end()) out += batch_text(own->samples);
    advice = advice_on_loss(*lost);
  }
  for (const FlightLog& log : logs) {
    if (log.rank == first_rank || is_stop(log)) continue;
    out += text("then: rank ", log.rank, " on ", log.host, " at ", clock_text(log.time), ": ",
                place_text(log), "\n");
  }
  const int processes = logs.front().world_size;
  if (static_cast<int>(logs.size()) < processes) {
    out += text("without a record: ", processes - static_cast<int>(logs.size()), " of ", processes,
                processes == 1 ? " process\n" : " processes\n");
  }
  if (!advice.empty()) out += advice + "\n";
  return out;
}

std::string report_without_records(const std::string& log) {
  static const std::regex step(R"(Iter\(train\) \[ *([0-9]+)/([0-9]+)\])");
  std::string done, all;
  for (std::sregex_iterator at(log.begin(), log.end(), step), end; at != end; ++at) {
    done = (*at)[1];
    all = (*at)[2];
  }
  if (done.empty()) return "no process left a record, and no training step was logged\n";
  if (done == all) return text("no process left a record: the run reached its end, ", all, "\n");
  return text("no process left a record, and the log ends after step ", done, " of ", all,
              ": the run is still going on, or all of its processes were killed at once (kill -9, "
              "want of memory, a machine that went down: dmesg or the scheduler's log)\n");
}

}  // namespace seg
