/// The space of a sweep: what it reads, draws and names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "registry/yaml.hpp"
#include "registry/yaml_scalar.hpp"
#include "runners/sweep/names.hpp"
#include "runners/sweep/space.hpp"

namespace seg::test {
namespace {

using ::testing::ElementsAre;

/// Reads `yaml`; the errors, if there are any, go to `errors`.
SweepSpace read_space(const std::string& yaml, std::string* errors = nullptr) {
  Diagnostics problems;
  auto space = Convert<SweepSpace>::from(parse_config(yaml, "s.yaml"), "space", problems);
  if (errors) *errors = problems.has_errors() ? problems.text() : "";
  return space.value_or(SweepSpace());
}

std::vector<std::string> keys_of(const SweepSpace& space) {
  std::vector<std::string> out;
  for (const SweepDimension& dimension : space.dimensions) out.push_back(dimension.key);
  return out;
}

TEST(SweepSpaceTest, KeysAreDottedOrNested) {
  const SweepSpace space = read_space(
      "b.lr: [1, 2]\n"
      "a: {c: {d: [x]}, lr: {log_uniform: [0.001, 1]}}\n"
      "b: {lr: [3]}\n");
  EXPECT_THAT(keys_of(space), ElementsAre("b.lr", "a.c.d", "a.lr"));
  ASSERT_EQ(space.dimensions[0].choices.size(), 1u);
  EXPECT_EQ(space.dimensions[0].choices[0].scalar, "3");
}

TEST(SweepSpaceTest, ElementsOfListsMayBeAnything) {
  const SweepSpace space = read_space("a: [{type: X, p: 1}, null, [1, 2]]\n");
  EXPECT_EQ(space.dimensions[0].choices.size(), 3u);
  EXPECT_EQ(value_label(space.dimensions[0].choices[0]), "X");
  EXPECT_EQ(value_label(space.dimensions[0].choices[1]), "null");
  EXPECT_EQ(value_label(space.dimensions[0].choices[2]), "1x2");
}

TEST(SweepSpaceTest, ReportsWhatIsNoDistribution) {
  const auto errors = [](const std::string& yaml) {
    std::string out;
    read_space(yaml, &out);
    return out;
  };
  EXPECT_EQ(errors("a: {uniform: [1, 0]}\n"),
            "s.yaml:1:14: error: space.a.uniform: the first number must be below the second\n"
            "1 error in the configuration");
  EXPECT_EQ(errors("a: {int: [1, 2], unifrm: [0, 1]}\n"),
            "s.yaml:1:18: error: space.a: there is no distribution 'unifrm'. Did you mean "
            "'uniform'? Known: uniform, log_uniform, int, choice\n1 error in the configuration");
  EXPECT_EQ(errors("a: {int: [1, 2], uniform: [0, 1]}\n"),
            "s.yaml:1:4: error: space.a: has more than one distribution\n"
            "1 error in the configuration");
  EXPECT_EQ(errors("a: {int: [1, 2.5]}\n"),
            "s.yaml:1:14: error: space.a.int.1: expected int, got 2.5\n"
            "1 error in the configuration");
  EXPECT_EQ(errors("a: []\n"),
            "s.yaml:1:4: error: space.a: has no values\n1 error in the configuration");
  EXPECT_EQ(errors("- {a: 1}\n- 2\n"),
            "s.yaml:2:3: error: space.1: expected mapping of keys to values, got 2\n"
            "1 error in the configuration");
}

TEST(SweepSpaceTest, DrawsFillTheirRanges) {
  const SweepSpace space = read_space(
      "lr: {log_uniform: [1.0e-4, 1.0]}\n"
      "n: {int: [2, 4]}\n"
      "p: {uniform: [-1, 1]}\n"
      "c: {choice: [a, b]}\n");
  size_t below = 0;
  std::set<std::string> whole, words;
  double sum = 0;
  constexpr uint64_t kTrials = 400;
  for (uint64_t trial = 0; trial < kTrials; ++trial) {
    const double lr = *detail::float_value(space.dimensions[0].draw(5, trial).scalar);
    EXPECT_TRUE(lr >= 1e-4 && lr <= 1.0) << lr;
    below += lr < 1e-2 ? 1 : 0;
    whole.insert(space.dimensions[1].draw(5, trial).scalar);
    sum += *detail::float_value(space.dimensions[2].draw(5, trial).scalar);
    words.insert(space.dimensions[3].draw(5, trial).scalar);
  }
  // Half of the decades are below 0.01.
  EXPECT_NEAR(static_cast<double>(below) / kTrials, 0.5, 0.08);
  EXPECT_NEAR(sum / kTrials, 0, 0.1);
  EXPECT_THAT(whole, ElementsAre("2", "3", "4"));
  EXPECT_THAT(words, ElementsAre("a", "b"));
}

/// More trials, or another key, change none of those before.
TEST(SweepSpaceTest, ADrawDependsOnItsKeyAndTrialAlone) {
  const SweepSpace one = read_space("lr: {uniform: [0, 1]}\n");
  const SweepSpace two = read_space("x: {uniform: [0, 1]}\nlr: {uniform: [0, 1]}\n");
  std::set<std::string> values;
  for (uint64_t trial = 0; trial < 20; ++trial) {
    const Config value = one.dimensions[0].draw(3, trial);
    EXPECT_EQ(value.scalar, two.dimensions[1].draw(3, trial).scalar);
    EXPECT_NE(value.scalar, two.dimensions[0].draw(3, trial).scalar);
    EXPECT_NE(value.scalar, one.dimensions[0].draw(4, trial).scalar);
    EXPECT_LE(value.scalar.size(), 9u) << value.scalar;  // four digits
    values.insert(value.scalar);
  }
  EXPECT_EQ(values.size(), 20u);
}

TEST(SweepNames, AreShortAndDistinct) {
  EXPECT_THAT(short_keys({"optim_wrapper.optimizer.lr", "model.decode_head.channels"}),
              ElementsAre("lr", "channels"));
  EXPECT_THAT(short_keys({"a.b.lr", "a.c.lr", "a.c.wd"}), ElementsAre("b.lr", "c.lr", "wd"));
  EXPECT_THAT(short_paths({"/x/configs/fcn/r18.yaml", "/x/configs/pspnet/r18.yaml", "/x/b.yaml"}),
              ElementsAre("fcn-r18", "pspnet-r18", "b"));
  EXPECT_EQ(run_name(3, 2, {"lr=0.1", "x=a b/c:d"}), "03_lr=0.1,x=a-b-c-d");
  EXPECT_EQ(run_name(12, 3, {}), "012");
  EXPECT_EQ(run_name(1, 2, {std::string(300, 'x')}).size(), 100u);
}

}  // namespace
}  // namespace seg::test
