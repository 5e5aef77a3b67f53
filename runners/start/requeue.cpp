#include "runners/start/requeue.hpp"

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include "registry/log.hpp"
#include "runners/start/signals.hpp"

namespace seg {
namespace {

/// The name of this job for scontrol: "123", or "120_4" for a task of an array; "" outside of
/// Slurm.
std::string slurm_job() {
  const char* array = std::getenv("SLURM_ARRAY_JOB_ID");
  const char* task = std::getenv("SLURM_ARRAY_TASK_ID");
  if (array && task) return text(array, "_", task);
  const char* job = std::getenv("SLURM_JOB_ID");
  return job ? job : "";
}

struct ScontrolAnswer {
  bool done = false;
  std::string output;  ///< of both streams, without the last line break
};

/// \param words  of the command line before the job.
ScontrolAnswer ask_scontrol(const char* words, const std::string& job) {
  // The name is Slurm's, but the environment is anybody's: it is no text of the command.
  setenv("SEGCORE_SLURM_JOB", job.c_str(), /*overwrite=*/1);
  ScontrolAnswer out;
  FILE* pipe = popen(text("scontrol ", words, " \"$SEGCORE_SLURM_JOB\" 2>&1").c_str(), "r");
  if (!pipe) return out;
  std::array<char, 256> line{};
  while (std::fgets(line.data(), line.size(), pipe)) out.output += line.data();
  out.done = pclose(pipe) == 0;
  while (!out.output.empty() && out.output.back() == '\n') out.output.pop_back();
  return out;
}

/// "RUNNING" of "... JobState=RUNNING Reason=None ..."; "" where the field is missing.
std::string job_field(const std::string& facts, const std::string& name) {
  const size_t at = (" " + facts).find(" " + name + "=");
  if (at == std::string::npos) return "";
  const size_t begin = at + name.size() + 1;
  return facts.substr(begin, facts.find(' ', begin) - begin);
}

/// Seconds of "1-02:03:04"; without end for "UNLIMITED" and other words.
int64_t job_seconds(const std::string& duration) {
  long long days = 0, hours = 0, minutes = 0, seconds = 0;
  const bool has_days = duration.find('-') != std::string::npos;
  const int found =
      has_days
          ? std::sscanf(duration.c_str(), "%lld-%lld:%lld:%lld", &days, &hours, &minutes, &seconds)
          : std::sscanf(duration.c_str(), "%lld:%lld:%lld", &hours, &minutes, &seconds);
  if (found != (has_days ? 4 : 3)) return std::numeric_limits<int64_t>::max();
  return ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
}

/// Whether somebody cancelled the job. Cancelling, preemption and the time limit send the same
/// signal, and Slurm calls all of these jobs COMPLETING until their processes have ended.
bool is_cancelled(const std::string& facts) {
  const std::string state = job_field(facts, "JobState");
  if (state != "COMPLETING") return state == "CANCELLED";
  const std::string preempted = job_field(facts, "PreemptTime");
  if (!preempted.empty() && preempted != "None") return false;
  return job_seconds(job_field(facts, "RunTime")) < job_seconds(job_field(facts, "TimeLimit"));
}

}  // namespace

void check_requeue() {
  if (!slurm_job().empty()) return;
  log::warn(
      "--requeue has no effect: this is no job of Slurm, as the environment has no SLURM_JOB_ID");
}

void requeue_job() {
  const std::string job = slurm_job();
  if (job.empty() || stop_signal() == SIGINT) return;
  const ScontrolAnswer facts = ask_scontrol("-o show job", job);
  if (facts.done && is_cancelled(facts.output)) {
    log::info("job ", job, " was cancelled and is not queued again");
    return;
  }
  const ScontrolAnswer answer = ask_scontrol("requeue", job);
  if (answer.done) {
    log::info("Slurm queues job ", job, " again");
  } else {
    log::error("scontrol requeue ", job,
               " failed: ", answer.output.empty() ? "no output" : answer.output,
               ". Submit the job again; with --resume it continues from the checkpoint");
  }
}

}  // namespace seg
