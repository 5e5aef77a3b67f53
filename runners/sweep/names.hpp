/// Short names for what a sweep varies.
#pragma once
#include <string>
#include <vector>

#include "runners/sweep/space.hpp"

namespace seg {

/// The last parts of the dotted keys, as many as it takes to tell them apart:
/// "optim_wrapper.optimizer.lr" -> "lr".
std::vector<std::string> short_keys(const std::vector<std::string>& keys);

/// "pspnet-r18_camvid" for paths of configs: as many of their last parts as it takes.
std::vector<std::string> short_paths(const std::vector<std::string>& paths);

/// "0.001", "FCNHead" (the type of a component), "64x64".
std::string value_label(const Config& value);

/// "03_lr=0.001,channels=64": a name for a folder on any file system, of at most 100 characters.
/// \param parts  "lr=0.001" and its like. \param digits  of the number.
std::string run_name(size_t number, size_t digits, const std::vector<std::string>& parts);

}  // namespace seg
