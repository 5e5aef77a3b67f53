// --cfg-options, as MMEngine's DictAction and merge_from_dict have them.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "registry/yaml.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

class Overrides : public ::testing::Test {
 protected:
  Overrides() {
    file_ = dir_.write("a.yaml",
                       "a: {b: 1, c: [10, {d: 20}]}\n"
                       "s: text\n"
                       "n: null\n"
                       "t: !!python/tuple [1, 2]\n");
  }
  Config load(const std::vector<std::string>& overrides) { return load_config(file_, overrides); }
  std::string error(const std::vector<std::string>& overrides) {
    std::string found = test::config_error([&] { load(overrides); });
    const std::string prefix = dir_.path().string() + "/";
    if (const size_t at = found.find(prefix); at != std::string::npos)
      found.erase(at, prefix.size());
    return found;
  }
  test::TempDir dir_;
  std::string file_;
};

TEST_F(Overrides, ReadValuesAsDictAction) {
  const struct {
    const char* given;
    const char* read;
  } table[] = {
      {"1", "1"},
      {"-2", "-2"},
      {"1_000", "1_000"},
      {"1.5", "1.5"},
      {"1e-3", "1.0e-3"},
      {"6e-05", "6.0e-05"},
      {".5", ".5"},
      {"inf", ".inf"},
      {"-Infinity", "-.inf"},
      {"nan", ".nan"},
      {"true", "true"},
      {"FALSE", "false"},
      {"True", "true"},
      {"None", "null"},
      {"none", "none"},
      {"yes", "'yes'"},
      {"0x10", "'0x10'"},
      {"", "''"},
      {"text", "text"},
      {"a=b", "a=b"},
      {"path/to x/y", "path/to x/y"},
      {"'1'", "1"},
      {"\"text\"", "text"},
      {"1,2,3", "[1, 2, 3]"},
      {"1,", "[1]"},
      {"a, b", "[a, b]"},
      {"[a, b, c]", "[a, b, c]"},
      {"['a','b']", "[a, b]"},
      {"'[1, 2]'", "[1, 2]"},
      {"(1)", "[1]"},
      {"[]", "[]"},
      {"()", "[]"},
      {"{}", "{}"},
      {"[{}, { }]", "[{}, {}]"},
      {"'{}'", "'{}'"},
      {"{x}", "'{x}'"},
      {"\"{a: 1}\"", "'{a: 1}'"},
      {"iter_{iter:06d}.pth", "'iter_{iter:06d}.pth'"},
      {"[(1, 2), [a, b], c]", "[[1, 2], [a, b], c]"},
      {"(1,2),(3,4)", "[[1, 2], [3, 4]]"},
      {"[[1,2],[3,[4,None]]]", "[[1, 2], [3, [4, null]]]"},
      {"[True, 1e3, x]", "[true, 1.0e+3, x]"},
  };
  for (const auto& row : table) {
    const Config tree = load({std::string("x.y=") + row.given});
    EXPECT_EQ(dump_flow(*tree.at_path("x.y")), row.read) << row.given;
  }
  EXPECT_TRUE(load({"x=(1,2)"}).at_path("x")->is_tuple);
  EXPECT_FALSE(load({"x=1,2"}).at_path("x")->is_tuple);
}

TEST_F(Overrides, ReachIntoMappingsAndLists) {
  EXPECT_EQ(dump_flow(*load({"a.b=2", "a.new.key=3"}).at_path("a")),
            "{b: 2, c: [10, {d: 20}], new: {key: 3}}");
  EXPECT_EQ(dump_flow(*load({"a.c.0=11", "a.c.1.d=21", "a.c.1.e=x"}).at_path("a.c")),
            "[11, {d: 21, e: x}]");
  EXPECT_EQ(dump_flow(*load({"t.1=5"}).at_path("t")), "[1, 5]");
  EXPECT_EQ(dump_flow(*load({"a=1"}).at_path("a")), "1");
  // Digits are a key like another in a mapping.
  EXPECT_EQ(dump_flow(*load({"a.0=1"}).at_path("a")), "{b: 1, c: [10, {d: 20}], 0: 1}");
  // The last one holds.
  EXPECT_EQ(dump_flow(*load({"s=1", "s=2"}).at_path("s")), "2");
}

TEST_F(Overrides, DeleteWhereAsked) {
  EXPECT_EQ(dump_flow(*load({"a._delete_=True", "a.x=1"}).at_path("a")), "{x: 1}");
  EXPECT_EQ(dump_flow(*load({"s._delete_=True", "s.x=1"}).at_path("s")), "{x: 1}");
}

TEST_F(Overrides, AreKnownByTheirNumber) {
  const Config tree = load({"s=1", "a.b=2"});
  EXPECT_EQ(tree.at_path("a.b")->origin.text(), "--cfg-options #2");
  ASSERT_EQ(tree.at_path("a.b")->history.size(), 1u);
  EXPECT_EQ(tree.at_path("a.b")->history[0].shown, "1");
}

