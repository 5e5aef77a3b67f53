#include "segcore/testing/reference.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "registry/error.hpp"
#include "segcore/testing/parity.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::reference {
namespace reference_test {

// --- The formulas: the golden values of the description of the fixtures
// ---------------------------

TEST(ReferenceFormulas, HashOfNames) {
  EXPECT_EQ(fnv1a("image"), 0x2ab612888528489au);
  EXPECT_EQ(fnv1a("conv1.weight"), 0x69a29a2cee47d254u);
}

TEST(ReferenceFormulas, UniformNumbers) {
  const auto of = [](const char* name) { return (uniform(name, 4) * 16777216.0).to(torch::kLong); };
  EXPECT_TRUE(torch::equal(of("image"),
                           torch::tensor({11605903, 15911145, 10591206, 835604}, torch::kLong)));
  EXPECT_TRUE(torch::equal(of("conv1.weight"),
                           torch::tensor({9144840, 12501739, 384562, 12351349}, torch::kLong)));
}

void expect_first(const torch::Tensor& tensor, const std::vector<double>& expected) {
  const auto flat = tensor.flatten();
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<double>(), expected[i],
                1e-8 * std::abs(expected[i]) + 1e-9);
  }
}

TEST(ReferenceFormulas, Weights) {
  const auto like = torch::empty({4, 3, 2, 2});
  expect_first(image({1, 3, 4, 4}), {0.767062902, 1.79351258, 0.525140285, -1.80077648});
  expect_first(weight_values("conv1.weight", like, 1), {0.0450749397, 0.245161712, -0.477078319});
  expect_first(weight_values("conv1.weight", like, 2), {0.0637455881, 0.34671101, -0.674690604});
  EXPECT_NEAR(weight_values("conv1.weight", like, 1).abs().sum().item<double>(), 10.958748161792755,
              1e-12);
  const auto four = torch::empty({4});
  expect_first(weight_values("bn1.weight", four, 1), {0.972040772, 1.06488180, 1.01383758});
  expect_first(weight_values("bn1.bias", four, 1), {-0.0655607581, -0.0919690877, 0.0743994266});
  expect_first(weight_values("bn1.running_var", four, 1), {1.07115376, 1.14337671, 1.23538947});
  expect_first(weight_values("pos_embed", torch::empty({1, 2, 4}), 1),
               {-0.271931410, 0.00756025314, 0.499107063});
  EXPECT_FALSE(
      weight_values("bn1.num_batches_tracked", torch::tensor(0, torch::kLong), 1).defined());
}

TEST(ReferenceFormulas, Labels) {
  const auto blocks =
      labels({1, 16, 32}, 19)
          .index({0, torch::indexing::Slice(0, 16, 8), torch::indexing::Slice(0, 32, 8)});
  EXPECT_TRUE(
      torch::equal(blocks, torch::tensor({{255, 7, 4, 15}, {13, 12, 14, 2}}, torch::kLong)));
  EXPECT_EQ(labels({2, 9, 17}, 5).sizes(), (std::vector<int64_t>{2, 9, 17}));
}

// --- Our copies of the fixtures
// -------------------------------------------------------------------

class Reference : public ::testing::TestWithParam<std::string> {};

TEST_P(Reference, GivesTheNumbersOfPython) {
  // CTest runs several of these at a time, and convolutions in double precision are many small
  // tasks that threads on a busy machine would wait for.
  at::set_num_threads(1);
  const Fixture fixture(GetParam());
  const auto comparison = fixture.compare();
  EXPECT_TRUE(comparison.holds()) << comparison.text(/*failures_only=*/true);
  EXPECT_TRUE(comparison.same_order) << "the tensors of the state dict are not in Python's order";
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  const std::filesystem::path path(info.param);
  std::string name = path.parent_path().filename().string() + "_" + path.stem().string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Reference,
                         ::testing::ValuesIn(fixtures_below(source_path("tests/data/reference"))),
                         test_name);

