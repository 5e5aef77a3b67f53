/// Configuration files of a test, and what is said of them. Messages name files by the paths that
/// they were given; the tests' own folder is cut off.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "registry/yaml.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {

class ConfigFiles : public ::testing::Test {
 protected:
  std::string without_dir(std::string s) const {
    const std::string prefix = dir_.path().string() + "/";
    for (size_t at = s.find(prefix); at != std::string::npos; at = s.find(prefix)) {
      s.erase(at, prefix.size());
    }
    return s;
  }
  Config load(const std::string& name, const std::vector<std::string>& overrides = {}) {
    return load_config(dir_ / name, overrides);
  }
  std::string flow(const std::string& name) { return dump_flow(load(name)); }
  std::string error(const std::string& name, const std::vector<std::string>& overrides = {}) {
    std::string found = without_dir(config_error([&] { load(name, overrides); }));
    const std::string one = "\n1 error in the configuration";
    return found.ends_with(one) ? found.substr(0, found.size() - one.size()) : found;
  }
  /// Warnings of keys that are not among `known`, and errors.
  std::string warnings(const std::string& name, const std::vector<std::string>& known,
                       const std::vector<std::string>& overrides = {}) {
    Diagnostics problems;
    const Config tree = load_config(dir_ / name, overrides, problems);
    check_variables(tree, overrides, known, problems);
    return without_dir(problems.warnings_text() + (problems.has_errors() ? problems.text() : ""));
  }
  std::string origin(const Config& tree, const std::string& path) const {
    return without_dir(tree.at_path(path)->origin.text());
  }
  TempDir dir_;
};

}  // namespace seg::test