TEST_F(Overrides, ReportErrors) {
  const struct {
    std::vector<std::string> given;
    const char* message;
  } table[] = {
      {{"a.c.2=1"},
       "--cfg-options #1: error: a.c.2: index 2 is beyond the end of the list a.c, which has 2 "
       "elements"},
      {{"x=1", "a.c.99999999999999999999=1"},
       "--cfg-options #2: error: a.c.99999999999999999999: index 99999999999999999999 is beyond "
       "the "
       "end of the list a.c, which has 2 elements"},
      {{"a.c.d=1"},
       "--cfg-options #1: error: a.c.d: a.c is a list; use the index of an element, from 0 to "
       "1, instead of 'd'"},
      {{"s.x=1"},
       "--cfg-options #1: error: s: cannot merge a mapping into the value text (a.yaml:2:4). Add "
       "'_delete_: true' to replace it"},
      {{"n.x=1"},
       "--cfg-options #1: error: n: cannot merge a mapping into null (a.yaml:3:4). Add "
       "'_delete_: true' to replace it"},
      {{"x=1", "x.y=2"},
       "--cfg-options #2: error: x.y: x was set to 1 by --cfg-options #1 and cannot have 'y'"},
      {{"x=[1,2"}, "--cfg-options #1: error: x: the brackets in [1,2 do not match"},
      {{"x=[1,2)"}, "--cfg-options #1: error: x: the brackets in [1,2) do not match"},
      {{"x=([1)]"}, "--cfg-options #1: error: x: the brackets in ([1)] do not match"},
      {{"a..b=1"}, "--cfg-options #1: error: a..b: a part of the key between the dots is empty"},
      {{"=1"}, "--cfg-options #1: error: a part of the key between the dots is empty"},
      {{"word"}, "--cfg-options #1: error: expected KEY=VALUE, got 'word'"},
      {{"a.c={}"},
       "--cfg-options #1: error: a.c: cannot merge a mapping into a list (a.yaml:1:14). Add "
       "'_delete_: true' to replace it"},
      {{"n={}"},
       "--cfg-options #1: error: n: cannot merge a mapping into null (a.yaml:3:4). Add "
       "'_delete_: true' to replace it"},
      {{"x={a: 1, b: 2}"},
       "--cfg-options #1: error: x: a mapping is given key by key, as 'x.KEY=VALUE'; only an "
       "empty one, {}, is a value of its own: got {a: 1, b: 2}"},
      {{"x=[{'type': A}]"},
       "--cfg-options #1: error: x: a mapping is given key by key, as 'x.KEY=VALUE'; only an "
       "empty one, {}, is a value of its own: got [{'type': A}]"},
  };
  for (const auto& row : table) {
    EXPECT_EQ(error(row.given), std::string(row.message) + "\n1 error in the configuration");
  }
}

TEST_F(Overrides, WarnOfNullReadAsAString) {
  Diagnostics problems;
  const Config tree = load_config(file_, {"s=null"}, problems);
  EXPECT_EQ(tree.at_path("s")->kind, Config::Kind::kString);
  EXPECT_EQ(problems.warnings_text(),
            "--cfg-options #1: warning: s: 'null' is taken as a string; write None for no value");
}

TEST_F(Overrides, OfEmptyMappingsAndListsReachTheConfig) {
  Diagnostics problems;
  const Config tree = load_config(file_, {"a={}", "fresh={}", "s=[]", "a.c=[]"}, problems);
  EXPECT_EQ(problems.warnings_text(), "");  // the last of a.c is a key in the mapping
  EXPECT_EQ(dump_flow(*tree.at_path("fresh")), "{}");
  EXPECT_EQ(dump_flow(*tree.at_path("s")), "[]");
  EXPECT_EQ(dump_flow(*tree.at_path("a.c")), "[]");
  const Config unchanged = load_config(file_, {"a={}"}, problems);
  EXPECT_EQ(dump_flow(*unchanged.at_path("a")), "{b: 1, c: [10, {d: 20}]}");
  EXPECT_EQ(problems.warnings_text(),
            "--cfg-options #1: warning: a: an empty mapping over one with keys changes nothing; "
            "'_delete_: true' in it empties that");
}

TEST_F(Overrides, AreBounded) {
  EXPECT_EQ(
      error({"x=" + std::string(5000, '[') + std::string(5000, ']')}),
      "--cfg-options #1: error: x: lists are nested too deeply\n1 error in the configuration");
  std::string key = "k";
  for (int i = 0; i < 5000; ++i) key += ".k";
  EXPECT_NE(error({key + "=1"}).find("the key has too many parts"), std::string::npos);
}

}  // namespace
}  // namespace seg
