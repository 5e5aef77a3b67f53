/// Reads configurations: YAML files with `_base_` inheritance, substitution and command-line
/// overrides, as MMEngine's Config has them; and writes them.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "registry/config.hpp"

namespace seg {

/// Resolves a file: bases merged, `{{...}}` substituted, `overrides` ("a.b=1", one each, in order)
/// applied. Problems that do not stop the reading are added to `problems`.
/// \throws ConfigError with all errors found in all files.
Config load_config(const std::string& path, const std::vector<std::string>& overrides,
                   Diagnostics& problems);
/// Changes the tree of the files, and what overrides will lay over it, before they do.
using BeforeOverrides = std::function<void(Config& tree, Config& changes, Diagnostics& problems)>;
Config load_config(const std::string& path, const std::vector<std::string>& overrides,
                   Diagnostics& problems, const BeforeOverrides& before);
/// The same; warnings are dropped.
Config load_config(const std::string& path, const std::vector<std::string>& overrides = {});

/// Warns of each top-level key that is not among `known_keys` and that nothing refers to, by
/// `{{_base_.key}}` or an alias, and of each that got another value after that; all keys of a
/// dumped config (no `_base_`, with `default_scope` and `model`) pass, because MMEngine keeps the
/// variables of the original in it. An override of a key
/// that is not among `known_keys` is an error: it comes too late for those who refer to it.
void check_variables(const Config& config, const std::vector<std::string>& overrides,
                     const std::vector<std::string>& known_keys, Diagnostics& problems);

/// Reads one YAML text without bases; `name` stands for the file in messages.
/// \throws ConfigError
Config parse_config(const std::string& text, const std::string& name = "<text>");

/// Remarks by the dotted path of a value with a key; those of "" are on all of the tree.
using YamlComments = std::map<std::string, std::vector<std::string>>;

/// Block-style YAML that reads back to the same tree. With `origins`, each scalar is followed by
/// a comment of where it was written; with `python_tuples`, tuples keep their `!!python/tuple` tag.
/// Remarks become comments behind their values and at the top.
std::string dump_yaml(const Config& config, bool origins = false, bool python_tuples = false,
                      const YamlComments& comments = {});

/// One line of flow-style YAML: {type: BN, requires_grad: true}.
std::string dump_flow(const Config& config);

}  // namespace seg
