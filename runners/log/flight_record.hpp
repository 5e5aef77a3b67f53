/// The last steps of this process, which are written when a run ends badly.
#pragma once
#include <c10/core/Device.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace seg {

/// A process that brought the others down.
struct LostPeer {
  int rank = -1;  ///< -1: it is not known which
  std::string host;
  int64_t pid = 0;
  std::string what;  ///< "was killed by SIGKILL"
  int64_t iter = 0;
  std::string stage, collective;  ///< where it was last seen
  int64_t collective_number = 0;  ///< how many it had begun

  /// "rank 1 on node2 (pid 4711) was killed by SIGKILL; last seen in iteration 12 (backward), its
  /// last collective 'gradients' (number 57)".
  std::string text() const;
};

/// As it stands in flight records and in the store of a run, and back.
nlohmann::ordered_json to_json_value(const LostPeer& peer);
/// \throws nlohmann::json::exception where a member is missing.
LostPeer lost_peer_of(const nlohmann::ordered_json& json);

/// Where a process is at a moment.
struct FlightState {
  int64_t iter = 0;
  std::string stage;
  double stage_s = 0;      ///< how long already
  std::string collective;  ///< the last; empty before the first
  int64_t collective_number = 0;
  std::optional<double> waiting_s;  ///< in that collective, while it lasts
};

/// Thread-safe. Recording takes microseconds.
class FlightRecorder {
 public:
  static constexpr size_t kSteps = 64;

  struct Place {
    std::string path;  ///< <log_dir>/flight_<rank>.json
    int rank = 0, size = 1;
    c10::Device device = c10::kCPU;
  };
  /// From now on the record can be written; a crash (SIGSEGV, SIGABRT, ...) writes it, too.
  void open(Place place);
  /// The run ended well: nothing is written any more.
  void close();

  void start_step(int64_t iter);  ///< which waits for its batch
  void have_batch(std::vector<std::string> samples);
  void end_step();
  /// \param stage  a literal: "forward", "validation".
  void enter(const char* stage);
  void begin_collective(const char* name);
  void end_collective();

  FlightState state() const;
  /// Writes the record; the first reason of a process stays. Never throws: it is called where an
  /// error is on its way already.
  void write(const std::string& reason, const std::optional<LostPeer>& lost = {}) noexcept;
  /// For a process that crashes: gives up after a second where the record cannot be read.
  void write_in_crash(const std::string& reason) noexcept;

 private:
  using Clock = std::chrono::steady_clock;
  struct Step {
    int64_t iter = 0;
    double began_at = 0;  ///< seconds since 1970
    double data_s = 0, step_s = 0;
    int64_t memory_mb = 0, gpu_memory_mb = 0;
    std::vector<std::string> samples;
    std::string collective;
  };
  FlightState state_now() const;
  std::string as_json(const std::string& reason, const std::optional<LostPeer>& lost) const;
  void write_now(const std::string& reason, const std::optional<LostPeer>& lost);

  mutable std::mutex mutex_;
  Place place_;
  bool written_ = false;
  std::deque<Step> steps_;  ///< the last is under way where in_step_
  bool in_step_ = false;
  const char* stage_ = "start";
  const char* collective_ = "";
  bool in_collective_ = false;
  int64_t collectives_ = 0;
  Clock::time_point stage_since_ = Clock::now(), collective_since_, step_since_;
};

/// That of this process: a crash knows no objects.
FlightRecorder& flight_recorder();

/// Marks a collective operation while it lives.
class CollectiveScope {
 public:
  explicit CollectiveScope(const char* name) { flight_recorder().begin_collective(name); }
  ~CollectiveScope() { flight_recorder().end_collective(); }
  CollectiveScope(const CollectiveScope&) = delete;
  CollectiveScope& operator=(const CollectiveScope&) = delete;
};

/// The name of this machine.
std::string host_name();

double seconds_since_1970();

}  // namespace seg
