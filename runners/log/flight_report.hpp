/// Reads the flight records of a launch and finds out what ended it.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "runners/log/flight_record.hpp"

namespace seg {

/// A flight record that a process left.
struct FlightLog {
  int rank = 0, world_size = 1;
  std::string host, reason;
  int64_t pid = 0;
  double time = 0;  ///< when it was written, seconds since 1970
  std::optional<LostPeer> lost;
  FlightState now;
  std::vector<std::string> samples;            ///< of the last batch
  int64_t first_memory_mb = 0, memory_mb = 0;  ///< over the steps recorded
};

/// The records of one launch in the order of their ranks.
/// \param folder  work_dirs/<run>/<timestamp>.
/// \throws DataError for a damaged file.
std::vector<FlightLog> read_flight_logs(const std::string& folder);

/// What happened first, on which rank and sample, what the others did, and what to do.
/// \param logs  not empty.
std::string flight_report(const std::vector<FlightLog>& logs);

/// How far a launch without any record came, and what that can mean.
/// \param log  the text of its log file.
std::string report_without_records(const std::string& log);

}  // namespace seg
