/// Gathers the tensors of all processes in the first.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "segcore/dist/communicator.hpp"

namespace seg {

/// Collective: all ranks call it.
/// \param own  of this rank, in the order of `like`; undefined where it has none.
/// \param like  tensors of the same sizes and types, known to all ranks.
/// \return by rank, in the first rank; empty in all others. On the CPU but for the first rank's
///         own, which are not copied.
std::vector<std::vector<at::Tensor>> gather_tensors(Communicator& communicator,
                                                    const std::vector<at::Tensor>& own,
                                                    const std::vector<at::Tensor>& like);

}  // namespace seg
