#include "segcore/profile/operator_recorder.hpp"

#include <ATen/DeviceAccelerator.h>
#include <ATen/SequenceNumber.h>
#include <ATen/record_function.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>

#include "segcore/profile/flops.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using Clock = std::chrono::steady_clock;
using Values = c10::ArrayRef<const c10::IValue>;

/// A moment, on the CPU or among the work queued on a GPU.
struct Moment {
  Clock::time_point time;
  std::optional<c10::Event> event;

  static Moment now(c10::Device device) {
    Moment out{Clock::now(), std::nullopt};
    if (device.is_cpu()) return out;
    out.event.emplace(device.type(), c10::EventFlag::BACKEND_DEFAULT);
    out.event->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
    return out;
  }
  double seconds_to(const Moment& later) const {
    if (event) return event->elapsedTime(*later.event) * 1e-3;
    return std::chrono::duration<double>(later.time - time).count();
  }
};

/// A call and, for nodes, what is not their own time.
struct TimedCall {
  OperatorCall call;
  Moment begin, end;
  std::optional<size_t> node;  ///< in which it is
};

template <class Use>
void for_each_tensor(Values values, const Use& use) {
  for (const c10::IValue& value : values) {
    if (value.isTensor()) {
      if (value.toTensor().defined()) use(value.toTensor());
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) {
        if (tensor.defined()) use(tensor);
      }
    }
  }
}

