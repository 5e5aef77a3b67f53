/// Running means of an optimizer in 16 or 8 bits a value.
///
/// Means are rounded stochastically: a step changes a mean by a tenth or a thousandth, which is
/// less than half of what 8 bits tell apart, and rounding to the nearest value would lose all of
/// it. The random bits are a hash of the parameter's index, the number of the update and the
/// value's place, so that a run is the same when it is resumed, with any number of threads and in
/// every process.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

namespace seg {

enum class StateDtype { kFloat32, kBfloat16, kInt8 };
/// \param name  "float32", "bfloat16" or "int8"
StateDtype state_dtype_of(const std::string& name);
const char* name_of(StateDtype dtype);
/// What the option says of itself.
inline constexpr const char* kStateDtypeMeaning =
    "how the running means are kept: float32, or in bfloat16 half and in int8 a quarter of its "
    "memory, rounded stochastically; tensors of fewer than 4096 values keep float32";
/// Whether the means of this parameter have this type: those of fewer than 4096 values, as biases
/// and norms have, stay as they are (Dettmers et al. 2022, section 2).
bool has_compact_state(const at::Tensor& param, StateDtype dtype);

/// Values in a block with a scale of its own.
inline constexpr int64_t kMeanBlock = 256;

/// A running mean: one number for each value of a parameter, in memory as that one is.
///
/// In 8 bits: block-wise quantisation with the dynamic map of Dettmers et al. 2022,
/// arXiv:2110.02861, sections 2.1 and 2.2, with blocks of 256 values in the order of memory. A code
/// is an index into the sorted map of 256 values in -1..1, or 0..1 for means of squares. Differs
/// from the paper: rounded stochastically, and no square but 0 becomes 0, which would be a divisor.
struct KeptMean {
  at::Tensor values;     ///< bfloat16, or uint8 codes
  at::Tensor scales;     ///< float [blocks], the largest size in each block; undefined in bfloat16
  bool squares = false;  ///< of squares: never negative

  /// Zeros for a parameter.
  static KeptMean zeros(const at::Tensor& param, StateDtype dtype, bool squares);
  /// The same mean for a parameter of this layout, in another type or the same: the same bits where
  /// both types and layouts are equal, else rounded to the nearest. `values` may be of any type.
  KeptMean converted(const at::Tensor& param, StateDtype dtype) const;
  /// Whether the scales are those of the codes.
  bool fits() const;
  /// `values` themselves unless they are codes; else float, in memory as the codes.
  at::Tensor decoded() const;
};

/// Which random bits an update of a parameter rounds with.
uint64_t rounding_key(int64_t parameter, int64_t update);

/// What one update does to all parameters of a group.
struct AdamStep {
  double lr = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
  double step = 1;  ///< updates so far, this one included
  bool decoupled_weight_decay = false, maximize = false;
};
struct SgdStep {
  double lr = 0, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, maximize = false;
  bool first = false;  ///< the gradient itself becomes the mean
};

/// Updates a parameter and its means, as at::_fused_adam(w)_ does, in one pass over memory.
/// \param param, grad  float, dense and alike in memory
/// \param largest      of the mean squares so far, with amsgrad; else null
void adam_step_(const at::Tensor& param, const at::Tensor& grad, const KeptMean& mean,
                const KeptMean& square, const KeptMean* largest, const AdamStep& step,
                uint64_t key);
void sgd_step_(const at::Tensor& param, const at::Tensor& grad, const KeptMean& mean,
               const SgdStep& step, uint64_t key);

/// The same by ATen's operators, on any device.
void composed_adam_step_(const at::Tensor& param, const at::Tensor& grad, const KeptMean& mean,
                         const KeptMean& square, const KeptMean* largest, const AdamStep& step,
                         uint64_t key);
void composed_sgd_step_(const at::Tensor& param, const at::Tensor& grad, const KeptMean& mean,
                        const SgdStep& step, uint64_t key);

}  // namespace seg
