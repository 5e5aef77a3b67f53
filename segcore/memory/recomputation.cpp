#include "segcore/memory/recomputation.hpp"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "segcore/precision.hpp"

namespace seg {
namespace {

/// Results that are computed in a row for one that is asked for: of a chain of residual blocks
/// every third one is kept.
constexpr int kLongestChain = 3;

/// Where the values of a tensor lie, without keeping them.
class Place {
 public:
  explicit Place(const at::Tensor& x)
      : storage_(x.storage().getWeakStorageImpl()),
        offset_(x.storage_offset()),
        options_(x.options()),
        version_(torch::autograd::impl::version_counter(x)),
        first_version_(version_.current_version()) {}
  int64_t offset() const { return offset_; }
  bool expired() const { return storage_.expired(); }
  /// Whether a view of the values has their type, as they are.
  bool has_type_of(const at::Tensor& view) const {
    return view.dtype() == options_.dtype() && !view.is_conj() && !view.is_neg();
  }
  bool unchanged() const { return version_.current_version() == first_version_; }
  /// \param offset  from the first value. \return undefined where the values are gone or others.
  at::Tensor view(at::IntArrayRef sizes, at::IntArrayRef strides, int64_t offset) const {
    auto storage = storage_.lock();
    if (!storage || !unchanged()) return {};
    return at::empty({0}, options_)
        .set_(c10::Storage(std::move(storage)), offset_ + offset, sizes, strides);
  }

 private:
  c10::weak_intrusive_ptr<c10::StorageImpl> storage_;
  int64_t offset_;
  at::TensorOptions options_;
  c10::VariableVersion version_;
  uint32_t first_version_;
};

/// What is kept of a tensor: itself, or how it is computed.
class Kept {
 public:
  /// \param longest_chain  of results that may be computed for it, itself included.
  Kept(const at::Tensor& x, int longest_chain);
  /// Without its part in the graph.
  at::Tensor get() const;
  /// How many results `get` may have to compute in a row.
  int chain() const;
  void add_held(HeldMemory& held) const;

 private:
  at::Tensor tensor_;
  uint32_t version_ = 0;
  std::shared_ptr<Recomputation> recomputation_;
  at::DimVector sizes_, strides_;
  int64_t offset_ = 0;  ///< from the first value of the result
};

}  // namespace

class Recomputation {
 public:
  Recomputation(const at::Tensor& result, const std::vector<at::Tensor>& inputs, Recompute compute,
                bool shared)
      : compute_(std::move(compute)),
        shared_(shared),
        device_(result.device().type()),
        autocast_(autocast_type(device_)),
        sizes_(result.sizes()),
        strides_(result.strides()),
        place_(result) {
    for (const auto& x : inputs) {
      inputs_.emplace_back(x, kLongestChain - 1);
      chain_ = std::max(chain_, inputs_.back().chain() + 1);
    }
  }
  int chain() const { return chain_; }
  const Place& place() const { return place_; }

  /// \param offset  from the first value of the result.
  at::Tensor view(at::IntArrayRef sizes, at::IntArrayRef strides, int64_t offset) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (auto still = place_.view(sizes, strides, offset); still.defined()) return still;
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> inputs;
    for (const auto& x : inputs_) inputs.push_back(x.get());
    const Autocast precision(device_, autocast_);
    const at::Tensor again = compute_(inputs);
    TORCH_CHECK(again.sizes() == sizes_ && again.strides() == strides_,
                "a result of the forward pass was computed again with another layout");
    place_ = Place(again);
    if (shared_) result_ = again;
    return again.as_strided(sizes, strides, again.storage_offset() + offset);
  }
  void end() {
    const std::lock_guard<std::mutex> lock(mutex_);
    result_.reset();
  }
  void add_held(HeldMemory& held) const {
    for (const auto& x : inputs_) x.add_held(held);
  }

 private:
  const Recompute compute_;
  const bool shared_;
  const c10::DeviceType device_;
  const std::optional<at::ScalarType> autocast_;  ///< of the forward pass; a backward pass has none
  const at::DimVector sizes_, strides_;
  std::vector<Kept> inputs_;
  int chain_ = 1;
  std::mutex mutex_;
  Place place_;  ///< of the result, or of what was computed last
  at::Tensor result_;
};

/// The results of a forward pass that can be recomputed, by where they lie.
class Recomputations {
 public:
  void add(std::shared_ptr<Recomputation> made, const at::Tensor& result) {
    // Results that can be saved no more.
    std::erase_if(by_storage_, [](const auto& entry) {
      const Place& place = entry.second->place();
      return place.expired() || !place.unchanged();
    });
    by_storage_.insert_or_assign(storage_of(result), std::move(made));
  }
  /// Null for other tensors, and for results that were changed since.
  std::shared_ptr<Recomputation> of(const at::Tensor& x) const {
    const auto found = by_storage_.find(storage_of(x));
    if (found == by_storage_.end() || !found->second->place().unchanged()) return nullptr;
    return found->second;
  }

 private:
  /// Not the place of another storage later on: a weak pointer holds it.
  static const void* storage_of(const at::Tensor& x) { return x.storage().unsafeGetStorageImpl(); }
  std::unordered_map<const void*, std::shared_ptr<Recomputation>> by_storage_;
};