const c10::StorageImpl* storage_of(const at::Tensor& tensor) {
  return tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

/// CppNode<seg::(anonymous namespace)::X> as X.
std::string short_node_name(std::string name) {
  if (const size_t inner = name.rfind("::"); inner != std::string::npos) {
    name.erase(0, inner + 2);
  }
  std::erase(name, '>');
  return name;
}

/// Operators whose result is read by the CPU, or has a size that it must know.
bool is_wait(const std::string& name, Values inputs) {
  static const std::set<std::string> waits{"aten::_local_scalar_dense",
                                           "aten::nonzero",
                                           "aten::masked_select",
                                           "aten::equal",
                                           "aten::_unique2",
                                           "aten::unique_dim",
                                           "aten::bincount"};
  if (waits.contains(name)) return true;
  if (name != "aten::copy_" || !inputs[0].toTensor().is_cpu()) return false;
  return !inputs[1].toTensor().is_cpu();
}

bool is_format_copy(const std::string& name, Values inputs) {
  if (name != "aten::copy_") return false;
  const at::Tensor &to = inputs[0].toTensor(), &from = inputs[1].toTensor();
  if (to.dim() != 4 || to.sizes() != from.sizes() || to.scalar_type() != from.scalar_type() ||
      to.device() != from.device()) {
    return false;
  }
  const auto last = at::MemoryFormat::ChannelsLast;
  // With one channel or pixel a tensor has both formats.
  return (to.is_contiguous() && !to.is_contiguous(last) && from.is_contiguous(last)) ||
         (from.is_contiguous() && !from.is_contiguous(last) && to.is_contiguous(last));
}

class OperatorRecorder {
 public:
  OperatorRecorder(const torch::nn::Module& model, c10::Device device) : device_(device) {
    const auto add = [&](const auto& tensors) {
      for (const auto& item : tensors) {
        const size_t end = item.key().rfind('.');
        modules_.emplace(storage_of(item.value()), item.key().substr(0, end));
      }
    };
    add(model.named_parameters());
    add(model.named_buffers());
  }

  /// What an operator, node or scope that has begun is remembered by until it ends.
  struct Begun : at::ObserverContext {
    std::optional<size_t> index;  ///< in `calls_`, of an outermost operator or a node
    std::optional<size_t> outer_node;
    std::set<const c10::StorageImpl*> storages;  ///< of the inputs, where they tell views
    bool whole = false, waits = false, in_place = false;
  };

  std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
    // What the engine does around a node is recorded like an operator.
    if (std::string_view(function.name()).starts_with("autograd::engine::")) return nullptr;
    auto begun = std::make_unique<Begun>();
    switch (function.scope()) {
      case at::RecordScope::USER_SCOPE:
        thread().scopes.emplace_back(function.name());
        break;
      case at::RecordScope::BACKWARD_FUNCTION:
        begin_node(function, *begun);
        break;
      default:
        begin_operator(function, *begun);
    }
    return begun;
  }

  void end(const at::RecordFunction& function, Begun& begun) {
    Thread& t = thread();
    if (function.scope() == at::RecordScope::USER_SCOPE) {
      if (!t.scopes.empty()) t.scopes.pop_back();
      return;
    }
    if (function.scope() != at::RecordScope::BACKWARD_FUNCTION) {
      --t.depth;
      t.whole -= begun.whole;
      t.waits -= begun.waits;
      if (!begun.index) return;
    }
    Moment now = Moment::now(device_);
    const std::lock_guard lock(mutex_);
    TimedCall& timed = calls_[*begun.index];
    timed.end = std::move(now);
    if (function.scope() == at::RecordScope::BACKWARD_FUNCTION) {
      t.node = begun.outer_node;
      return;
    }
    t.outermost.reset();
    count_outputs(function.outputs(), begun, timed.call);
  }

  RecordedStep result() {
    std::vector<double> seconds;
    for (const TimedCall& timed : calls_) seconds.push_back(timed.begin.seconds_to(timed.end));
    std::vector<double> own = seconds;
    for (size_t i = 0; i < calls_.size(); ++i) {
      if (calls_[i].node) own[*calls_[i].node] -= seconds[i];
    }
    for (size_t i = 0; i < calls_.size(); ++i) {
      step_.calls.push_back(std::move(calls_[i].call));
      step_.calls.back().seconds = std::max(0.0, own[i]);
    }
    return std::move(step_);
  }

 private:
  /// What a thread is in the middle of.
  struct Thread {
    int64_t recording = 0;
    int depth = 0;  ///< of operators in operators
    int whole = 0;  ///< of those whose FLOPs are counted as a whole
    int waits = 0;
    std::optional<size_t> outermost, node;  ///< in `calls_`
    std::string module;                     ///< of the last parameter
    std::vector<std::string> scopes;
  };

  Thread& thread() {
    thread_local Thread state;
    if (state.recording != recording_) state = {.recording = recording_};
    return state;
  }

  std::string phase() {
    const Thread& t = thread();
    if (!t.scopes.empty()) return t.scopes.front();
    return t.node ? "backward" : "";  // autograd's own threads have no scopes
  }

  std::string module_of_forward(const Thread& t) const {
    if (t.scopes.size() < 2) return t.module;
    return t.module.substr(0, t.module.find('.')) + "." + t.scopes.back();
  }

  void begin_node(const at::RecordFunction& function, Begun& begun) {
    Thread& t = thread();
    const std::lock_guard lock(mutex_);
    begun.outer_node = t.node;
    TimedCall timed{.call = {.name = short_node_name(function.name()), .phase = phase()},
                    .begin = {},
                    .end = {},
                    .node = t.node};
    // The forward call that was the last to begin before the node was made.
    const auto after = std::ranges::upper_bound(forward_, function.seqNr(), {},
                                                [](const auto& made) { return made.first; });
    if (function.seqNr() >= 0 && after != forward_.begin()) node_module_ = std::prev(after)->second;
    timed.call.module = node_module_;
    begun.index = t.node = calls_.size();
    timed.begin = Moment::now(device_);
    calls_.push_back(std::move(timed));
  }

  void begin_operator(const at::RecordFunction& function, Begun& begun) {
    Thread& t = thread();
    const std::string name = function.name();
    const Values inputs = function.inputs();
    const bool outermost = t.depth++ == 0;
    std::string of_parameter;
    for_each_tensor(inputs, [&](const at::Tensor& tensor) {
      if (const auto found = modules_.find(storage_of(tensor)); found != modules_.end()) {
        of_parameter = found->second;
      }
    });
    const std::lock_guard lock(mutex_);
    if (outermost) begin_outermost(name, inputs, of_parameter, begun);
    OperatorCall& call = calls_[*t.outermost].call;
    if (t.whole == 0) call.flops += operator_flops(name, inputs);
    begun.whole = is_counted_as_whole(name);
    t.whole += begun.whole;
    if (is_format_copy(name, inputs)) {
      step_.format_copies.push_back(
          {call.name, call.phase, call.module, 2 * bytes_of(inputs[0].toTensor())});
    }
    begun.waits = is_wait(name, inputs);
    // Fused optimisers read their counts of steps, which on a GPU its kernels do.
    if (begun.waits && t.waits == 0 && !call.name.starts_with("aten::_fused_")) {
      step_.waits.push_back({call.name, call.phase, call.module});
    }
    t.waits += begun.waits;
    if (outermost) calls_[*t.outermost].begin = Moment::now(device_);
  }

  void begin_outermost(const std::string& name, Values inputs, const std::string& of_parameter,
                       Begun& begun) {
    Thread& t = thread();
    TimedCall timed{
        .call = {.name = name, .phase = phase()}, .begin = {}, .end = {}, .node = t.node};
    OperatorCall& call = timed.call;
    if (t.node) {
      if (!of_parameter.empty()) node_module_ = of_parameter;
      call.module = node_module_;
    } else if (call.phase == "forward") {
      if (!of_parameter.empty()) t.module = of_parameter;
      call.module = module_of_forward(t);
    } else {
      call.module = call.phase;
    }
    // In the backward pass, too, where a checkpoint runs its forward pass again.
    if (at::GradMode::is_enabled()) {
      forward_.emplace_back(static_cast<int64_t>(at::sequence_number::peek()), call.module);
    }
    for_each_tensor(inputs, [&](const at::Tensor& tensor) {
      call.bytes += bytes_of(tensor);
      begun.storages.insert(storage_of(tensor));
    });
    begun.in_place = name.ends_with('_');
    begun.index = t.outermost = calls_.size();
    calls_.push_back(std::move(timed));
  }

  static void count_outputs(const std::vector<c10::IValue>& outputs, const Begun& begun,
                            OperatorCall& call) {
    bool views = !outputs.empty() && !begun.in_place;
    for_each_tensor(Values(outputs.data(), outputs.size()), [&](const at::Tensor& tensor) {
      call.bytes += bytes_of(tensor);
      views = views && begun.storages.contains(storage_of(tensor));
    });
    if (views) call.bytes = 0;
  }

  inline static int64_t recordings = 0;
  /// Not its address, which the next one may have as well.
  int64_t recording_ = ++recordings;
  c10::Device device_;
  std::unordered_map<const c10::StorageImpl*, std::string> modules_;
  std::mutex mutex_;  // of what follows: the backward pass of a GPU has a thread of its own
  std::vector<TimedCall> calls_;
  std::vector<std::pair<int64_t, std::string>>
      forward_;  ///< first node that a call can make, module
  std::string node_module_;
  RecordedStep step_;
};

OperatorRecorder* recorder = nullptr;

std::unique_ptr<at::ObserverContext> on_begin(const at::RecordFunction& function) {
  return recorder ? recorder->begin(function) : nullptr;
}
void on_end(const at::RecordFunction& function, at::ObserverContext* context) {
  if (!recorder || !context) return;
  recorder->end(function, *static_cast<OperatorRecorder::Begun*>(context));
}

}  // namespace

RecordedStep record_operators(const torch::nn::Module& model, c10::Device device,
                              const std::function<void()>& step) {
  OperatorRecorder recording(model, device);
  // Global, for the threads of the backward pass.
  const auto handle = at::addGlobalCallback(
      at::RecordFunctionCallback(on_begin, on_end)
          .needsInputs(true)
          .needsOutputs(true)
          .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION,
                   at::RecordScope::USER_SCOPE}));
  recorder = &recording;
  const auto stop = [&] {
    recorder = nullptr;
    at::removeCallback(handle);
  };
  try {
    step();
    if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
  } catch (...) {
    stop();
    throw;
  }
  stop();
  return recording.result();
}

}  // namespace seg
