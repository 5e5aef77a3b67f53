#include "runners/dist/process_group.hpp"

#include <gloo/common/error.h>
#include <gloo/common/logging.h>
#include <torch/nn/module.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <unordered_set>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "runners/dist/communication_errors.hpp"
#include "runners/dist/gloo_devices.hpp"
#include "runners/dist/nccl.hpp"
#include "runners/dist/reducer.hpp"
#include "runners/start/device.hpp"
#include "runners/start/processes.hpp"

namespace seg {
namespace {

// Like a registry: written while a library is loaded, only read after that.
NcclFactory loaded_nccl_factory = nullptr;

RunEnded peer_lost(const char* what, const char* why) {
  return {kPeerLost, text("a process of the run was lost (", what, "): ", why)};
}

/// The error that is being handled, in the words and with the exit code of whose fault it is.
[[noreturn]] void throw_by_fault(const char* what, const c10::DistError& e) {
  const std::string why = e.what_without_backtrace();
  switch (communication_fault(why)) {
    case CommunicationFault::kPeer:
      throw peer_lost(what, why.c_str());
    case CommunicationFault::kOutOfMemory:
      C10_THROW_ERROR(OutOfMemoryError, why);
    case CommunicationFault::kSharedGpu:
      throw UsageError(
          text("two processes use the same GPU, which NCCL cannot serve. Write "
               "env_cfg.device: cuda, with which each process of a machine takes its "
               "own, or start no more processes than there are GPUs (",
               why, ")"));
    case CommunicationFault::kOwn:
      throw;
  }
  throw;
}

/// Runs a call that communicates. Only errors of the communication mean a lost peer; others, such
/// as too little memory or a kernel that failed, keep their type.
template <class Call>
void communicating(const char* what, const Call& call) {
  try {
    call();
  } catch (const c10::DistError& e) {
    throw_by_fault(what, e);
  } catch (const gloo::Exception& e) {
    throw peer_lost(what, e.what());
  } catch (const gloo::EnforceNotMet& e) {
    throw peer_lost(what, e.what());
  }
}

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
    if (why.find("EADDRINUSE") == std::string::npos) throw peer_lost("meeting", why.c_str());
    throw UsageError(text("port ", place.port,
                          ", by which the processes meet, is in use, perhaps by another run. Give "
                          "a free one: torchrun --master-port, MASTER_PORT or "
                          "env_cfg.dist_cfg.port"));
  }
}

class ProcessGroupCommunicator final : public Communicator {
 public:
  ProcessGroupCommunicator(c10::intrusive_ptr<c10d::Store> store,
                           c10::intrusive_ptr<c10d::ProcessGroup> group,
                           c10::intrusive_ptr<c10d::Backend> nccl)
      : store_(std::move(store)), group_(std::move(group)), nccl_(std::move(nccl)) {}
  ~ProcessGroupCommunicator() override {
    if (!nccl_) return;
    try {
      // What is queued will never end where a peer is lost, which is one way to get here.
      if (std::uncaught_exceptions() > 0) {
        nccl_->abort();
      } else {
        nccl_->shutdown();
      }
    } catch (const std::exception& e) {
      log::warn("NCCL did not end in order: ", e.what());
    }
  }
  ProcessGroupCommunicator(const ProcessGroupCommunicator&) = delete;
  ProcessGroupCommunicator& operator=(const ProcessGroupCommunicator&) = delete;

  int rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }
  void all_reduce_sum_(at::Tensor& tensor) override {
    communicating("all-reduce", [&] {
      std::vector<at::Tensor> list{tensor.contiguous()};
      group_->allreduce(list, {})->wait();
      if (!list[0].is_same(tensor)) tensor.copy_(list[0]);
    });
  }
  void broadcast_(at::Tensor& tensor, int root) override {
    communicating("broadcast", [&] {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      std::vector<at::Tensor> list{tensor.contiguous()};
      group_->broadcast(list, options)->wait();
      if (!list[0].is_same(tensor)) tensor.copy_(list[0]);
    });
  }
  // Processes wait for each other, not their GPUs: it is files and the like that a barrier guards.
  void barrier() override {
    communicating("barrier", [&] { group_->barrier({})->wait(); });
  }
  const c10::intrusive_ptr<c10d::ProcessGroup>& group() const { return group_; }

 private:
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  c10::intrusive_ptr<c10d::Backend> nccl_;  ///< null where all goes through Gloo
};

