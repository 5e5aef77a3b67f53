// Reading one YAML text: kinds of scalars, tags, anchors, and the errors of a wrong text.
#include <gtest/gtest.h>

#include <string>

#include "registry/yaml.hpp"
#include "tests/support/config_errors.hpp"

namespace seg {
namespace {

using Kind = Config::Kind;
using test::config_error;

std::string parse_error(const std::string& yaml) {
  return config_error([&] { parse_config(yaml, "a.yaml"); });
}

std::string only_error(const std::string& line) { return line + "\n1 error in the configuration"; }

TEST(YamlReader, TypesPlainScalarsByTheCoreSchema) {
  const struct {
    const char* text;
    Kind kind;
  } table[] = {
      {"~", Kind::kNull},         {"null", Kind::kNull},       {"Null", Kind::kNull},
      {"true", Kind::kBool},      {"False", Kind::kBool},      {"TRUE", Kind::kBool},
      {"1", Kind::kInt},          {"-17", Kind::kInt},         {"+3", Kind::kInt},
      {"160_000", Kind::kInt},    {"0x1F", Kind::kInt},        {"0o17", Kind::kInt},
      {"007", Kind::kInt},        {"1e-3", Kind::kFloat},      {"6e-05", Kind::kFloat},
      {"1.0e-06", Kind::kFloat},  {".5", Kind::kFloat},        {"5.", Kind::kFloat},
      {"-1.5E+10", Kind::kFloat}, {".inf", Kind::kFloat},      {"-.Inf", Kind::kFloat},
      {".nan", Kind::kFloat},     {"yes", Kind::kString},      {"no", Kind::kString},
      {"on", Kind::kString},      {"off", Kind::kString},      {"nULL", Kind::kString},
      {"tRUE", Kind::kString},    {"1_", Kind::kString},       {"_1", Kind::kString},
      {"1__0", Kind::kString},    {"e5", Kind::kString},       {"1e", Kind::kString},
      {".", Kind::kString},       {"+", Kind::kString},        {"0x", Kind::kString},
      {"0xG", Kind::kString},     {"0o8", Kind::kString},      {"1:30", Kind::kString},
      {"inf", Kind::kString},     {"1.2.3", Kind::kString},    {"2026-01-31", Kind::kString},
      {"'1'", Kind::kString},     {"\"true\"", Kind::kString}, {"''", Kind::kString},
      {"!!str 1", Kind::kString}, {"!!float 1", Kind::kFloat}, {"!!int 1", Kind::kInt},
  };
  for (const auto& row : table) {
    EXPECT_EQ(parse_config(std::string("a: ") + row.text).find("a")->value.kind, row.kind)
        << row.text;
  }
  EXPECT_EQ(parse_config("a:").find("a")->value.kind, Kind::kNull);
}

TEST(YamlReader, ReadsNumbersByTheirValue) {
  const auto read_int = [](const char* text) {
    Diagnostics problems;
    return Convert<int64_t>::from(parse_config(text), "", problems).value_or(-1);
  };
  EXPECT_EQ(read_int("160_000"), 160000);
  EXPECT_EQ(read_int("0x1F"), 31);
  EXPECT_EQ(read_int("0o17"), 15);
  EXPECT_EQ(read_int("+3"), 3);
  EXPECT_EQ(read_int("9007199254740993"), 9007199254740993);  // not a double
  EXPECT_EQ(read_int("2.0"), 2);
  EXPECT_EQ(read_int("1e3"), 1000);
  const auto read_float = [](const char* text) {
    Diagnostics problems;
    return Convert<double>::from(parse_config(text), "", problems).value_or(-1);
  };
  EXPECT_EQ(read_float("6e-05"), 6e-5);
  EXPECT_EQ(read_float("+1_0.5"), 10.5);
  EXPECT_EQ(read_float("1e-400"), 0.0);
  EXPECT_EQ(read_float("3"), 3.0);
}

TEST(YamlReader, ReadsEscapesAsUtf8) {
  EXPECT_EQ(parse_config(R"("\_\N\u00e9\x41\L")").scalar,
            "\xC2\xA0\xC2\x85\xC3\xA9"
            "A\xE2\x80\xA8");
}

TEST(YamlReader, KnowsFileLineAndColumn) {
  const Config c = parse_config("a: 1\nb:\n  - x\n  - {c: 2}\n", "dir/a.yaml");
  EXPECT_EQ(c.find("a")->value.origin.text(), "dir/a.yaml:1:4");
  EXPECT_EQ(c.find("a")->key_origin.text(), "dir/a.yaml:1:1");
  EXPECT_EQ(c.at_path("b.0")->origin.text(), "dir/a.yaml:3:5");
  EXPECT_EQ(c.at_path("b.1.c")->origin.text(), "dir/a.yaml:4:9");
}

TEST(YamlReader, ReadsTuplesAsMarkedLists) {
  const Config c = parse_config("size: !!python/tuple\n- 360\n- 480\nb: !!python/tuple [1, 2]\n");
  EXPECT_TRUE(c.find("size")->value.is_tuple);
  EXPECT_EQ(dump_flow(c), "{size: [360, 480], b: [1, 2]}");
}

TEST(YamlReader, ResolvesAnchorsAliasesAndMergeKeys) {
  const Config c = parse_config(
      "a: &a {x: 1, y: 2}\n"
      "b: &b {y: 3, z: 4}\n"
      "one: {<<: *a, y: 5}\n"
      "both: {w: 0, <<: [*a, *b]}\n"
      "list: [*a, &n 7, *n]\n");
  EXPECT_EQ(dump_flow(*c.at_path("one")), "{x: 1, y: 5}");
  EXPECT_EQ(dump_flow(*c.at_path("both")), "{w: 0, x: 1, y: 2, z: 4}");
  EXPECT_EQ(dump_flow(*c.at_path("list")), "[{x: 1, y: 2}, 7, 7]");
  // An alias stands for the value where it was written.
  EXPECT_EQ(c.at_path("one.x")->origin.line, 1);
  // In quotes it is a key like another.
  EXPECT_EQ(dump_flow(parse_config("{'<<': 1}")), "{'<<': 1}");
}

TEST(YamlReader, MarksTopLevelKeysThatAliasesRepeatAsUsed) {
  const Config c = parse_config("a: &a 1\nb: &b 2\nc: [*a]\n");
  EXPECT_TRUE(c.find("a")->used);
  EXPECT_FALSE(c.find("b")->used);
  EXPECT_FALSE(c.find("c")->used);
}

TEST(YamlReader, ReadsNothingAsNull) {
  EXPECT_TRUE(parse_config("").is_null());
  EXPECT_TRUE(parse_config("# a comment\n").is_null());
}

TEST(YamlReader, ReportsErrorsWithTheirPlace) {
  const struct {
    const char* yaml;
    const char* message;
  } table[] = {
      {"a: 1\nb: {c: 1, d\n", "a.yaml:3:1: error: not valid YAML: a '}' or a ',' is missing"},
      {"a: [1, 2\n", "a.yaml:2:1: error: not valid YAML: a ']' or a ',' is missing"},
      {"a: b: c\n",
       "a.yaml:1:5: error: not valid YAML: a ':' where no key can stand; check the indentation and "
       "the quotes"},
      {"a: 'b\n", "a.yaml:1:4: error: not valid YAML: these quotes are not closed"},
      {"a: !!str \"b\\\"\n", "a.yaml:1:4: error: not valid YAML: these quotes are not closed"},
      {"a: 'b", "a.yaml:1:6: error: not valid YAML: a closing quote is missing"},
      {"- a\nb: c\n",
       "a.yaml:2:1: error: not valid YAML: this does not continue what stands above it; check the "
       "indentation"},
      {"a:\n\tb: 1\n", "a.yaml:2:3: error: not valid YAML: a tab in the indentation; use spaces"},
      {"a: @b\n",
       "a.yaml:1:4: error: not valid YAML: a character that cannot begin a value; put the text in "
       "quotes"},
      {"a: *b\n",
       "a.yaml:1:4: error: not valid YAML: '*' refers to an anchor that is not defined above"},
      {"a: &x [*x]\n", "a.yaml:1:8: error: a.0: '*' refers to the very value that it stands in"},
      {"m:\n  a: 1\n  b: 2\n  a: 3\n",
       "a.yaml:4:3: error: m.a: this key is there twice; it was first given in line 2"},
      {"{[1, 2]: 3}\n",
       "a.yaml:1:2: error: a key must be a text, not a list or mapping; text with brackets needs "
       "quotes"},
      {"a: 1\n~: 2\n", "a.yaml:2:1: error: a key must be a text"},
      {"a: !!python/object:os.system {}\n",
       "a.yaml:1:4: error: a: values with the tag !!python/object:os.system cannot be read; write "
       "plain texts, numbers, lists and mappings"},
      {"a: !!int x\n", "a.yaml:1:4: error: a: 'x' is not of the type !!int"},
      {"a: {<<: 3}\n", "a.yaml:1:9: error: a: '<<' takes a mapping or a list of mappings"},
      {"a: 1\n---\nb: 2\n", "a.yaml:3:1: error: a second document ('---'); one file holds one"},
      {"a: \x01\n",
       "a.yaml:1:4: error: this is no YAML text: it holds a control character (byte value 1)"},
      {"a: 1\nb: \xff\n",
       "a.yaml:2:4: error: this is no YAML text in UTF-8: it holds the byte value 255"},
  };
  for (const auto& row : table)
    EXPECT_EQ(parse_error(row.yaml), only_error(row.message)) << row.yaml;
  EXPECT_EQ(parse_error("a: 1\n" + std::string(251, 'k') + ": 2\n"),
            only_error("a.yaml:2:1: error: a key of more than 250 bytes; is a bracket or a quote "
                       "missing before it?"));
}

TEST(YamlReader, ReportsSeveralErrorsAtOnce) {
  EXPECT_EQ(parse_error("a: 1\na: 2\nb: !x 1\n"),
            "a.yaml:2:1: error: a: this key is there twice; it was first given in line 1\n"
            "a.yaml:3:4: error: b: values with the tag !x cannot be read; write plain texts, "
            "numbers, lists and mappings\n"
            "2 errors in the configuration");
}

TEST(YamlReader, BoundsDepthAndSize) {
  const std::string deep = "a: " + std::string(200, '[') + std::string(200, ']');
  EXPECT_EQ(
      parse_error(deep),
      only_error("a.yaml:1:103: error: lists and mappings are nested deeper than 100 levels"));
  EXPECT_NE(parse_error(std::string(100000, '[')), "no error");
  EXPECT_NE(parse_error(std::string(100000, '{')), "no error");
  // Nine levels of nine would be 387 million values.
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    std::string list;
    for (int k = 0; k < 9; ++k) list += text(k ? ", " : "", "*a", i - 1);
    bomb += text("a", i, ": &a", i, " [", list, "]\n");
  }
  EXPECT_EQ(parse_error(bomb),
            only_error("a.yaml:6:40: error: a5.6: more than 500000 values; aliases within aliases "
                       "multiply"));
}

}  // namespace
}  // namespace seg
