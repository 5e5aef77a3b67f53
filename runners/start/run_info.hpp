/// What is fixed for a run once it has begun.
#pragma once
#include <c10/core/Device.h>

#include <cstdint>
#include <string>

#include "segcore/dist/communicator.hpp"

namespace seg {

struct RunConfig;

/// Config, folders, seed, device and processes of a run. Pointers are borrowed.
struct RunInfo {
  const RunConfig* config = nullptr;
  Communicator* communicator = nullptr;  ///< null: one process
  c10::Device device = c10::kCPU;
  uint64_t seed = 0;  ///< of all processes

  std::string work_dir;         ///< work_dirs/<stem>
  std::string timestamp;        ///< "20261121_032601", when this process started
  std::string log_dir;          ///< work_dir/timestamp
  std::string experiment_name;  ///< <stem>_<timestamp>

  /// Whether this process writes the files of the run.
  bool is_main() const { return !communicator || communicator->rank() == 0; }
};

}  // namespace seg
