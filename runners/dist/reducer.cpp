#include "runners/dist/reducer.hpp"

#include <torch/csrc/autograd/engine.h>
#include <torch/nn/module.h>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/default_comm_hooks.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "registry/error.hpp"
#include "runners/dist/c10d_communicator.hpp"

namespace seg {
namespace {

/// Sends gradients in bfloat16, as c10d's own hook does in float16. bfloat16 has the range of
/// float32, so that no sum overflows, and 8 bits of precision.
class Bfloat16Hook final
    : public c10d::CppCommHookInterface<c10::intrusive_ptr<c10d::ProcessGroup>> {
 public:
  using CppCommHookInterface::CppCommHookInterface;

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    at::Tensor buffer = bucket.getBuffer();
    std::vector<at::Tensor> sent{buffer.to(at::kBFloat16).div_(state_->getSize())};
    return state_->allreduce(sent)->getFuture()->then(
        [buffer](c10::ivalue::Future& done) {
          return c10::IValue(buffer.copy_(done.value().toTensorVector().at(0)));
        },
        c10::TensorType::get());
  }
};

/// The tensors of a model, each once; a shared module is a child twice.
class ModelTensors {
 public:
  explicit ModelTensors(const torch::nn::Module& model) {
    std::unordered_set<const void*> seen;
    for (const auto& item : model.named_parameters()) {
      if (!seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
      all.push_back(item.value().detach());
      if (!item.value().requires_grad()) continue;
      names[trained.size()] = item.key();
      trained.push_back(item.value());
    }
    for (const at::Tensor& buffer : model.buffers()) {
      if (seen.insert(buffer.unsafeGetTensorImpl()).second) all.push_back(buffer);
    }
  }

  std::vector<at::Tensor> all, trained;
  std::unordered_map<size_t, std::string> names;  ///< of those trained
};

class C10dGradientReducer final : public GradientReducer {
 public:
  C10dGradientReducer(C10dCommunicator& communicator, torch::nn::Module& model,
                      const ReducerOptions& options)
      : communicator_(communicator), options_(options), tensors_(model) {
    share_weights();
    make_reducer_of_c10d();
    choose_dtype();
    if (options_.static_graph) {
      reducer_->set_static_graph();
    } else if (!options_.find_unused) {
      note_gradients();
    }
  }

  void before_forward() override {
    communicator_.exchange("gradient buckets", [&] {
      if (reducer_->should_rebuild_buckets()) reducer_->rebuild_buckets();
      reducer_->prepare_for_forward();
    });
  }

  void backward(const at::Tensor& loss) override {
    std::fill(arrived_.begin(), arrived_.end(), char{0});
    communicator_.exchange("gradients", [&] {
      const bool searches = options_.find_unused && !options_.static_graph;
      reducer_->prepare_for_backward(searches ? std::vector<at::Tensor>{loss}
                                              : std::vector<at::Tensor>{});
      if (options_.static_graph && !std::exchange(graph_known_, true)) reduce_at_the_end(loss);
      loss.backward();
    });
    check_gradients();
  }

 private:
  /// In few messages: a model has hundreds of tensors, and each message costs a round trip.
  void share_weights() {
    const torch::NoGradGuard no_grad;
    constexpr size_t kMessage = 250 << 20;
    communicator_.exchange("initial weights", [&] {
      c10d::broadcast_coalesced(communicator_.group(), tensors_.all, kMessage, 0);
    });
    tensors_.all.clear();
  }

  void make_reducer_of_c10d() {
    // As DistributedDataParallel: a small first bucket starts the exchange early, and buckets are
    // filled from the last layer on, which is the first to have gradients.
    // On CPUs the last bucket, which nothing hides, should be small; messages there cost little.
    constexpr int64_t kFirstBucket = 1 << 20, kBucketOnGpu = 25 << 20, kBucketOnCpu = 4 << 20;
    const int64_t bucket = tensors_.trained.at(0).is_cpu() ? kBucketOnCpu : kBucketOnGpu;
    const std::vector<bool> sparse(tensors_.trained.size(), false);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
        tensors_.trained, {static_cast<size_t>(kFirstBucket), static_cast<size_t>(bucket)}, sparse);
    std::reverse(buckets.begin(), buckets.end());
    std::reverse(limits.begin(), limits.end());
    reducer_ = std::make_shared<c10d::Reducer>(
        tensors_.trained, buckets, communicator_.group(), sparse, bucket, options_.find_unused,
        /*gradient_as_bucket_view=*/true, tensors_.names, kFirstBucket,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        std::vector<int64_t>{});
  }

  void choose_dtype() {
    if (options_.gradient_dtype == "float16") {
      reducer_->register_builtin_comm_hook(c10d::BuiltinCommHookType::FP16_COMPRESS);
    } else if (options_.gradient_dtype == "bfloat16") {
      reducer_->register_comm_hook(std::make_unique<Bfloat16Hook>(communicator_.group()));
    }
  }

  /// Which parameters get gradients is learned in the first backward pass; until its end none can
  /// be averaged.
  void reduce_at_the_end(const at::Tensor& loss) {
    loss.register_hook([reducer = reducer_](const at::Tensor&) {
      torch::autograd::Engine::get_default_engine().queue_callback(
          [reducer] { reducer->delay_all_reduce(); });
    });
  }

  void note_gradients() {
    arrived_.resize(tensors_.trained.size());
    for (size_t i = 0; i < tensors_.trained.size(); ++i) {
      tensors_.trained[i].register_hook([this, i](const at::Tensor&) { arrived_[i] = char{1}; });
    }
  }

  /// Without a parameter's gradient its bucket is never averaged, and the next step would wait.
  void check_gradients() const {
    std::vector<std::string> missing;
    size_t count = 0;
    for (size_t i = 0; i < arrived_.size(); ++i) {
      if (arrived_[i] != 0 || ++count > 3) continue;
      missing.push_back(tensors_.names.at(i));
    }
    if (count == 0) return;
    throw OptionError("find_unused_parameters",
                      text(count, " of ", arrived_.size(),
                           " parameters had no part in the loss, so that their gradients could "
                           "not be averaged: ",
                           join(missing, ", "), count > missing.size() ? ", ..." : "",
                           ". Write 'find_unused_parameters: true'"));
  }

  C10dCommunicator& communicator_;
  ReducerOptions options_;
  ModelTensors tensors_;
  std::shared_ptr<c10d::Reducer> reducer_;
  std::vector<char> arrived_;  ///< which parameters got a gradient in this backward pass
  bool graph_known_ = false;
};

}  // namespace

std::unique_ptr<GradientReducer> make_reducer(Communicator& communicator, torch::nn::Module& model,
                                              const ReducerOptions& options) {
  if (communicator.size() == 1) return nullptr;
  auto* group = dynamic_cast<C10dCommunicator*>(&communicator);
  SEG_CHECK(group, "gradients can be averaged over a process group of c10d only");
  return std::make_unique<C10dGradientReducer>(*group, model, options);
}

}  // namespace seg
