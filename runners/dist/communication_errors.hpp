/// Whose fault a failed exchange between processes is.
#pragma once
#include <string_view>

namespace seg {

/// The exit code of a process that lost a peer.
constexpr int kPeerLost = 22;

/// NCCL and c10d report all of these in one type.
enum class CommunicationFault {
  kPeer,         ///< another process is gone or silent, or the network is
  kOutOfMemory,  ///< of this process's GPU
  kSharedGpu,    ///< two processes use one GPU
  kOwn,          ///< another error of this process or its GPU: a kernel that failed, a wrong call
};

/// \param message  of a c10::DistError.
CommunicationFault communication_fault(std::string_view message);

}  // namespace seg
