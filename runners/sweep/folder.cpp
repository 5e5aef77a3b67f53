#include "runners/sweep/folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "registry/file_text.hpp"
#include "registry/yaml.hpp"
#include "runners/log/flight_record.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 6> kStatusWords{"queued", "running", "stopped",
                                                  "paused", "ended",   "failed"};

/// Field 22 of /proc/<pid>/stat, in clock ticks since the system started; nothing where there is no
/// such process, or only what its parent has not waited for yet.
std::optional<uint64_t> start_time_of(pid_t pid) {
  const std::string line = file_text(text("/proc/", pid, "/stat")).value_or("");
  // The name of the program, in parentheses, may hold anything.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= line.size()) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 2));
  std::string field;
  constexpr int kState = 3, kStartTime = 22;
  for (int i = kState; i <= kStartTime && fields >> field; ++i) {
    if (i == kState && (field == "Z" || field == "X")) return std::nullopt;
    if (i == kStartTime) return std::stoull(field);
  }
  return std::nullopt;
}

Json read_start(const std::string& path) {
  const Json json = Json::parse(file_text(path).value_or(""), nullptr, false);
  const bool right = json.is_object() && json.contains("folder") && json["folder"].is_string() &&
                     json.contains("time") && json["time"].is_number_integer();
  if (!right) throw DataError(text(path, " is missing or damaged"));
  return json;
}

SweepRun read_run(const fs::path& folder) {
  const std::string path = (folder / "overrides.yaml").string();
  const Config tree = parse_config(file_text(path).value_or(""), path);
  SweepRun run;
  run.name = folder.filename().string();
  const auto text_at = [&](const char* key) {
    const Config::Item* item = tree.find(key);
    return item ? item->value.scalar : std::string();
  };
  run.base = text_at("base");
  run.base_label = text_at("base_label");
  const auto number_at = [&](const char* key) -> std::optional<int64_t> {
    if (!tree.find(key)) return std::nullopt;
    return std::strtoll(text_at(key).c_str(), nullptr, 10);
  };
  run.seed = number_at("seed");
  run.max_iters = number_at("max_iters");
  run.max_epochs = number_at("max_epochs");
  if (const Config::Item* changes = tree.find("changes")) {
    for (const Config::Item& item : changes->value.map) {
      run.changes.emplace_back(item.key, item.value);
    }
  }
  run.number = static_cast<size_t>(number_at("number").value_or(0));
  if (run.number == 0) throw DataError(text(path, ": 'number' is missing or no number"));
  return run;
}

/// \throws Json::exception
RunState state_from(const Json& json) {
  const auto word = json.at("status").get<std::string>();
  const auto found = std::find(kStatusWords.begin(), kStatusWords.end(), word);
  if (found == kStatusWords.end()) throw Json::other_error::create(501, "unknown status", &json);
  RunState out;
  out.status = static_cast<RunStatus>(found - kStatusWords.begin());
  out.process = {json.value("pid", 0), json.value("start_time", uint64_t{0}),
                 json.value("host", "")};
  out.job = json.value("job", "");
  out.gpus = json.value("gpus", "");
  out.starts = json.value("starts", int64_t{0});
  if (json.contains("exit_code")) out.exit_code = json["exit_code"].get<int>();
  out.error = json.value("error", "");
  out.rung = json.value("rung", int64_t{0});
  return out;
}

}  // namespace

FolderLock::FolderLock(const std::string& path, bool wait, bool& held)
    : file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  held = true;
  if (file_ < 0) return;
  int result = -1;
  do {
    result = ::flock(file_, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  held = result == 0 || errno != EWOULDBLOCK;
}

FolderLock::FolderLock(const std::string& path) {
  bool held = false;
  FolderLock lock(path, /*wait=*/true, held);
  std::swap(file_, lock.file_);
}

std::optional<FolderLock> FolderLock::attempt(const std::string& path) {
  bool held = false;
  FolderLock lock(path, /*wait=*/false, held);
  if (!held) return std::nullopt;
  return lock;
}

FolderLock::~FolderLock() {
  if (file_ >= 0) ::close(file_);
}

FolderLock::FolderLock(FolderLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(file_, other.file_);
  return *this;
}

ProcessMark ProcessMark::of_this_process() {
  return {::getpid(), start_time_of(::getpid()).value_or(0), host_name()};
}

bool ProcessMark::alive() const {
  return pid > 0 && host == host_name() && start_time_of(pid) == start_time;
}

std::string status_word(RunStatus status) { return kStatusWords[static_cast<size_t>(status)]; }

std::string SweepRun::group() const {
  std::vector<std::string> parts{base};
  for (const auto& [key, value] : changes) parts.push_back(key + "=" + dump_flow(value));
  return join(parts, "\n");
}

SweepFolder::SweepFolder(const std::string& path)
    : path_(fs::absolute(path).lexically_normal().string()) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
}

