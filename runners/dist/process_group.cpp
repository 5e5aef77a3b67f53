#include "runners/dist/process_group.hpp"

#include <c10/util/Logging.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "registry/error.hpp"
#include "runners/dist/c10d_communicator.hpp"
#include "runners/dist/communication_errors.hpp"
#include "runners/dist/gloo_devices.hpp"
#include "runners/dist/nccl.hpp"
#include "runners/start/device.hpp"

namespace seg {
namespace {

// Like a registry: written while a library is loaded, only read after that.
NcclFactory loaded_nccl_factory = nullptr;

constexpr int kOnlyErrors = 2;  // of c10's log

/// The store through which processes find each other.
/// \throws UsageError if another program has its port.
c10::intrusive_ptr<c10d::TCPStore> open_store(const Rendezvous& place) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = place.runs_store;
  options.numWorkers = static_cast<size_t>(place.size);
  options.waitWorkers = false;
  options.timeout = std::chrono::seconds(place.timeout_s);
  try {
    return c10::make_intrusive<c10d::TCPStore>(place.host, options);
  } catch (const c10::Error& e) {
    const std::string why = e.what_without_backtrace();
    if (why.find("EADDRINUSE") == std::string::npos) {
      throw RunEnded(kPeerLost, text("the first process of the run cannot be reached at ",
                                     place.host, ':', place.port, ": ", why));
    }
    throw UsageError(text("port ", place.port,
                          ", by which the processes meet, is in use, perhaps by another run. Give "
                          "a free one: torchrun --master-port, MASTER_PORT or "
                          "env_cfg.dist_cfg.port"));
  }
}

/// The group of all processes, once all are there.
std::unique_ptr<C10dCommunicator> meet(const Rendezvous& place,
                                       const c10::intrusive_ptr<c10d::Store>& store,
                                       std::unique_ptr<PeerWatch>& watch) {
  auto gloo_options = c10d::ProcessGroupGloo::Options::create();
  gloo_options->timeout = std::chrono::seconds(place.timeout_s);
  gloo_options->devices = gloo_devices(place.host);
  const auto gloo =
      c10::make_intrusive<c10d::ProcessGroupGloo>(store, place.rank, place.size, gloo_options);
  const auto group = c10::make_intrusive<c10d::ProcessGroup>(store, place.rank, place.size);
  group->setBackend(c10::kCPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
  c10::intrusive_ptr<c10d::Backend> nccl;
  if (!place.device.is_cpu() && place.backend == "nccl") {
    // Keys of its own, as both back ends count their meetings from zero.
    nccl = nccl_factory()(c10::make_intrusive<c10d::PrefixStore>("nccl", store), place.rank,
                          place.size, place.timeout_s);
    group->setBoundDeviceId(place.device);  // setBackend passes it on
    group->setBackend(place.device.type(), c10d::ProcessGroup::BackendType::NCCL, nccl);
  } else if (!place.device.is_cpu()) {
    group->setBackend(place.device.type(), c10d::ProcessGroup::BackendType::GLOO, gloo);
  }
  // What is not on a GPU goes through Gloo, barriers too.
  group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
  wait_for_all(*group);
  return std::make_unique<C10dCommunicator>(store, group, nccl, std::move(watch));
}

}  // namespace

std::unique_ptr<Communicator> join_process_group(const Rendezvous& place) {
  const bool on_nccl = !place.device.is_cpu() && place.backend == "nccl";
  if (on_nccl && !nccl_factory()) {
    const std::string why = cuda_module_problem();
    throw UsageError(
        text("several processes on GPUs need NCCL, which is not at hand: ",
             why.empty() ? "segcore's CUDA module was built without NCCL's header" : why,
             ". Write env_cfg.dist_cfg.backend: gloo, which is slower, or train with "
             "one process"));
  }
  // Gloo and the store write to sockets that a lost peer has closed. That is an error with exit
  // code 22, not a signal that ends this process; LibTorch relies on Python, which ignores it.
  std::signal(SIGPIPE, SIG_IGN);
  // c10d prints a stack trace where a connection ends; what it throws is reported anyway.
  if (!std::getenv("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = kOnlyErrors;
  const auto tcp = open_store(place);
  // Each launch of an elastic agent has the same store; its keys must not meet those of others.
  const char* attempt = std::getenv("TORCHELASTIC_RESTART_COUNT");
  const std::string prefix = text("segcore/", attempt ? attempt : "0");
  const c10::intrusive_ptr<c10d::Store> store =
      c10::make_intrusive<c10d::PrefixStore>(prefix, c10::intrusive_ptr<c10d::Store>(tcp));
  auto watch = std::make_unique<PeerWatch>(place, prefix + "/watch/");
  PeerWatch& peers = *watch;
  std::unique_ptr<C10dCommunicator> out;
  try {
    communicating("meeting", nullptr, place.rank, [&] { out = meet(place, store, watch); });
  } catch (const RunEnded& e) {
    const std::string absent = join(peers.absent(), ", ");
    if (absent.empty()) throw;
    throw RunEnded(kPeerLost, text("not all of the ", place.size, " processes of the run came: ",
                                   "missing are the ranks ", absent, " (", e.what(), ")"));
  }
  peers.start();
  return out;
}

NcclFactory nccl_factory() { return loaded_nccl_factory; }
void set_nccl_factory(NcclFactory factory) { loaded_nccl_factory = factory; }

}  // namespace seg
