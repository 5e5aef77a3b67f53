// Damaged configurations: each is read or refused with a message, and what was read can be written.
#include <gtest/gtest.h>

#include <fstream>

#include "registry/yaml.hpp"
#include "tests/support/largest_request.hpp"
#include "tests/support/mutations.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

TEST(MutatedYaml, IsReadOrRefused) {
  for (const char* name : {"configs/_base_/default_runtime.yaml",
                           "configs/segformer/b0_camvid.yaml", "configs/weights/swin.yaml"}) {
    SCOPED_TRACE(name);
    std::ifstream in(source_path(name), std::ios::binary);
    const std::string original{std::istreambuf_iterator<char>(in), {}};
    ASSERT_FALSE(original.empty());
    std::mt19937 random(1);
    int read = 0, refused = 0;
    for (int i = 0; i < 700; ++i) {
      const std::string bytes = test::mutated(original, random);
      Config config;
      test::largest_request = 0;
      try {
        config = parse_config(bytes);
      } catch (const ConfigError& error) {
        EXPECT_STRNE(error.what(), "");
        EXPECT_LE(test::largest_request, test::request_limit(bytes.size()));
        ++refused;
        continue;
      }
      EXPECT_LE(test::largest_request, test::request_limit(bytes.size()));
      ++read;
      const std::string written = dump_yaml(config);
      EXPECT_EQ(dump_yaml(parse_config(written)), written);
    }
    EXPECT_GT(read, 0);
    EXPECT_GT(refused, 0);
  }
}

}  // namespace
}  // namespace seg
