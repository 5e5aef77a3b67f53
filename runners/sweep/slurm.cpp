#include "runners/sweep/slurm.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>

#include "registry/log.hpp"
#include "runners/start/signals.hpp"
#include "runners/sweep/asha.hpp"
#include "runners/sweep/engine.hpp"
#include "runners/sweep/run_one.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/sha256.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

/// A word as a POSIX shell reads it back.
std::string shell_quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string shell_command(const std::vector<std::string>& words) {
  std::vector<std::string> quoted;
  for (const std::string& word : words) quoted.push_back(shell_quoted(word));
  return join(quoted, " ");
}

/// What a program of Slurm prints. \throws DataError with its message where it fails.
std::string slurm_output(const std::vector<std::string>& words) {
  FILE* pipe = popen((shell_command(words) + " 2>&1").c_str(), "r");
  if (!pipe) throw DataError(text("cannot start ", words[0]));
  std::string out;
  std::array<char, 4096> buffer{};
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) {
    out.append(buffer.data(), n);
  }
  const int status = pclose(pipe);
  while (!out.empty() && out.back() == '\n') out.pop_back();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return out;
  constexpr int kNotFound = 127;
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNotFound) {
    throw DataError(text("engine: slurm needs Slurm's ", words[0],
                         ", which is not found: start the sweep on a login node, or write "
                         "'engine: local'"));
  }
  throw DataError(text(words[0], " failed: ", out));
}

/// One name a folder: other sweeps of the user may be in the queue, too.
std::string job_name(const SweepFolder& folder) {
  return fs::path(folder.path()).filename().string() + "-" +
         sha256_of_text(folder.path()).substr(0, 8);
}

/// "1-3,7" for {1, 2, 3, 7}.
std::string array_ranges(const std::vector<size_t>& numbers) {
  std::vector<std::string> out;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    out.push_back(end - i > 1 ? text(numbers[i], "-", numbers[end - 1]) : text(numbers[i]));
    i = end;
  }
  return join(out, ",");
}

/// The script of a task, which its program takes the place of, so that signals reach it.
std::string task_script(const SweepFolder& folder) {
  return "#!/bin/sh\nexec " + shell_command({program_beside("sweep"), "run", folder.path()}) +
         " --index \"$SLURM_ARRAY_TASK_ID\"\n";
}

std::vector<std::string> sbatch_options(const SweepSpec& spec) {
  std::vector<std::string> out;
  // Two minutes are enough to save a checkpoint.
  if (!spec.sbatch.count("signal")) out.emplace_back("--signal=B:USR1@120");
  for (const auto& [name, value] : spec.sbatch) {
    const bool flag = value.empty() || value == "true";
    out.push_back("--" + name + (flag ? "" : "=" + value));
  }
  return out;
}

/// \return the number of the job.
std::string submit(std::vector<std::string> words) {
  words.insert(words.begin(), {"sbatch", "--parsable"});
  const std::string printed = slurm_output(words);
  // "12" or "12;cluster", after lines that a site's filters may print.
  const std::string last = printed.substr(printed.rfind('\n') + 1);
  return last.substr(0, last.find(';'));
}

std::vector<size_t> numbers_to_submit(const SweepFolder& folder, const SweepSpec& spec,
                                      const std::vector<size_t>& queued) {
  std::vector<size_t> out;
  std::vector<RunReport> reports = read_reports(folder, spec);
  for (RunReport& report : reports) {
    const bool done = report.status == RunStatus::kEnded || report.status == RunStatus::kFailed ||
                      report.status == RunStatus::kPaused;
    const bool there = std::find(queued.begin(), queued.end(), report.run.number) != queued.end();
    if (done || there) continue;
    if (report.state.starts == 0) {
      if (!budget_reached(spec, folder, reports).empty()) continue;
      // Counts for those behind it.
      report.state.starts = 1;
      report.status = RunStatus::kRunning;
    }
    out.push_back(report.run.number);
  }
  return out;
}

/// Lets the next run of successive halving go on. \return whether there is one.
bool promote_one(const SweepFolder& folder, const SweepSpec& spec, bool last) {
  auto reports = read_reports(folder, spec);
  if (!budget_reached(spec, folder, reports).empty()) return false;
  const AshaRule rule(spec, reports);
  const auto chosen = last ? rule.last_promotion() : rule.next_promotion();
  if (!chosen) return false;
  RunReport& report = reports[*chosen];
  ++report.state.rung;
  report.state.status = RunStatus::kQueued;
  folder.write_state(report.run, report.state);
  return true;
}

}  // namespace

