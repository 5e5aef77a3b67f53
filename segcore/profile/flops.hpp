/// Counts the arithmetic of operators.
#pragma once
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace seg {

/// The cost of one call, from its inputs, counted as in MMEngine's get_model_complexity_info: a
/// multiplication with an addition is one; convolutions, matrix products, norms, bilinear resizing
/// (4 for each output), average pooling; no activations or sums. Attention by a fused kernel counts
/// as its two matrix products. The backward pass of these counts their products alone. 0: the
/// operator is not counted, or is made of others that are.
int64_t operator_flops(const std::string& name, c10::ArrayRef<const c10::IValue> inputs);

/// Whether `operator_flops` of an operator includes those that it calls.
bool is_counted_as_whole(const std::string& name);

/// The cost of the operations called by `run`, by operation.
std::map<std::string, int64_t> count_flops(const std::function<void()>& run);

}  // namespace seg
