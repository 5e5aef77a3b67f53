/// Configs as people write them in repositories of their own: with data set classes, trackers,
/// other scripts and odd formatting. Each is resolved as MMEngine resolves it, and can be built.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "registry/python_json.hpp"
#include "registry/yaml.hpp"
#include "segcore/io/sha256.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {
namespace {

using ::testing::HasSubstr;

struct RepositoryConfig {
  std::string digest, name;
  std::vector<std::string> warnings;  // parts of each, in order
};

std::string repository_folder() { return source_path("tests/data/repository_configs"); }

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) out.push_back(part);
  return out;
}

std::vector<RepositoryConfig> repository_configs() {
  std::vector<RepositoryConfig> out;
  std::ifstream in(repository_folder() + "/digests.tsv");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    const std::vector<std::string> columns = split(line, '\t');
    out.push_back({columns.at(0), columns.at(1), {columns.begin() + 2, columns.end()}});
  }
  return out;
}

TEST(RepositoryConfigs, AreResolvedAsMmengineResolvesThem) {
  const std::vector<RepositoryConfig> configs = repository_configs();
  ASSERT_EQ(configs.size(), 20u);
  for (const RepositoryConfig& config : configs) {
    const Config tree = load_config(repository_folder() + "/" + config.name);
    EXPECT_EQ(sha256_of_text(python_json(tree)).substr(0, config.digest.size()), config.digest)
        << config.name;
  }
}

class RepositoryConfigCheck : public ::testing::TestWithParam<RepositoryConfig> {};

TEST_P(RepositoryConfigCheck, AllPartsCanBeBuilt) {
  const RepositoryConfig& config = GetParam();
  const CommandResult checked =
      run_command("cd " + repository_folder() + " && OMP_NUM_THREADS=1 " +
                  program_path("print_config") + " '" + config.name + "' --check 2>&1");
  EXPECT_EQ(checked.status, 0) << checked.output;
  EXPECT_THAT(checked.output, HasSubstr(config.name + ": all parts can be built\n"));
  std::vector<std::string> warnings;
  for (const std::string& line : split(checked.output, '\n')) {
    if (line.find("WARNING") != std::string::npos) warnings.push_back(line);
  }
  ASSERT_EQ(warnings.size(), config.warnings.size()) << checked.output;
  for (size_t i = 0; i < warnings.size(); ++i) {
    EXPECT_THAT(warnings[i], HasSubstr(config.warnings[i]));
  }
}

INSTANTIATE_TEST_SUITE_P(All, RepositoryConfigCheck, ::testing::ValuesIn(repository_configs()),
                         [](const auto& info) {
                           std::string name;
                           for (const char c : info.param.name) {
                             if (std::isalnum(static_cast<unsigned char>(c))) name += c;
                           }
                           return name;
                         });

}  // namespace
}  // namespace seg::test