std::string slurm_task() {
  const char* array = std::getenv("SLURM_ARRAY_JOB_ID");
  const char* task = std::getenv("SLURM_ARRAY_TASK_ID");
  if (array && task) return text(array, "_", task);
  const char* job = std::getenv("SLURM_JOB_ID");
  return job ? job : "";
}

void requeue_slurm_task(const std::string& task, int signal) {
  if (signal != SIGUSR1 && signal != SIGUSR2) return;
  // Slurm ends this task with SIGTERM before it queues it again.
  std::signal(SIGTERM, SIG_IGN);
  try {
    slurm_output({"scontrol", "requeue", task});
  } catch (const DataError& e) {
    log::error("task ", task, " is not queued again: ", e.what());
  }
}

void promote_in_slurm(const SweepFolder& folder, const SweepSpec& spec) {
  const FolderLock lock(folder.start_file());
  size_t promoted = 0;
  while (promote_one(folder, spec, /*last=*/false)) ++promoted;
  const bool idle = promoted == 0 && runs_in_slurm(folder).empty();
  if (idle && promote_one(folder, spec, /*last=*/true)) ++promoted;
  if (promoted > 0) log::info(submit_to_slurm(folder, spec));
}

void settle_by_queue(const SweepFolder& folder, std::vector<RunReport>& reports) {
  std::vector<size_t> queued;
  try {
    queued = runs_in_slurm(folder);
  } catch (const DataError&) {
    return;  // no login node; the files say what is known
  }
  for (RunReport& report : reports) {
    const bool there = std::find(queued.begin(), queued.end(), report.run.number) != queued.end();
    if (report.status == RunStatus::kRunning && !there) report.status = RunStatus::kQueued;
  }
}

std::vector<size_t> runs_in_slurm(const SweepFolder& folder) {
  // %K is the number in the array; one line a task.
  std::istringstream in(slurm_output(
      {"squeue", "--noheader", "--array", "--me", "--name=" + job_name(folder), "--format=%K"}));
  std::vector<size_t> out;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of("0123456789 ") == std::string::npos) {
      out.push_back(std::strtoull(line.c_str(), nullptr, 10));
    }
  }
  return out;
}

std::string submit_to_slurm(const SweepFolder& folder, const SweepSpec& spec) {
  const auto queued = runs_in_slurm(folder);
  const auto numbers = numbers_to_submit(folder, spec, queued);
  if (numbers.empty()) {
    return queued.empty() ? "nothing is left to do"
                          : text("nothing is left to submit: ", queued.size(),
                                 queued.size() == 1 ? " run is" : " runs are", " in the queue");
  }
  make_folders(folder.path() + "/slurm");
  const std::string script = folder.path() + "/slurm/task.sh";
  write_file_atomically(script, task_script(folder));
  const std::string at_a_time = spec.parallel ? text("%", *spec.parallel) : "";
  const std::string name = job_name(folder), logs = "--output=" + folder.path() + "/slurm/";
  std::vector<std::string> words{
      "--job-name=" + name, "--array=" + array_ranges(numbers) + at_a_time,
      "--requeue",          "--open-mode=append",
      logs + "%A_%a.log",   "--chdir=" + folder.start_folder()};
  const auto options = sbatch_options(spec);
  words.insert(words.end(), options.begin(), options.end());
  words.push_back(script);
  const std::string job = submit(words);
  // It needs one core of any machine and no GPU: the options of the runs are not its own, but for
  // where it may run.
  words = {"--job-name=" + name + "-summary", "--dependency=afterany:" + job,
           logs + "summary_%j.log", "--chdir=" + folder.start_folder()};
  for (const char* option : {"partition", "account", "qos"}) {
    const auto given = spec.sbatch.find(option);
    if (given != spec.sbatch.end()) words.push_back(text("--", option, "=", given->second));
  }
  words.push_back("--wrap=" + shell_command({program_beside("sweep"), "summary", folder.path()}));
  const std::string summary = submit(words);
  return text("submitted ", numbers.size(), numbers.size() == 1 ? " run" : " runs", " as job ", job,
              ", and job ", summary, " that writes the summary after them");
}

}  // namespace seg
