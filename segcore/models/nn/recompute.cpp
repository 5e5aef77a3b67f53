#include "segcore/models/nn/recompute.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>

#include "segcore/memory/recomputation.hpp"
#include "segcore/models/nn/base_module.hpp"
#include "segcore/models/nn/recomputation_plan.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using TensorFunction = std::function<at::Tensor(at::TensorList)>;

at::Generator recompute_generator(c10::Device device) {
  return at::globalContext().defaultGenerator(device);
}

at::Tensor random_state(at::Generator generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_random_state(at::Generator generator, const at::Tensor& state) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

/// The generators that draw for tensors of a device.
class RandomStates {
 public:
  explicit RandomStates(c10::Device device) : device_(device) {
    cpu_ = random_state(recompute_generator(at::kCPU));
    if (!device.is_cpu()) own_ = random_state(recompute_generator(device));
  }
  void set() const {
    set_random_state(recompute_generator(at::kCPU), cpu_);
    if (own_.defined()) set_random_state(recompute_generator(device_), own_);
  }
  c10::Device device() const { return device_; }

 private:
  c10::Device device_;
  at::Tensor cpu_, own_;
};

/// What the second pass depends on beside inputs and weights, as it is now.
struct ForwardState {
  explicit ForwardState(c10::Device device)
      : random(device), autocast(autocast_type(device.type())) {}
  RandomStates random;
  std::optional<at::ScalarType> autocast;
};

/// Sets generators and autocast as they were in the first pass; undoes that when it ends.
class SecondPassState {
 public:
  explicit SecondPassState(const ForwardState& first)
      : before_(first.random.device()), precision_(first.random.device().type(), first.autocast) {
    first.random.set();
  }
  ~SecondPassState() { before_.set(); }
  SecondPassState(const SecondPassState&) = delete;
  SecondPassState& operator=(const SecondPassState&) = delete;

 private:
  const RandomStates before_;
  const Autocast precision_;
};

double seconds_when_idle(c10::Device device) {
  if (!device.is_cpu()) {
    c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class BlockRun;

/// Of the block that this thread runs.
struct Pass {
  BlockRun* block = nullptr;  ///< that runs twice; null: none does
  bool again = false;
  bool silent = false;
  bool kept = false;     ///< a plan keeps the block
  bool with_cp = false;  ///< a block within `block` would run twice if that one was kept
  bool inside() const { return block || kept; }
};
thread_local Pass pass;

/// For as long as it lives.
class PassScope {
 public:
  explicit PassScope(Pass now) : outer_(std::exchange(pass, now)) {}
  ~PassScope() { pass = outer_; }
  PassScope(const PassScope&) = delete;
  PassScope& operator=(const PassScope&) = delete;

 private:
  Pass outer_;
};

/// One block of one step: the tensors that its operators save are let go after the first pass, and
/// made by a second one when the backward pass asks for the first of them. The graph is that of the
/// first pass.
class BlockRun : public std::enable_shared_from_this<BlockRun> {
 public:
  /// \param silent  the second pass leaves running statistics as they are.
  /// \param cost    null: not measured.
  BlockRun(TensorFunction f, at::TensorList inputs, bool silent, std::shared_ptr<BlockCost> cost)
      : f_(std::move(f)), silent_(silent), cost_(std::move(cost)), state_(inputs.front().device()) {
    for (const auto& x : inputs) {
      inputs_.push_back({KeptTensor(x), x.requires_grad()});
    }
  }
  at::Tensor first_pass(at::TensorList inputs);

  // For the hooks of the graph.
  size_t add(const at::Tensor& x) {
    slots_.push_back({KeptTensor(x), Slot::kFilled, /*held_if_kept=*/!pass.with_cp});
    return slots_.size() - 1;
  }
  at::Tensor get(size_t slot) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    if (slots_[slot].state == Slot::kEmpty) second_pass();
    return slots_[slot].tensor.get();
  }
  void release(size_t slot) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    slots_[slot].set({}, Slot::kReleased);
  }

  // For the passes.
  void fill_next(const at::Tensor& x) {
    TORCH_CHECK(next_ < slots_.size(), "a block saves more tensors in its second pass");
    Slot& slot = slots_[next_++];
    if (slot.state == Slot::kEmpty) slot.set(KeptTensor(x), Slot::kFilled);
  }
  std::vector<at::Tensor> once(bool again,
                               const std::function<std::vector<at::Tensor>()>& compute) {
    if (again) return once_.at(next_once_++);
    return once_.emplace_back(compute());
  }

 private:
  struct Input {
    KeptTensor tensor;
    bool requires_grad;
  };
  struct Slot {
    KeptTensor tensor;
    enum State { kEmpty, kFilled, kReleased } state;
    bool held_if_kept;  ///< where a plan keeps the block
    void set(KeptTensor x, State now) {
      tensor = std::move(x);
      state = now;
    }
  };

  void measure_kept(const at::Tensor& result, at::TensorList inputs);
  void leave_out_living();
  void second_pass();
  void forget_function();

  TensorFunction f_;
  const bool silent_;
  const std::shared_ptr<BlockCost> cost_;
  const ForwardState state_;
  std::vector<Input> inputs_;
  std::vector<std::vector<at::Tensor>> once_;  ///< what is computed in the first pass alone
  size_t next_once_ = 0;
  HeldMemory held_;  ///< that keeping the block would hold, where that is measured
  // Recursive: a second pass may let go of the graph of the first, such as by a member that f sets.
  std::recursive_mutex mutex_;
  std::vector<Slot> slots_;
  size_t next_ = 0;  ///< to fill
};

/// How the graph saves a tensor.
class SavedByBlock : public torch::autograd::SavedVariableHooks {
 public:
  explicit SavedByBlock(std::shared_ptr<BlockRun> block) : block_(std::move(block)) {}
  ~SavedByBlock() override {
    if (slot_) block_->release(*slot_);
  }
  void call_pack_hook(const at::Tensor& x) override { slot_ = block_->add(x); }
  at::Tensor call_unpack_hook() override { return block_->get(*slot_); }

 private:
  std::shared_ptr<BlockRun> block_;
  std::optional<size_t> slot_;
};

/// What the second pass would save goes to where the first one's graph asks for it.
class FillsBlock : public torch::autograd::SavedVariableHooks {
 public:
  explicit FillsBlock(BlockRun& block) : block_(block) {}
  void call_pack_hook(const at::Tensor& x) override { block_.fill_next(x); }
  at::Tensor call_unpack_hook() override {
    TORCH_CHECK(false, "the graph of a second pass has no backward pass");
  }

 private:
  BlockRun& block_;
};

std::vector<uint32_t> versions_of(at::TensorList tensors) {
  std::vector<uint32_t> out;
  for (const auto& x : tensors) out.push_back(static_cast<uint32_t>(x._version()));
  return out;
}

at::Tensor BlockRun::first_pass(at::TensorList inputs) {
  const auto versions = versions_of(inputs);
  at::Tensor result;
  bool repeatable = false;
  {
    const SeparateRecomputations own;
    const SavesTensorsBy by_block(
        [this] { return std::make_unique<SavedByBlock>(shared_from_this()); });
    const PassScope scope({.block = this});
    result = f_(inputs);
    // Of inputs that were changed in place, a second pass would begin from other values.
    repeatable = versions_of(inputs) == versions;
    if (cost_ && repeatable) measure_kept(result, inputs);
  }
  const std::lock_guard<std::recursive_mutex> lock(mutex_);
  if (!repeatable) {
    forget_function();
    return result;
  }
  for (Slot& slot : slots_) {
    if (slot.state == Slot::kFilled) slot.set({}, Slot::kEmpty);
  }
  return result;
}

void BlockRun::measure_kept(const at::Tensor& result, at::TensorList inputs) {
  for (const Slot& slot : slots_) {
    if (slot.held_if_kept) slot.tensor.add_held(held_);
  }
  for (const auto& x : inputs) held_.erase(x.storage().unsafeGetStorageImpl());
  held_.erase(result.storage().unsafeGetStorageImpl());
  cost_->bytes = 0;
  for (const auto& [place, memory] : held_) cost_->bytes += memory.bytes;
  // The next block's input, which it could recompute if this one kept what that takes.
  if (KeptTensor(result).is_recomputed()) {
    cost_->bytes -= static_cast<int64_t>(result.storage().nbytes());
  }
}

/// What others hold, such as frozen weights, is there whether the block is kept or not. Casts of
/// autocast are not: they live until the end of the forward pass.
void BlockRun::leave_out_living() {
  for (const auto& [place, memory] : held_) {
    if (!memory.storage.expired()) cost_->bytes -= memory.bytes;
  }
  held_.clear();
}

void BlockRun::second_pass() {
  const c10::Device device = state_.random.device();
  if (cost_) leave_out_living();
  const double begin = cost_ ? seconds_when_idle(device) : 0;
  // A pass before may have ended by an exception.
  next_ = next_once_ = 0;
  {
    const at::AutoGradMode grad(true);
    std::vector<at::Tensor> inputs;
    for (const Input& x : inputs_) {
      inputs.push_back(x.tensor.get().detach().requires_grad_(x.requires_grad));
    }
    const SecondPassState state(state_);
    const SavesRecomputations less_memory;
    const SeparateRecomputations own;
    const SavesTensorsBy filling([this] { return std::make_unique<FillsBlock>(*this); });
    const PassScope scope({.block = this, .again = true, .silent = silent_});
    f_(inputs);
  }
  TORCH_CHECK(next_ == slots_.size(), "a block saves fewer tensors in its second pass");
  if (cost_) cost_->seconds = seconds_when_idle(device) - begin;
  forget_function();
}

void BlockRun::forget_function() {
  inputs_.clear();
  once_.clear();
  f_ = nullptr;
}

at::Tensor run_twice(const TensorFunction& f, at::TensorList inputs, bool silent,
                     std::shared_ptr<BlockCost> cost) {
  if (!at::GradMode::is_enabled()) return f(inputs);
  return std::make_shared<BlockRun>(f, inputs, silent, std::move(cost))->first_pass(inputs);
}

thread_local RecomputationPlan* plan = nullptr;
thread_local const BlockSet* with_cp_blocks = nullptr;

}  // namespace