TEST(ReferenceFiles, AreThere) {
  EXPECT_GE(fixtures_below(source_path("tests/data/reference")).size(), 2u);
}

// --- All fixtures of the collection beside the checkout
// -------------------------------------------

nlohmann::json contents(const std::string& path) {
  std::ifstream in(path);
  return nlohmann::json::parse(in);
}

TEST(ReferenceCollection, CountsWhatPasses) {
  at::set_num_threads(1);
  // Those of which we have copies are tests of their own, and are left to them: all take minutes.
  // SEGCORE_ALL_FIXTURES names a part of the paths of those to run, or is "all", also of the
  // largest, which take ten gigabytes.
  constexpr int64_t kLarge = 150'000'000;
  const char* wanted = std::getenv("SEGCORE_ALL_FIXTURES");
  const std::string folder = source_path("../shared/reference/fixtures");
  const std::string filter = !wanted || std::string(wanted) == "all" ? "" : wanted;
  const std::string copies = source_path("tests/data/reference");
  std::vector<FixtureResult> results;
  size_t have_tests = 0, large = 0;
  for (const auto& file : fixtures_below(folder, filter)) {
    const auto copy = copies / std::filesystem::relative(file, folder);
    if (!wanted && std::filesystem::exists(copy) && contents(copy) == contents(file)) {
      ++have_tests;
      continue;
    }
    if (!wanted && contents(file).at("state").at("elements").get<int64_t>() > kLarge) {
      ++large;
      continue;
    }
    results.push_back(run_fixture(folder, file));
    const auto& result = results.back();
    EXPECT_NE(result.kind, FixtureResult::Kind::kFails) << result.name << ": " << result.why;
  }
  if (results.empty() && have_tests == 0) GTEST_SKIP() << "there is no fixture below " << folder;
  std::cout << results.size() + have_tests + large << " fixtures: " << have_tests
            << " have tests of their own here; of the others " << totals(results) << ", " << large
            << " are large" << std::endl;
}

TEST(ParityReport, IsATableForEachFolder) {
  const std::vector<FixtureResult> results{
      {"a/one", FixtureResult::Kind::kHolds, "", 2.04e-13, 0},
      {"a/two", FixtureResult::Kind::kFails, "1 of 3 differ | and\nmore", 0.5, -1},
      {"b/three", FixtureResult::Kind::kNotThereYet, "no backbone is called 'X'"}};
  EXPECT_EQ(totals(results), "1 hold, 1 fails, 1 is not supported yet");
  const std::string report = parity_report(results);
  EXPECT_NE(report.find("3 fixtures: 1 hold, 1 fails, 1 is not supported yet.\n\n## a\n\n"),
            std::string::npos);
  EXPECT_NE(report.find("| one | holds | 2.0e-13 | 0 |\n"
                        "| two | fails: 1 of 3 differ / and more | 5.0e-01 |  |\n"),
            std::string::npos);
  EXPECT_NE(report.find("Not there yet:\n\n- three: no backbone is called 'X'\n"),
            std::string::npos);
}

TEST(ParityReport, NamesTheQuantityThatIsFurthestOff) {
  const test::TempDir dir;
  std::ifstream in(source_path("tests/data/reference/mmseg/segformer_mit-b0.json"));
  auto fixture = nlohmann::json::parse(in);
  fixture["classes"] = 149;  // other labels: losses differ, logits do not
  const auto wrong = run_fixture(dir.path(), dir.write("wrong.json", fixture.dump()));
  EXPECT_EQ(wrong.name, "wrong");
  EXPECT_EQ(wrong.kind, FixtureResult::Kind::kFails);
  EXPECT_NE(wrong.why.find(" differ, first of all "), std::string::npos) << wrong.why;
  EXPECT_LT(wrong.logits, 1e-9);
  EXPECT_GE(wrong.logits, 0);
  EXPECT_EQ(run_fixture(dir.path(), dir.write("none.json", "[]")).why,
            dir / "none.json: is no fixture: it is no object");
}

}  // namespace reference_test
}  // namespace seg::reference