class C10dGradientReducer final : public GradientReducer {
 public:
  C10dGradientReducer(ProcessGroupCommunicator& communicator, torch::nn::Module& model,
                      bool find_unused)
      : find_unused_(find_unused) {
    const torch::NoGradGuard no_grad;
    for (at::Tensor& weights : model.parameters()) {
      at::Tensor data = weights.detach();
      communicator.broadcast_(data, 0);
    }
    for (at::Tensor& buffer : model.buffers()) communicator.broadcast_(buffer, 0);

    std::vector<at::Tensor> parameters;
    std::unordered_map<size_t, std::string> names;
    std::unordered_set<const void*> seen;  // a shared module is a child twice
    for (const auto& item : model.named_parameters()) {
      if (!item.value().requires_grad()) continue;
      if (!seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
      names[parameters.size()] = item.key();
      parameters.push_back(item.value());
    }
    // As DistributedDataParallel: a small first bucket starts the exchange early, and buckets are
    // filled from the last layer on, which is the first to have gradients.
    constexpr int64_t kFirstBucket = 1 << 20, kBucket = 25 << 20;
    const std::vector<bool> sparse(parameters.size(), false);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
        parameters, {static_cast<size_t>(kFirstBucket), static_cast<size_t>(kBucket)}, sparse);
    std::reverse(buckets.begin(), buckets.end());
    std::reverse(limits.begin(), limits.end());
    reducer_ = std::make_shared<c10d::Reducer>(
        parameters, buckets, communicator.group(), sparse, kBucket, find_unused,
        /*gradient_as_bucket_view=*/true, names, kFirstBucket,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        std::vector<int64_t>{});
  }

  void before_forward() override {
    communicating("gradients", [&] {
      prepare([&] {
        if (reducer_->should_rebuild_buckets()) reducer_->rebuild_buckets();
        reducer_->prepare_for_forward();
      });
    });
  }
  void backward(const at::Tensor& loss) override {
    communicating("gradients", [&] {
      prepare([&] {
        reducer_->prepare_for_backward(find_unused_ ? std::vector<at::Tensor>{loss}
                                                    : std::vector<at::Tensor>{});
      });
      loss.backward();
    });
  }

 private:
  /// Begins the next step, in which the reducer reports gradients that the last one missed.
  template <class Call>
  static void prepare(const Call& call) {
    try {
      call();
    } catch (const c10::Error& e) {
      if (std::string_view(e.what()).find("finished reduction") == std::string_view::npos) throw;
      throw OptionError("find_unused_parameters",
                        "some parameters had no part in the loss of the last step, so that their "
                        "gradients could not be averaged. Write 'find_unused_parameters: true'");
    }
  }

  std::shared_ptr<c10d::Reducer> reducer_;
  bool find_unused_;
};

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
  std::unique_ptr<Communicator> out;
  const auto tcp = open_store(place);
  communicating("meeting", [&] {
    // Each launch of an elastic agent has the same store; its keys must not meet those of others.
    const char* attempt = std::getenv("TORCHELASTIC_RESTART_COUNT");
    const auto store = c10::make_intrusive<c10d::PrefixStore>(
        text("segcore/", attempt ? attempt : "0"), c10::intrusive_ptr<c10d::Store>(tcp));
    auto gloo_options = c10d::ProcessGroupGloo::Options::create();
    gloo_options->timeout = std::chrono::seconds(place.timeout_s);
    gloo_options->devices = gloo_devices(place.host);
    const auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        c10::intrusive_ptr<c10d::Store>(store), place.rank, place.size, gloo_options);
    const auto group = c10::make_intrusive<c10d::ProcessGroup>(
        c10::intrusive_ptr<c10d::Store>(store), place.rank, place.size);
    group->setBackend(c10::kCPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
    c10::intrusive_ptr<c10d::Backend> nccl;
    if (on_nccl) {
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
    out = std::make_unique<ProcessGroupCommunicator>(store, group, nccl);
    out->barrier();
  });
  return out;
}

NcclFactory nccl_factory() { return loaded_nccl_factory; }
void set_nccl_factory(NcclFactory factory) { loaded_nccl_factory = factory; }

std::unique_ptr<GradientReducer> make_reducer(Communicator& communicator, torch::nn::Module& model,
                                              bool find_unused) {
  auto* group = dynamic_cast<ProcessGroupCommunicator*>(&communicator);
  if (!group) return nullptr;
  return std::make_unique<C10dGradientReducer>(*group, model, find_unused);
}

}  // namespace seg
