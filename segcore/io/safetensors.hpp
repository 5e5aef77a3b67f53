/// The .safetensors format: a JSON header of names, types, shapes and places, then raw data.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <unordered_set>

#include "segcore/io/atomic_file.hpp"
#include "segcore/io/mapped_file.hpp"
#include "segcore/io/value.hpp"

namespace seg {

bool looks_like_safetensors(std::string_view file);

/// A dict of name -> tensor, in the order of the data; the tensors are views of the file.
/// \throws CheckpointError without the file's name.
Value read_safetensors(const std::shared_ptr<MappedFile>& file);

/// A file that grows tensor by tensor, so that they need not fit into memory together.
class SafetensorsWriter {
 public:
  /// \param header_room  bytes kept for the header at the beginning of the file; names and shapes
  ///                     take about 80 bytes a tensor beside the name.
  /// \throws FileError
  SafetensorsWriter(const std::string& path, uint64_t header_room);
  /// \throws CheckpointError where the name occurs twice, the type has no name in the format, or
  ///         the header outgrew its room. \throws FileError
  void add(const std::string& name, const at::Tensor& tensor);
  bool has(const std::string& name) const { return names_.contains(name); }
  size_t size() const { return names_.size(); }
  /// Makes the file visible under its name. \throws FileError
  void commit();

 private:
  std::string path_, header_;
  uint64_t room_;
  AtomicFile file_;
  std::unordered_set<std::string> names_;
};

}  // namespace seg
