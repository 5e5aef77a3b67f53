#include "runners/dist/communication_errors.hpp"

#include <algorithm>
#include <array>

namespace seg {

CommunicationFault communication_fault(std::string_view message) {
  const auto has = [&](std::string_view part) {
    return message.find(part) != std::string_view::npos;
  };
  if (has("Duplicate GPU detected")) return CommunicationFault::kSharedGpu;
  if (has("out of memory")) return CommunicationFault::kOutOfMemory;
  // ncclSystemError and ncclRemoteError are left: sockets that a peer has closed.
  constexpr std::array<std::string_view, 5> kOfThisProcess{
      "CUDA error", "ncclUnhandledCudaError", "ncclInvalidUsage", "ncclInvalidArgument",
      "ncclInternalError"};
  return std::any_of(kOfThisProcess.begin(), kOfThisProcess.end(), has) ? CommunicationFault::kOwn
                                                                        : CommunicationFault::kPeer;
}

}  // namespace seg
