/// NumPy's arrays and scalars, as pickles and `.npy` files have them.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "segcore/io/value.hpp"

namespace seg {

/// A tensor for a numeric array, a list for an array of objects or strings; nothing for dtypes that
/// stay inert (dates, records).
/// \param dtype  the inert object of numpy.dtype(...)
/// \param shape  a tuple of sizes
/// \param data  bytes (or a string of Python 2), or the list of an array of objects
/// \throws CheckpointError where data and shape do not fit.
std::optional<Value> numpy_array(const Value& dtype, const Value& shape, bool fortran_order,
                                 const Value& data);

/// A bool, int, float or string; nothing for other dtypes.
std::optional<Value> numpy_scalar(const Value& dtype, const Value& data);

/// The array of a `.npy` file. Nothing where the type holds no numbers, or the bytes are too few.
/// \param type  as the file has it: "<f4"
std::optional<at::Tensor> numpy_tensor(std::string_view type, const std::vector<int64_t>& shape,
                                       bool fortran_order, std::string_view bytes);

}  // namespace seg
