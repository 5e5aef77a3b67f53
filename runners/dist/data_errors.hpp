/// Errors of data that one process meets while the others wait for it.
#pragma once
#include <optional>

#include "registry/error.hpp"
#include "segcore/dist/communicator.hpp"

namespace seg {

/// The DataError that `load` throws, if any. Other exceptions pass.
template <class Load>
std::optional<DataError> data_error_in(const Load& load) {
  try {
    load();
    return std::nullopt;
  } catch (const DataError& e) {
    return e;
  }
}

/// What a process throws because another one met an error.
DataError data_error_elsewhere();

/// Throws in all processes where one has an error, so that none waits for one that gave up.
/// Collective.
/// \throws DataError  `mine`, or data_error_elsewhere().
void throw_together(Communicator& communicator, const std::optional<DataError>& mine);

}  // namespace seg
