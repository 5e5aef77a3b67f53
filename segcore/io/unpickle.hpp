/// Reads Python's pickles (protocols 0 to 5) into plain data. Nothing that a pickle names is ever
/// called: a few names that stand for data (tensors, arrays, dicts) are understood, all others
/// become inert objects.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "segcore/io/value.hpp"

namespace seg {

/// A reference to bytes that lie outside the pickle.
struct StorageReference {
  std::string key;
  at::ScalarType dtype = at::kByte;
  int64_t numel = 0;
};
/// Returns the storage of at least `numel` elements as a one-dimensional tensor, or an undefined
/// one where only the structure of the pickle is wanted. Throws CheckpointError for a missing
/// storage.
using StorageSource = std::function<at::Tensor(const StorageReference&)>;

struct Unpickled {
  Value value;
  size_t size = 0;  ///< bytes of the text that were read
};

/// Reads the pickle at the beginning of `text`. Memory stays proportional to the text. A reference
/// from inside a container to itself is replaced by an object "reference cycle".
/// \throws CheckpointError without the file's name.
Unpickled unpickle(std::string_view text, const StorageSource& storages);

/// The type of large integers, which do not fit a Value: an OpaqueObject whose only argument is the
/// number in hexadecimal, two's complement, most significant byte first (in decimal where the
/// pickle has it so, in protocol 0).
inline constexpr std::string_view kLargeInteger = "int";

}  // namespace seg