namespace {

thread_local std::unique_ptr<Recomputations> recomputations;

Kept::Kept(const at::Tensor& x, int longest_chain) {
  if (!x.defined()) return;
  if (recomputations && x.has_storage() && x.layout() == at::kStrided) {
    recomputation_ = recomputations->of(x);
    if (recomputation_ &&
        (recomputation_->chain() > longest_chain || !recomputation_->place().has_type_of(x))) {
      recomputation_.reset();
    }
  }
  if (recomputation_) {
    sizes_ = at::DimVector(x.sizes());
    strides_ = at::DimVector(x.strides());
    offset_ = x.storage_offset() - recomputation_->place().offset();
  } else {
    // With its node it would keep the graph that it is kept by.
    tensor_ = x.is_leaf() ? x : x.tensor_data();
    version_ = x._version();
  }
}

at::Tensor Kept::get() const {
  if (recomputation_) return recomputation_->view(sizes_, strides_, offset_);
  TORCH_CHECK(!tensor_.defined() || tensor_._version() == version_,
              "a tensor that the backward pass needs was changed in place, shape ",
              tensor_.sizes());
  return tensor_;
}

int Kept::chain() const { return recomputation_ ? recomputation_->chain() : 0; }

void Kept::add_held(HeldMemory& held) const {
  if (recomputation_) {
    recomputation_->add_held(held);
  } else if (tensor_.defined() && tensor_.has_storage()) {
    const c10::Storage& storage = tensor_.storage();
    held.try_emplace(
        storage.unsafeGetStorageImpl(),
        HeldStorage{storage.getWeakStorageImpl(), static_cast<int64_t>(storage.nbytes())});
  }
}

thread_local SavesTensorsBy::Make make_hooks;

class KeepsOrRecomputes : public torch::autograd::SavedVariableHooks {
 public:
  void call_pack_hook(const at::Tensor& x) override { kept_ = KeptTensor(x); }
  at::Tensor call_unpack_hook() override { return kept_.get(); }

 private:
  KeptTensor kept_;
};

/// LibTorch asks its engine how tensors are saved; Python's interpreter answers that way, too.
class RecomputingEngine : public torch::autograd::Engine {
 public:
  static Engine& get() {
    static RecomputingEngine engine;
    return engine;
  }
  std::unique_ptr<torch::autograd::SavedVariableHooks> get_default_saved_variable_hooks() override {
    if (make_hooks) return make_hooks();
    if (!recomputations) return nullptr;
    return std::make_unique<KeepsOrRecomputes>();
  }
};

/// Before any backward pass: the threads of an engine are its own.
[[maybe_unused]] const bool installed = [] {
  torch::autograd::set_default_engine_stub(&RecomputingEngine::get);
  return true;
}();

std::shared_ptr<Recomputation> added(const at::Tensor& result,
                                     const std::vector<at::Tensor>& inputs, Recompute compute,
                                     bool shared) {
  if (!recomputations) return nullptr;
  const bool in_place = std::any_of(inputs.begin(), inputs.end(), [&](const at::Tensor& x) {
    return x.defined() && x.is_alias_of(result);
  });
  if (in_place) return nullptr;
  auto made = std::make_shared<Recomputation>(result, inputs, std::move(compute), shared);
  recomputations->add(made, result);
  return made;
}

}  // namespace

SavesRecomputations::SavesRecomputations() : outermost_(!recomputations) {
  if (outermost_) recomputations = std::make_unique<Recomputations>();
}

SavesRecomputations::~SavesRecomputations() {
  if (outermost_) recomputations.reset();
}

at::Tensor recomputable(const std::vector<at::Tensor>& inputs, Recompute compute) {
  at::Tensor result = compute(inputs);
  recomputable_as(result, inputs, std::move(compute));
  return result;
}

void recomputable_as(const at::Tensor& result, const std::vector<at::Tensor>& inputs,
                     Recompute compute) {
  if (result.requires_grad()) added(result, inputs, std::move(compute), /*shared=*/false);
}

SharedRecomputation::SharedRecomputation(const at::Tensor& result,
                                         const std::vector<at::Tensor>& inputs, Recompute compute)
    : recomputation_(added(result, inputs, std::move(compute), /*shared=*/true)) {}

void SharedRecomputation::end() const {
  if (const auto recomputation = recomputation_.lock()) recomputation->end();
}

SeparateRecomputations::SeparateRecomputations() {
  if (recomputations) outer_ = std::exchange(recomputations, std::make_unique<Recomputations>());
}

SeparateRecomputations::~SeparateRecomputations() {
  if (outer_) recomputations = std::move(outer_);
}

class KeptTensor::Impl : public Kept {
 public:
  using Kept::Kept;
};

KeptTensor::KeptTensor(const at::Tensor& x)
    : impl_(std::make_shared<const Impl>(x, kLongestChain)) {}

at::Tensor KeptTensor::get() const { return impl_ ? impl_->get() : at::Tensor(); }

bool KeptTensor::is_recomputed() const { return impl_ && impl_->chain() > 0; }

void KeptTensor::add_held(HeldMemory& held) const {
  if (impl_) impl_->add_held(held);
}

SavesTensorsBy::SavesTensorsBy(Make make) : make_(std::exchange(make_hooks, std::move(make))) {}

SavesTensorsBy::~SavesTensorsBy() { make_hooks = std::move(make_); }

void end_recomputation(const at::IValue& capsule) {
  const auto held = capsule.toCapsule();
  static_cast<const SharedRecomputation&>(*held).end();
}

}  // namespace seg
