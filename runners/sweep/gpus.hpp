/// The GPUs that a sweep may share out.
#pragma once
#include <string>
#include <vector>

namespace seg {

/// Their names for CUDA_VISIBLE_DEVICES: those in it already, else the numbers of all that the
/// driver finds.
std::vector<std::string> names_of_visible_gpus();

}  // namespace seg
