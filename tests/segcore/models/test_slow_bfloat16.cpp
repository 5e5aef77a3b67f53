#include <gtest/gtest.h>

#include "segcore/models/nn/slow_bfloat16.hpp"

namespace seg {
namespace {

TEST(SlowBfloat16, OneDnnHasNoInstructionsWhereItMayNotUseThem) {
  if (has_bfloat16_instructions("SSE41")) GTEST_SKIP() << "not known of this CPU";
  for (const char* most : {"AVX2", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}) {
    EXPECT_FALSE(has_bfloat16_instructions(most)) << most;
  }
  EXPECT_EQ(has_bfloat16_instructions("AVX512_CORE_BF16"), has_bfloat16_instructions(nullptr));
}

}  // namespace
}  // namespace seg
