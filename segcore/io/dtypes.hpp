/// Names of element types in Python, in torch.save files and in safetensors.
#pragma once
#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <string_view>

namespace seg {

/// "float32"; LibTorch's own name where Python has none.
std::string dtype_name(at::ScalarType type);
/// "float32" -> kFloat.
std::optional<at::ScalarType> dtype_of_name(std::string_view name);

/// "FloatStorage", or "" for types that torch.save stores untyped (uint16, float8, ...).
std::string_view storage_class(at::ScalarType type);
/// Of a class name without its module; UntypedStorage has bytes.
std::optional<at::ScalarType> dtype_of_storage(std::string_view class_name);

/// "F32", or "" for types that safetensors does not know.
std::string_view safetensors_dtype(at::ScalarType type);
std::optional<at::ScalarType> dtype_of_safetensors(std::string_view name);

}  // namespace seg
