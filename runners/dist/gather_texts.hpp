/// Texts of all processes.
#pragma once
#include <string>
#include <vector>

#include "segcore/dist/communicator.hpp"

namespace seg {

/// Collective: all ranks give equally many texts, of any bytes.
/// \return by rank, in all ranks.
std::vector<std::vector<std::string>> gather_texts(Communicator& communicator,
                                                   const std::vector<std::string>& own);

}  // namespace seg
