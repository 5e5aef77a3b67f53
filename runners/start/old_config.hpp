/// Configurations of MMSegmentation 0.x, whose keys have other names: they are translated as they
/// are read.
#pragma once
#include <string>
#include <vector>

#include "registry/config.hpp"
#include "registry/yaml.hpp"

namespace seg {

/// load_config for configurations of models and runs of any version. One of MMSegmentation 0.x is
/// translated: its values keep the places where they were written, and `problems` gets a warning
/// that says so and one for each value without an exact counterpart. Overrides of keys that only
/// 0.x has (`data`, `lr_config`) change it before the translation, all others after it. What is
/// left to Python modules is replaced (python_parts.hpp). \param comments  gets the same remarks by
/// the path of the new value. \throws ConfigError
Config load_any_config(const std::string& path, const std::vector<std::string>& overrides,
                       Diagnostics& problems, YamlComments* comments = nullptr);
/// The same; warnings are dropped.
Config load_any_config(const std::string& path, const std::vector<std::string>& overrides = {});

/// The top-level keys that only configs of 0.x have.
const std::vector<std::string>& old_config_keys();

}  // namespace seg
