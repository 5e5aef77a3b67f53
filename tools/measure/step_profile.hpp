/// Where the time of a training step goes.
#pragma once
#include <c10/core/Device.h>

#include <cstdint>
#include <string>

#include "runners/start/run_config.hpp"
#include "tools/measure/measurement.hpp"

namespace seg {

struct ProfileArguments {
  BenchmarkArguments step;
  int64_t depth = 2;  ///< names of modules have so many parts
  int64_t top = 15;   ///< operators that are listed
  std::string trace;  ///< file; "": none
};

/// Runs training steps on random images: some to be timed, some to be recorded and, with a trace,
/// one more. \return tables of phases, modules and operators, and what costs beside them.
/// \throws FileError where the trace cannot be written.
std::string profile_step(const ProfileArguments& arguments, const RunConfig& config,
                         c10::Device device);

}  // namespace seg
