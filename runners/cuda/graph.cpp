// Kernels as a CUDA graph, through LibTorch's CUDAGraph: its allocator keeps a pool of memory for
// them, and its generator counts on by what they draw.
#include "runners/cuda/graph.hpp"

#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <mutex>

namespace seg {
namespace {

namespace cuda = at::cuda;

/// What is queued on `stream` from here on waits for what is queued on the other.
void wait_for(const cuda::CUDAStream& stream, const cuda::CUDAStream& other) {
  cuda::CUDAEvent event;
  event.record(other);
  event.block(stream);
}

class CudaGraph final : public DeviceGraph {
 public:
  explicit CudaGraph(c10::Device device)
      : device_(device.index()),
        stream_(cuda::getStreamFromPool(/*isHighPriority=*/false, device_)) {}

  void rehearse(const std::function<void()>& work) override {
    const auto current = cuda::getCurrentCUDAStream(device_);
    wait_for(stream_, current);
    {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      work();
    }
    wait_for(current, stream_);
  }

  void record(const std::function<void()>& work) override {
    graph_.reset();
    // Of the blocks that rehearsals left none is in the graph's pool.
    c10::cuda::device_synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();
    const cuda::MempoolId_t pool = cuda::graph_pool_handle();
    auto graph = std::make_unique<cuda::CUDAGraph>();
    const c10::cuda::CUDAStreamGuard guard(stream_);
    try {
      // Threads of the loader go on to allocate and to ask for events meanwhile.
      graph->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
      work();
      graph->capture_end();
    } catch (...) {
      abandon(*graph, pool);
      throw;
    }
    graph_ = std::move(graph);
  }

  void replay() override { graph_->replay(); }

 private:
  /// Ends a capture that went wrong, so that the device and its allocator go on without it.
  void abandon(cuda::CUDAGraph& graph, cuda::MempoolId_t pool) const {
    try {
      graph.capture_end();
    } catch (const c10::Error&) {
      give_back(pool);
      renew_generator();
    }
    static_cast<void>(cudaGetLastError());
  }
  /// The pools, of the device and of page-locked memory, of a capture that was never ended.
  void give_back(cuda::MempoolId_t pool) const {
    namespace allocator = c10::cuda::CUDACachingAllocator;
    try {
      allocator::endAllocateToPool(device_, pool);
      allocator::releasePool(device_, pool);
    } catch (const c10::Error&) {  // It is the graph's, which gives it back.
    }
    try {
      at::HostAllocator* locked = at::getHostAllocator(at::kCUDA);
      locked->end_allocate_to_pool(pool);
      locked->release_pool(pool);
    } catch (const c10::Error&) {
    }
  }
  /// Only the end of a capture tells the generator that it is over: a copy does not know of it.
  void renew_generator() const {
    at::Generator generator = cuda::detail::getDefaultCUDAGenerator(device_);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.graphsafe_set_state(generator.clone());
  }

  c10::DeviceIndex device_;
  cuda::CUDAStream stream_;
  std::unique_ptr<cuda::CUDAGraph> graph_;
};

}  // namespace

std::unique_ptr<DeviceGraph> make_cuda_graph(c10::Device device) {
  return std::make_unique<CudaGraph>(device);
}

}  // namespace seg
