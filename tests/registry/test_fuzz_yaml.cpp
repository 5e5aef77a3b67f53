// Texts that somebody damaged: each is read or refused with a message, and what is read can be
// written and read again.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "registry/yaml.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

/// SplitMix64, so that the texts are the same everywhere.
class TextMutator {
 public:
  explicit TextMutator(uint64_t seed) : state_(seed) {}
  size_t below(size_t n) { return static_cast<size_t>(next() % n); }

  std::string mutated(std::string s) {
    static const std::vector<std::string> kPieces{"{",
                                                  "}",
                                                  "[",
                                                  "]",
                                                  ":",
                                                  ": ",
                                                  ",",
                                                  "- ",
                                                  "\n",
                                                  "\n  ",
                                                  "'",
                                                  "\"",
                                                  "&a ",
                                                  "*a",
                                                  "<<: *a",
                                                  "!!python/tuple ",
                                                  "!x ",
                                                  "{{",
                                                  "}}",
                                                  "{{_base_.a}}",
                                                  "|",
                                                  ">",
                                                  "#",
                                                  "%",
                                                  "---\n",
                                                  "...\n",
                                                  "\t",
                                                  "?",
                                                  "? ",
                                                  "\\",
                                                  "~",
                                                  "1e999",
                                                  "_base_: x\n",
                                                  "_delete_: true\n",
                                                  "\xFF",
                                                  "\xC3",
                                                  std::string(1, '\0'),
                                                  "\xEF\xBB\xBF",
                                                  "0x",
                                                  "..",
                                                  "@",
                                                  "`",
                                                  "\r\n"};
    const size_t changes = 1 + below(4);
    for (size_t i = 0; i < changes && !s.empty(); ++i) {
      const size_t at = below(s.size());
      switch (below(6)) {
        case 0:
          s[at] = static_cast<char>(next());
          break;
        case 1:
          s.erase(at, 1 + below(20));
          break;
        case 2:
          s.insert(at, kPieces[below(kPieces.size())]);
          break;
        case 3:
          s.resize(at);
          break;
        case 4:
          s.insert(at, s.substr(below(s.size()), below(40)));
          break;
        default:
          s.insert(at, std::string(1 + below(300), s[at]));
      }
    }
    return s;
  }

 private:
  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15ULL;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  uint64_t state_;
};

const char* const kSeedTexts[] = {
    "a: &a {x: 1, y: [2, 3.5]}\nb:\n- 1\n- - 2\n  - {c: null}\n- *a\nd: {<<: *a, z: 'q'}\n",
    "_base_: [base.yaml]\nmodel:\n  type: X\n  size: !!python/tuple\n  - 1\n  - 2\n"
    "  n: {{_base_.n}}\n  t: 'x{{ fileBasename }}y'\n  e: {{$SEG_FUZZ:1e-3}}\n",
    "text: |\n  lines\n  of text\nfolded: >-\n  more\n  text\n\"quoted \\n key\": \"\\u00e9 "
    "\\x41\"\n",
    "? complex\n: value\nnested: {a: {b: {c: [[[[1]]]]}}}\nlist: [a, b, {c: d}, 'e', \"f\"]\n"};

TEST(FuzzYaml, DamagedTextsAreReadOrRefused) {
  size_t read = 0, refused = 0;
  TextMutator mutator(1);
  for (int i = 0; i < 4000; ++i) {
    const std::string yaml = mutator.mutated(kSeedTexts[mutator.below(4)]);
    Config tree;
    try {
      tree = parse_config(yaml);
      ++read;
    } catch (const ConfigError& e) {
      EXPECT_FALSE(e.diagnostics.list().empty());
      ++refused;
      continue;
    }
    const std::string written = dump_yaml(tree, false, true);
    ASSERT_NO_THROW({
      const Config again = parse_config(written);
      EXPECT_EQ(dump_yaml(again, false, true), written) << yaml;
      EXPECT_EQ(dump_flow(parse_config(dump_flow(tree))), dump_flow(tree)) << yaml;
    }) << "from:\n"
       << yaml << "\nwritten:\n"
       << written;
  }
  EXPECT_GT(read, 300u);
  EXPECT_GT(refused, 300u);
}

TEST(FuzzYaml, DamagedFilesAreResolvedOrRefused) {
  const test::TempDir dir;
  dir.write("base.yaml", "n: 3\na: {b: [1, 2]}\nmodel: {type: Y, k: 1}\n");
  TextMutator mutator(2);
  for (int i = 0; i < 1000; ++i) {
    const std::string file = dir.write("a.yaml", mutator.mutated(kSeedTexts[mutator.below(4)]));
    const std::string overrides = mutator.mutated("model.size=[1,(2,3)]");
    try {
      load_config(file, {overrides, mutator.mutated("a.b.0=x")});
    } catch (const ConfigError& e) {
      EXPECT_FALSE(e.diagnostics.list().empty());
    }
  }
}

}  // namespace
}  // namespace seg
