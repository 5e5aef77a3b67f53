/// Reads and writes checkpoints: Python's torch.save files (the zip format and the older one) and
/// .safetensors. Reading builds data only and executes nothing.
#pragma once
#include <string>

#include "segcore/io/value.hpp"

namespace seg {

inline constexpr const char* kSafetensorsMetadata = "__metadata__";

/// Reads a file of any of the known formats, recognised by its contents. Tensors of zip and
/// safetensors files are mapped from the file (copy on write), on the CPU.
/// A .safetensors file gives a dict of name -> tensor, and under kSafetensorsMetadata a dict of
/// texts where its header says more than its format. Tensors of types that LibTorch lacks are
/// OpaqueObjects.
/// \throws CheckpointError naming the file, where it is missing, damaged or of an unknown format.
Value read_checkpoint(const std::string& path);

/// Writes a torch.save zip that `torch.load(weights_only=True)` reads. The file is whole or absent:
/// it is written under a temporary name, synced and renamed.
/// \throws CheckpointError for a full disk, a missing permission, or an OpaqueObject in `contents`.
void write_checkpoint(const std::string& path, const Value& contents);

/// Writes a dict of name -> tensor as .safetensors; texts under kSafetensorsMetadata go into its
/// header.
void write_safetensors(const std::string& path, const Value& tensors);

}  // namespace seg
