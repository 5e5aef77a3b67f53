/// The processes of a run as a process group of c10d.
#pragma once
#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "segcore/dist/communicator.hpp"

namespace seg {

/// Where processes meet.
struct Rendezvous {
  int rank = 0, size = 1;
  std::string host;
  int port = 29500;
  bool runs_store = false;         ///< the store is in this process
  bool store_of_launcher = false;  ///< it is in none of the run's
  int64_t timeout_s = 1800;        ///< of a collective
  int64_t heartbeat_timeout_s = 45;
  std::string backend = "gloo";  ///< "gloo" or "nccl"
  c10::Device device = c10::kCPU;
};

/// \throws RunEnded with 22 where the others do not come.
std::unique_ptr<Communicator> join_process_group(const Rendezvous& place);

}  // namespace seg
