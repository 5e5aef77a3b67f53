// Writing YAML: read back it is the same tree, and it looks as PyYAML writes it.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>

#include "registry/yaml.hpp"
#include "tests/support/paths.hpp"

namespace seg {
namespace {

void expect_same(const Config& a, const Config& b, const std::string& path) {
  ASSERT_EQ(a.kind, b.kind) << path;
  EXPECT_EQ(a.is_tuple, b.is_tuple) << path;
  ASSERT_EQ(a.list.size(), b.list.size()) << path;
  ASSERT_EQ(a.map.size(), b.map.size()) << path;
  if (a.is_scalar()) {
    EXPECT_EQ(dump_flow(a), dump_flow(b)) << path;
  }
  for (size_t i = 0; i < a.list.size(); ++i) {
    expect_same(a.list[i], b.list[i], text(path, ".", i));
  }
  for (size_t i = 0; i < a.map.size(); ++i) {
    EXPECT_EQ(a.map[i].key, b.map[i].key) << path;
    expect_same(a.map[i].value, b.map[i].value, path + "." + a.map[i].key);
  }
}

TEST(YamlWriter, WritesBlocksAsPyYamlDoes) {
  const std::string yaml =
      "a:\n"
      "  b: 1\n"
      "  c: []\n"
      "  d: {}\n"
      "e:\n"
      "- 1\n"
      "- - 2\n"
      "  - 3\n"
      "- f: 4\n"
      "  g:\n"
      "  - 5\n"
      "h: null\n";
  EXPECT_EQ(dump_yaml(parse_config(yaml)), yaml);
  EXPECT_EQ(dump_yaml(parse_config("{}")), "{}\n");
  EXPECT_EQ(dump_yaml(parse_config("[]")), "[]\n");
  EXPECT_EQ(dump_yaml(parse_config("3")), "3\n");
}

TEST(YamlWriter, KeepsTuplesWhereAsked) {
  const std::string yaml =
      "a: !!python/tuple\n"
      "- 1\n"
      "- !!python/tuple\n"
      "  - 2\n"
      "  - - 3\n"
      "b: !!python/tuple []\n";
  const Config c = parse_config(yaml);
  EXPECT_EQ(dump_yaml(c, false, true), yaml);
  EXPECT_EQ(dump_yaml(c), "a:\n- 1\n- - 2\n  - - 3\nb: []\n");
}

TEST(YamlWriter, ReportsTheOriginOfEachScalar) {
  EXPECT_EQ(dump_yaml(parse_config("a:\n- 1\n- {b: x}\nc: {}\n", "x.yaml"), true),
            "a:\n- 1  # x.yaml:2:3\n- b: x  # x.yaml:3:7\nc: {}  # x.yaml:4:4\n");
}

TEST(YamlWriter, QuotesTextsThatWouldBeReadAsSomethingElse) {
  const struct {
    const char* text;
    const char* written;
  } table[] = {
      {"plain text", "plain text"},
      {"", "''"},
      {"1", "'1'"},
      {"1e-3", "'1e-3'"},
      {"null", "'null'"},
      {"~", "'~'"},
      {"True", "'True'"},
      {"yes", "'yes'"},
      {"off", "'off'"},
      {"1:30", "'1:30'"},
      {"2026-01-31", "'2026-01-31'"},
      {"a: b", "'a: b'"},
      {"a #b", "'a #b'"},
      {"a:b#c", "a:b#c"},
      {"- a", "'- a'"},
      {"-a", "-a"},
      {"--x", "--x"},
      {"---", "'---'"},
      {"it's", "it's"},
      {"'it'", "'''it'''"},
      {" a", "' a'"},
      {"a:", "'a:'"},
      {"[a", "'[a'"},
      {"a,b", "'a,b'"},
      {"*a", "'*a'"},
      {"%a", "'%a'"},
      {"{{x}}", "\"\\x7B{x}}\""},
      {"a\nb\t\"\\", "\"a\\nb\\t\\\"\\\\\""},
      {"\x01", "\"\\x01\""},
      {"<<", "'<<'"},
      {"../a/b.yaml", "../a/b.yaml"},
      {"\xC3\xA9t\xC3\xA9", "\xC3\xA9t\xC3\xA9"},
  };
  for (const auto& row : table) {
    EXPECT_EQ(dump_flow(Config::of(row.text)), row.written);
    Config map;
    map.set(row.text, Config::of(row.text));
    const Config back = parse_config(dump_yaml(map));
    ASSERT_EQ(back.map.size(), 1u) << row.text;
    EXPECT_EQ(back.map[0].key, row.text);
    EXPECT_EQ(back.map[0].value.kind, Config::Kind::kString) << row.text;
    EXPECT_EQ(back.map[0].value.scalar, row.text);
  }
}

TEST(YamlWriter, WritesNumbersThatYaml11ReadsToo) {
  const struct {
    const char* given;
    const char* written;
  } table[] = {
      {"1e-3", "1.0e-3"},
      {"6e-05", "6.0e-05"},
      {"1E5", "1.0E+5"},
      {"1.5e3", "1.5e+3"},
      {".5", ".5"},
      {"1.0", "1.0"},
      {".inf", ".inf"},
      {"-.INF", "-.INF"},
      {"0x1F", "0x1F"},
      {"0o17", "15"},
      {"160_000", "160_000"},
      {"08", "08"},
      {"99999999999999999999", "99999999999999999999"},
  };
  for (const auto& row : table) EXPECT_EQ(dump_flow(parse_config(row.given)), row.written);
  EXPECT_EQ(dump_flow(Config::of(1.0)), "1.0");
  EXPECT_EQ(dump_flow(Config::of(1e-6)), "1.0e-06");
  EXPECT_EQ(dump_flow(Config::of(0.1)), "0.1");
  EXPECT_EQ(dump_flow(Config::of(-std::numeric_limits<double>::infinity())), "-.inf");
  EXPECT_EQ(dump_flow(Config::of(std::nan(""))), ".nan");
  EXPECT_EQ(dump_flow(Config::of(int64_t{-3})), "-3");
}

TEST(YamlWriter, KeepsKeysThatAreNumbersNumbersForPython) {
  EXPECT_EQ(dump_yaml(parse_config("{0: 255, '1': 0, 'yes': 1}")), "0: 255\n1: 0\n'yes': 1\n");
}

TEST(YamlWriter, WritesADumpOfMmengineBackByteForByte) {
  const std::string path = source_path("tests/data/registry/mmengine_dump.yaml");
  std::ifstream in(path, std::ios::binary);
  ASSERT_TRUE(in) << path;
  const std::string yaml{std::istreambuf_iterator<char>(in), {}};
  const Config tree = load_config(path);
  EXPECT_EQ(dump_yaml(tree, false, true), yaml);
  expect_same(parse_config(dump_yaml(tree, true, true)), tree, "");
  expect_same(parse_config(dump_flow(tree)), parse_config(dump_yaml(tree)), "");
}

}  // namespace
}  // namespace seg
