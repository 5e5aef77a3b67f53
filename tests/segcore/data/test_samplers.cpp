#include "segcore/data/samplers.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace seg {
namespace {

using ::testing::ElementsAre;

std::unique_ptr<Sampler> sampler(const std::string& yaml, size_t size, uint64_t seed, int rank = 0,
                                 int world = 1) {
  return Spec<Sampler>::of(yaml).build(size, seed, rank, world);
}

std::vector<size_t> draw(Sampler& s, uint64_t from, size_t count) {
  std::vector<size_t> out;
  for (size_t i = 0; i < count; ++i) out.push_back(s.at(from + i).index);
  return out;
}

// mmengine 0.10.7 with torch 2.11: list(islice(InfiniteSampler(range(7), seed=3), 18)), and
// list(DefaultSampler(range(7), seed=3)) after set_epoch(0), set_epoch(1).
TEST(Samplers, OrderOfMmengine) {
  auto infinite = sampler("{type: InfiniteSampler}", 7, 3);
  EXPECT_THAT(draw(*infinite, 0, 18),
              ElementsAre(5, 3, 4, 6, 0, 2, 1, 2, 6, 3, 1, 5, 0, 4, 0, 6, 3, 4));
  auto normal = sampler("{type: DefaultSampler}", 7, 3);
  EXPECT_THAT(draw(*normal, 0, 14), ElementsAre(5, 3, 4, 6, 0, 2, 1, 3, 1, 0, 4, 2, 5, 6));
  EXPECT_TRUE(infinite->endless());
  EXPECT_FALSE(normal->endless());
}

TEST(Samplers, AnyPositionAtAnyTime) {
  for (const char* yaml :
       {"{type: InfiniteSampler}", "{type: DefaultSampler}",
        "{type: InfiniteSampler, shuffle: false}", "{type: DefaultSampler, shuffle: false}"}) {
    auto forward = sampler(yaml, 5, 11);
    const auto all = draw(*forward, 0, 40);
    auto jumping = sampler(yaml, 5, 11);
    for (const uint64_t position : {37, 2, 20, 19, 39, 0}) {
      EXPECT_EQ(jumping->at(position).index, all[position]) << yaml << " at " << position;
      EXPECT_EQ(jumping->at(position).epoch, position / 5);
    }
  }
}

TEST(Samplers, RanksTogetherDrawWhatOneDraws) {
  auto alone = sampler("{type: InfiniteSampler}", 10, 4);
  auto first = sampler("{type: InfiniteSampler}", 10, 4, 0, 3);
  auto third = sampler("{type: InfiniteSampler}", 10, 4, 2, 3);
  for (uint64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(first->at(i).index, alone->at(3 * i).index);
    EXPECT_EQ(third->at(i).index, alone->at(3 * i + 2).index);
    EXPECT_EQ(third->at(i).epoch, (3 * i + 2) / 10);
  }
  EXPECT_EQ(first->size(), 4u);
}

TEST(Samplers, RoundUpRepeatsSamplesAndMarksThem) {
  auto last = sampler("{type: DefaultSampler, shuffle: false}", 10, 0, 3, 4);
  ASSERT_EQ(last->size(), 3u);
  EXPECT_THAT(draw(*last, 0, 3), ElementsAre(3, 7, 1));
  EXPECT_FALSE(last->at(1).padding);
  EXPECT_TRUE(last->at(2).padding);
  auto exact = sampler("{type: DefaultSampler, shuffle: false, round_up: false}", 10, 0, 3, 4);
  EXPECT_EQ(exact->size(), 2u);
  // More processes than samples.
  auto lonely = sampler("{type: DefaultSampler, shuffle: false}", 2, 0, 4, 5);
  ASSERT_EQ(lonely->size(), 1u);
  EXPECT_EQ(lonely->at(0).index, 0u);
  EXPECT_TRUE(lonely->at(0).padding);
  EXPECT_EQ(sampler("{type: DefaultSampler, round_up: false}", 2, 0, 4, 5)->size(), 0u);
}

TEST(Samplers, OwnSeedGoesBeforeTheRuns) {
  auto own = sampler("{type: DefaultSampler, seed: 3}", 7, 99);
  auto of_run = sampler("{type: DefaultSampler}", 7, 3);
  EXPECT_EQ(draw(*own, 0, 14), draw(*of_run, 0, 14));
}

}  // namespace
}  // namespace seg