at::Tensor recompute_of(const TensorFunction& f, at::TensorList inputs) {
  // MMSegmentation runs a block once whose inputs have no gradient.
  const bool silent =
      std::none_of(inputs.begin(), inputs.end(), [](const auto& x) { return x.requires_grad(); });
  if (!pass.block) return run_twice(f, inputs, silent, nullptr);
  // Within a block that runs twice as a whole, its passes are these.
  const PassScope scope(
      {.block = pass.block, .again = pass.again, .silent = pass.silent && silent, .with_cp = true});
  return f(inputs);
}

at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x) {
  return recompute_of([f](at::TensorList inputs) { return f(inputs[0]); }, {x});
}

at::Tensor run_block(bool with_cp, const std::function<at::Tensor(const at::Tensor&)>& f,
                     const at::Tensor& x) {
  if (!with_cp && (!plan || pass.inside())) return f(x);
  return run_block_of(with_cp, [f](at::TensorList inputs) { return f(inputs[0]); }, {x});
}

at::Tensor run_block_of(bool with_cp, const TensorFunction& f, at::TensorList inputs) {
  if (with_cp) return recompute_of(f, inputs);
  if (!plan || pass.inside()) return f(inputs);
  auto decision = plan->next();
  if (!decision.recomputed) {
    const PassScope scope({.kept = true});
    return f(inputs);
  }
  return run_twice(f, inputs, /*silent=*/true, std::move(decision.cost));
}

at::Tensor run_block(const torch::nn::Module& block,
                     const std::function<at::Tensor(const at::Tensor&)>& f, const at::Tensor& x) {
  return run_block(with_cp_blocks && with_cp_blocks->contains(&block), f, x);
}

at::Tensor forward_in_sequence(Layer& layer, const at::Tensor& x) {
  const bool is_block =
      (with_cp_blocks && with_cp_blocks->contains(&layer)) || (plan && plan->has_block(layer));
  return is_block ? forward_block(layer, x) : layer.forward(x);
}

bool is_silent_pass() { return pass.again && pass.silent; }

std::vector<at::Tensor> computed_once(const std::function<std::vector<at::Tensor>()>& compute) {
  if (!pass.block) return compute();
  return pass.block->once(pass.again, compute);
}

FollowsPlan::FollowsPlan(RecomputationPlan& p) : outer_(std::exchange(plan, &p)) {}

FollowsPlan::~FollowsPlan() { plan = outer_; }

RecomputesBlocks::RecomputesBlocks(const BlockSet* blocks)
    : outer_(std::exchange(with_cp_blocks, blocks)) {}

RecomputesBlocks::~RecomputesBlocks() { with_cp_blocks = outer_; }

}  // namespace seg
