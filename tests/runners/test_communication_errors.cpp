/// Which failed exchanges mean a lost peer.
#include <gtest/gtest.h>

#include "runners/dist/communication_errors.hpp"

namespace seg {
namespace {

constexpr const char* kNcclPrefix =
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, ";

TEST(CommunicationFault, OfAPeerOrTheNetwork) {
  for (const char* message :
       {"remote process exited or there was a network error, NCCL version 2.28.9\nncclRemoteError: "
        "A call failed possibly due to a network error or a remote process exiting prematurely.",
        "unhandled system error, NCCL version 2.28.9\nncclSystemError: System call (e.g. socket, "
        "malloc) or external library call failed or device error.",
        "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE) ran "
        "for 1800000 milliseconds before timing out.",
        "Connection closed by peer"}) {
    EXPECT_EQ(communication_fault(std::string(kNcclPrefix) + message), CommunicationFault::kPeer)
        << message;
  }
}

TEST(CommunicationFault, OfThisProcessOrItsGpu) {
  EXPECT_EQ(
      communication_fault(std::string(kNcclPrefix) +
                          "invalid usage (run with NCCL_DEBUG=WARN for details), NCCL version "
                          "2.28.9\nncclInvalidUsage: This usually reflects invalid usage of "
                          "NCCL library.\nLast error:\nDuplicate GPU detected : rank 0 and "
                          "rank 1 both on CUDA device 1000"),
      CommunicationFault::kSharedGpu);
  EXPECT_EQ(
      communication_fault(std::string(kNcclPrefix) +
                          "unhandled cuda error, NCCL version 2.28.9\nncclUnhandledCudaError: "
                          "Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of "
                          "memory'"),
      CommunicationFault::kOutOfMemory);
  for (const char* message :
       {"[PG ID 0] Process group watchdog thread terminated with exception: CUDA error: an illegal "
        "memory access was encountered",
        "unhandled cuda error, NCCL version 2.28.9\nncclUnhandledCudaError: Call to CUDA function "
        "failed.\nLast error:\nCuda failure 700 'an illegal memory access was encountered'",
        "invalid argument, NCCL version 2.28.9\nncclInvalidArgument: Invalid value for an "
        "argument.",
        "ncclInternalError: Internal check failed."}) {
    EXPECT_EQ(communication_fault(message), CommunicationFault::kOwn) << message;
  }
}

}  // namespace
}  // namespace seg
