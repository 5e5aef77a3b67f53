/// What a log says of the machine and the libraries at its start.
#pragma once
#include <string>

namespace seg {

struct EnvParams;
struct RunContext;

/// Sets threads, cuDNN and precision of this process as `env_cfg` says.
void apply_environment(const EnvParams& env, bool deterministic);

/// The block of lines that a log begins with.
std::string environment_text(const RunContext& context);

}  // namespace seg
