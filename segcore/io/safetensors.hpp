/// The .safetensors format: a JSON header of names, types, shapes and places, then raw data.
#pragma once
#include <memory>

#include "segcore/io/mapped_file.hpp"
#include "segcore/io/value.hpp"

namespace seg {

bool looks_like_safetensors(std::string_view file);

/// A dict of name -> tensor, in the order of the data; the tensors are views of the file.
/// \throws CheckpointError without the file's name.
Value read_safetensors(const std::shared_ptr<MappedFile>& file);

}  // namespace seg
