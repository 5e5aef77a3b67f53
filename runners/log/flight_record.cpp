#include "runners/log/flight_record.hpp"

#include <ATen/DeviceAccelerator.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <thread>

#include "registry/log.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

constexpr std::array kCrashes{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Memory of this process that is in RAM.
int64_t resident_mb() {
  int64_t size = 0, resident = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return resident * sysconf(_SC_PAGESIZE) / (1024 * 1024);
}

int64_t device_memory_mb(c10::Device device) {
  if (device.is_cpu()) return 0;
  auto* allocator = c10::getDeviceAllocator(device.type());
  if (!allocator->initialized()) return 0;
  constexpr auto kAggregate = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return allocator->getDeviceStats(device.index()).allocated_bytes[kAggregate].current /
         (1024 * 1024);
}

/// What a handler of signals shares with the thread that writes for it: the crashed thread may hold
/// the lock of the heap, so that it cannot write anything itself.
struct CrashPipes {
  std::array<int, 2> crashed{-1, -1};  ///< the number of the signal
  std::array<int, 2> written{-1, -1};
};
CrashPipes crash_pipes;

/// Has the record written, and lets the signal do what it does.
extern "C" void record_crash(int signal) {
  std::signal(signal, SIG_DFL);
  const auto number = static_cast<char>(signal);
  if (write(crash_pipes.crashed[1], &number, 1) == 1) {
    constexpr int kPatience_ms = 3000;
    pollfd done{.fd = crash_pipes.written[0], .events = POLLIN, .revents = 0};
    poll(&done, 1, kPatience_ms);
  }
  std::raise(signal);
}

void write_for_crashes() {
  char signal = 0;
  while (read(crash_pipes.crashed[0], &signal, 1) != 1) {
    if (errno != EINTR) return;
  }
  const char* name = sigabbrev_np(signal);
  flight_recorder().write_in_crash(std::string("crashed with SIG") + (name ? name : "?"));
  [[maybe_unused]] const auto sent = write(crash_pipes.written[1], &signal, 1);
}

void watch_crashes() {
  static const bool ready = pipe2(crash_pipes.crashed.data(), O_CLOEXEC) == 0 &&
                            pipe2(crash_pipes.written.data(), O_CLOEXEC) == 0;
  static std::once_flag started;
  if (!ready) return;
  std::call_once(started, [] { std::thread(write_for_crashes).detach(); });
  for (const int signal : kCrashes) {
    struct sigaction action {};
    sigaction(signal, nullptr, &action);
    if (action.sa_handler != SIG_DFL) continue;  // a debugger or sanitizer knows better
    action = {};
    action.sa_handler = record_crash;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
  }
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

FlightRecorder& flight_recorder() {
  static FlightRecorder recorder;
  return recorder;
}

std::string LostPeer::text() const {
  if (rank < 0) return what;
  std::string out = seg::text("rank ", rank, " on ", host, " (pid ", pid, ") ", what);
  if (iter > 0) out += seg::text("; last seen in iteration ", iter, " (", stage, ')');
  if (!collective.empty()) {
    out += seg::text(", its last collective '", collective, "' (number ", collective_number, ')');
  }
  return out;
}

nlohmann::ordered_json to_json_value(const LostPeer& peer) {
  return {{"rank", peer.rank},
          {"host", peer.host},
          {"pid", peer.pid},
          {"what", peer.what},
          {"iter", peer.iter},
          {"stage", peer.stage},
          {"collective", peer.collective},
          {"collective_number", peer.collective_number}};
}

LostPeer lost_peer_of(const nlohmann::ordered_json& json) {
  return {.rank = json.at("rank"),
          .host = json.at("host"),
          .pid = json.at("pid"),
          .what = json.at("what"),
          .iter = json.at("iter"),
          .stage = json.at("stage"),
          .collective = json.at("collective"),
          .collective_number = json.at("collective_number")};
}

void FlightRecorder::open(Place place) {
  {
    const std::scoped_lock lock(mutex_);
    place_ = std::move(place);
    written_ = false;
  }
  watch_crashes();
}

void FlightRecorder::close() {
  const std::scoped_lock lock(mutex_);
  place_ = {};
}

void FlightRecorder::start_step(int64_t iter) {
  const std::scoped_lock lock(mutex_);
  steps_.push_back({.iter = iter, .began_at = seconds_since_1970()});
  if (steps_.size() > kSteps) steps_.pop_front();
  in_step_ = true;
  stage_ = "data";
  stage_since_ = step_since_ = Clock::now();
}

void FlightRecorder::have_batch(std::vector<std::string> samples) {
  const std::scoped_lock lock(mutex_);
  if (!in_step_) return;
  steps_.back().data_s = seconds_since(step_since_);
  steps_.back().samples = std::move(samples);
}

void FlightRecorder::end_step() {
  const std::scoped_lock lock(mutex_);
  if (!in_step_) return;
  Step& step = steps_.back();
  step.step_s = seconds_since(step_since_);
  step.memory_mb = resident_mb();
  step.gpu_memory_mb = device_memory_mb(place_.device);
  step.collective = collective_;
  in_step_ = false;
  stage_ = "hooks";
  stage_since_ = Clock::now();
}

void FlightRecorder::enter(const char* stage) {
  const std::scoped_lock lock(mutex_);
  stage_ = stage;
  stage_since_ = Clock::now();
}

void FlightRecorder::begin_collective(const char* name) {
  const std::scoped_lock lock(mutex_);
  collective_ = name;
  ++collectives_;
  in_collective_ = true;
  collective_since_ = Clock::now();
}

void FlightRecorder::end_collective() {
  const std::scoped_lock lock(mutex_);
  in_collective_ = false;
}

FlightState FlightRecorder::state() const {
  const std::scoped_lock lock(mutex_);
  return state_now();
}

FlightState FlightRecorder::state_now() const {
  FlightState out{.iter = steps_.empty() ? 0 : steps_.back().iter,
                  .stage = stage_,
                  .stage_s = seconds_since(stage_since_),
                  .collective = collective_,
                  .collective_number = collectives_};
  if (in_collective_) out.waiting_s = seconds_since(collective_since_);
  return out;
}

std::string FlightRecorder::as_json(const std::string& reason,
                                    const std::optional<LostPeer>& lost) const {
  using Json = nlohmann::ordered_json;
  const FlightState now = state_now();
  Json out{{"rank", place_.rank},          {"world_size", place_.size},
           {"host", host_name()},          {"pid", static_cast<int64_t>(getpid())},
           {"time", seconds_since_1970()}, {"reason", reason}};
  if (lost) {
    out["lost"] = to_json_value(*lost);
  }
  out["now"] = {{"iter", now.iter},
                {"stage", now.stage},
                {"stage_s", now.stage_s},
                {"collective", now.collective},
                {"collective_number", now.collective_number}};
  if (now.waiting_s) out["now"]["waiting_s"] = *now.waiting_s;
  out["steps"] = Json::array();
  for (const Step& step : steps_) {
    out["steps"].push_back({{"iter", step.iter},
                            {"began_at", step.began_at},
                            {"data_s", step.data_s},
                            {"step_s", step.step_s},
                            {"memory_mb", step.memory_mb},
                            {"gpu_memory_mb", step.gpu_memory_mb},
                            {"collective", step.collective},
                            {"samples", step.samples}});
  }
  return out.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void FlightRecorder::write_now(const std::string& reason, const std::optional<LostPeer>& lost) {
  if (place_.path.empty() || written_) return;
  written_ = true;
  write_file_atomically(place_.path, as_json(reason, lost));
}

void FlightRecorder::write(const std::string& reason,
                           const std::optional<LostPeer>& lost) noexcept {
  try {
    const std::scoped_lock lock(mutex_);
    write_now(reason, lost);
  } catch (const std::exception& e) {
    log::warn("the flight record cannot be written: ", e.what());
  }
}

void FlightRecorder::write_in_crash(const std::string& reason) noexcept {
  // The crashed thread may have been changing the record.
  std::unique_lock lock(mutex_, std::try_to_lock);
  for (int tries = 0; !lock.owns_lock(); ++tries) {
    if (tries == 100) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    [[maybe_unused]] const bool taken = lock.try_lock();
  }
  try {
    write_now(reason, {});
  } catch (...) {
    return;  // the crash itself is the news
  }
}

}  // namespace seg