SweepFolder SweepFolder::existing(const std::string& path) {
  SweepFolder out(path);
  if (!fs::exists(path)) throw DataError(text(path, " does not exist"));
  if (!fs::exists(out.sweep_file())) {
    throw DataError(text(path, " is not the folder of a sweep: it has no sweep.yaml"));
  }
  return out;
}

std::string SweepFolder::config_of(const SweepRun& run) const {
  return path_ + "/configs/" + run.name + ".yaml";
}

std::string SweepFolder::work_dir_of(const SweepRun& run) const {
  return path_ + "/runs/" + run.name;
}

void SweepFolder::record_start() const {
  if (fs::exists(start_file())) return;
  const Json json{{"folder", fs::current_path().string()},
                  {"time", static_cast<int64_t>(std::time(nullptr))}};
  write_file_atomically(start_file(), json.dump() + "\n");
}

std::string SweepFolder::start_folder() const {
  return read_start(start_file()).at("folder").get<std::string>();
}

int64_t SweepFolder::start_time() const {
  return read_start(start_file()).at("time").get<int64_t>();
}

std::vector<SweepRun> SweepFolder::runs() const {
  std::vector<SweepRun> out;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(path_ + "/runs", none)) {
    if (fs::exists(entry.path() / "overrides.yaml")) out.push_back(read_run(entry.path()));
  }
  std::sort(out.begin(), out.end(),
            [](const SweepRun& a, const SweepRun& b) { return a.number < b.number; });
  return out;
}

void SweepFolder::add_run(const SweepRun& run, const std::string& config) const {
  make_folders(path_ + "/configs");
  make_folders(work_dir_of(run));
  write_file_atomically(config_of(run), config);
  Config tree;
  tree.set("number", Config::of(static_cast<int64_t>(run.number)));
  tree.set("base", Config::of(run.base));
  if (!run.base_label.empty()) tree.set("base_label", Config::of(run.base_label));
  if (run.seed) tree.set("seed", Config::of(*run.seed));
  if (run.max_iters) tree.set("max_iters", Config::of(*run.max_iters));
  if (run.max_epochs) tree.set("max_epochs", Config::of(*run.max_epochs));
  Config& changes = tree.set("changes", parse_config("{}"));
  for (const auto& [key, value] : run.changes) changes.set(key, value);
  write_file_atomically(work_dir_of(run) + "/overrides.yaml", dump_yaml(tree));
}

RunState SweepFolder::state_of(const SweepRun& run) const {
  const std::string path = work_dir_of(run) + "/state.json";
  const std::string contents = file_text(path).value_or("");
  if (contents.empty()) return {};
  try {
    return state_from(Json::parse(contents));
  } catch (const Json::exception&) {
    throw DataError(text(path, ": not the state of a run; delete it to start the run again"));
  }
}

void SweepFolder::write_state(const SweepRun& run, const RunState& state) const {
  Json json{{"status", status_word(state.status)}, {"starts", state.starts}};
  if (state.process.pid > 0) {
    json["pid"] = state.process.pid;
    json["start_time"] = state.process.start_time;
    json["host"] = state.process.host;
  }
  if (!state.job.empty()) json["job"] = state.job;
  if (!state.gpus.empty()) json["gpus"] = state.gpus;
  if (state.exit_code) json["exit_code"] = *state.exit_code;
  if (!state.error.empty()) json["error"] = state.error;
  if (state.rung > 0) json["rung"] = state.rung;
  // What programs print may be no UTF-8.
  write_file_atomically(work_dir_of(run) + "/state.json",
                        json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace seg
