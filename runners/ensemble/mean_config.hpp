/// Configs of the means of an ensemble's members.
#pragma once
#include <string>
#include <vector>

namespace seg {

struct MeanMember {
  std::string config;  ///< resolved
  std::string checkpoint;
  double weight = 1;
};

/// YAML of the config of a member whose model is an EnsembleSegmentor of all. Paths are absolute.
std::string mean_config(const std::vector<MeanMember>& members);

}  // namespace seg
