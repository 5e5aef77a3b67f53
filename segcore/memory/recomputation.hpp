/// Results that a backward pass computes once more, so that nothing keeps them in between.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <functional>
#include <memory>
#include <vector>

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

/// None in between: for what is computed once more as a whole, of which autograd keeps nothing.
class PausesRecomputations {
 public:
  PausesRecomputations();
  ~PausesRecomputations();
  PausesRecomputations(const PausesRecomputations&) = delete;
  PausesRecomputations& operator=(const PausesRecomputations&) = delete;

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

/// Ends a SharedRecomputation that is among the saved data of a function.
void end_recomputation(const at::IValue& capsule);

}  // namespace seg
