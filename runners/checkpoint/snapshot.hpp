/// A copy of a checkpoint's contents that training does not change any more.
#pragma once
#include "segcore/io/value.hpp"

namespace seg {

/// Copies containers and tensors; tensors are on the CPU then. Those that share memory share it in
/// the copy too, with the same strides.
Value snapshot(const Value& contents);

}  // namespace seg
