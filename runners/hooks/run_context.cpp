#include "runners/hooks/run_context.hpp"

#include "segcore/dist/communicator.hpp"

namespace seg {

const char* phase_name(Phase phase) {
  return phase == Phase::kTrain ? "train" : phase == Phase::kVal ? "val" : "test";
}

bool RunContext::is_main() const { return !communicator || communicator->rank() == 0; }

}  // namespace seg
