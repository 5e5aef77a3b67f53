/// The environment of a process: threads, precision, and their description at the head of a log.
#pragma once
#include <string>

namespace seg {

struct EnvParams;
struct RunInfo;

/// Applies threads, cuDNN and precision of `env_cfg` to this process, and keeps memory of tensors
/// for others.
void apply_environment(const EnvParams& env, bool deterministic);

/// The block of lines that a log begins with.
std::string environment_text(const RunInfo& run);

}  // namespace seg
