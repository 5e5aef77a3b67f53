/// What a log says of the machine and the libraries at its start.
#pragma once
#include <string>

namespace seg {

struct RunContext;

/// The block of lines that a log begins with.
std::string environment_text(const RunContext& context);

}  // namespace seg
