/// Results that a backward pass computes once more, so that nothing keeps them in between.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

namespace torch::autograd {
struct SavedVariableHooks;
}

namespace seg {

/// While one lives, autograd keeps how `recomputable` results are computed in place of their
/// values, for operators that this thread runs. A forward pass makes one.
class SavesRecomputations {
 public:
  SavesRecomputations();
  ~SavesRecomputations();
  SavesRecomputations(const SavesRecomputations&) = delete;
  SavesRecomputations& operator=(const SavesRecomputations&) = delete;

 private:
  bool outermost_;
};

class Recomputations;

/// Others in between, where a SavesRecomputations lives: for what is computed again as a whole.
/// Results of before and after are not recomputed from tensors of in between, nor the reverse.
class SeparateRecomputations {
 public:
  SeparateRecomputations();
  ~SeparateRecomputations();
  SeparateRecomputations(const SeparateRecomputations&) = delete;
  SeparateRecomputations& operator=(const SeparateRecomputations&) = delete;

 private:
  std::unique_ptr<Recomputations> outer_;
};

using Recompute = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

/// A result, and how it is computed from inputs that are kept.
class Recomputation;

/// compute(inputs), which is cheap and gives the same again. Less is kept only where the inputs are
/// kept anyway, or can be recomputed themselves. A result that is changed in place afterwards is
/// kept as any other tensor is; its inputs must not be changed.
///
/// Just computes where no SavesRecomputations lives, or without gradients.
/// \param inputs   may be undefined.
/// \param compute  runs again without gradients, with the autocast of the forward pass.
at::Tensor recomputable(const std::vector<at::Tensor>& inputs, Recompute compute);

/// The same for a result that was computed already: compute(inputs), bit for bit.
void recomputable_as(const at::Tensor& result, const std::vector<at::Tensor>& inputs,
                     Recompute compute);

/// The same for the result of an operator whose own backward pass needs it, too, and as the last:
/// the first that asks for it computes it for the others, until the operator ends that.
class SharedRecomputation : public torch::CustomClassHolder {
 public:
  /// \param result  compute(inputs), bit for bit; it has a gradient.
  SharedRecomputation(const at::Tensor& result, const std::vector<at::Tensor>& inputs,
                      Recompute compute);
  /// Lets the result go.
  void end() const;

 private:
  std::weak_ptr<Recomputation> recomputation_;
};

/// Memory that is held, without holding it.
struct HeldStorage {
  c10::weak_intrusive_ptr<c10::StorageImpl> storage;
  int64_t bytes;
};
/// By where it lies: none lies twice in it.
using HeldMemory = std::unordered_map<const c10::StorageImpl*, HeldStorage>;

/// What autograd keeps of a tensor: itself, or how it is computed.
class KeptTensor {
 public:
  KeptTensor() = default;
  explicit KeptTensor(const at::Tensor& x);
  /// Without its part in the graph.
  at::Tensor get() const;
  bool is_recomputed() const;
  /// Adds the memory that it needs.
  void add_held(HeldMemory& held) const;

 private:
  class Impl;
  std::shared_ptr<const Impl> impl_;
};

/// While one lives, autograd saves the tensors of operators that this thread runs by hooks of
/// `make`, in place of SavesRecomputations.
class SavesTensorsBy {
 public:
  using Make = std::function<std::unique_ptr<torch::autograd::SavedVariableHooks>()>;
  explicit SavesTensorsBy(Make make);
  ~SavesTensorsBy();
  SavesTensorsBy(const SavesTensorsBy&) = delete;
  SavesTensorsBy& operator=(const SavesTensorsBy&) = delete;

 private:
  Make make_;  ///< that of the scope around this one
};

/// Ends a SharedRecomputation that is among the saved data of a function.
void end_recomputation(const at::IValue& capsule);

}  // namespace seg
