#include <gtest/gtest.h>

#include "registry/yaml.hpp"

namespace seg {
namespace {

TEST(YamlEscapes, PairsOfJsonAreOneCharacter) {
  const Config config =
      parse_config(R"({"a": "\ud83d\ude00!", "b": "\u00e9", "c": "\\ud83d\\ude00"})");
  EXPECT_EQ(config.find("a")->value.scalar, "\xF0\x9F\x98\x80!");
  EXPECT_EQ(config.find("b")->value.scalar, "\xC3\xA9");
  EXPECT_EQ(config.find("c")->value.scalar, R"(\ud83d\ude00)");
  EXPECT_THROW(parse_config(R"({"a": "\ud83d"})"), ConfigError);
}

}  // namespace
}  // namespace seg
