/// Tensors that are views of a mapped file.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

#include "segcore/io/mapped_file.hpp"

namespace seg {

/// Makes storages of ranges of one file.
class FileStorages {
 public:
  explicit FileStorages(std::shared_ptr<MappedFile> file)
      : file_(std::move(file)), copies_left_(file_->size()) {}
  /// The range as a one-dimensional tensor of `dtype`, with a storage of its own. Ranges that do
  /// not start at a multiple of `alignment` are copied; the copies together never exceed the file's
  /// size. The caller has checked that the range lies inside the file.
  at::Tensor view(uint64_t offset, uint64_t size, at::ScalarType dtype, uint64_t alignment = 8);

 private:
  std::shared_ptr<MappedFile> file_;
  uint64_t copies_left_;
};

}  // namespace seg
