#include "registry/text.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace seg {
namespace {

TEST(DidYouMean, FindsTheNearestName) {
  const std::vector<std::string> known{
      "embed_dims", "num_classes", "lr", "SegformerHead", "FCNHead", "PSPHead", "CrossEntropyLoss"};
  const struct {
    const char* wrong;
    const char* found;
  } table[] = {
      {"embed_dim", "embed_dims"},
      {"embed_dmis", "embed_dims"},
      {"num_class", "num_classes"},
      {"segformerhead", "SegformerHead"},
      {"Segformer", "SegformerHead"},
      {"FCNHed", "FCNHead"},
      {"CrossEntrpy", "CrossEntropyLoss"},
      {"CrossEntropy", "CrossEntropyLoss"},
      {"lt", "lr"},
      {"Lr", "lr"},
      {"zz", ""},
      {"x", ""},
      {"", ""},
      {"something_else", ""},
      {"dropout_ratio", ""},
  };
  for (const auto& row : table) {
    EXPECT_EQ(did_you_mean(row.wrong, known),
              *row.found ? text(" Did you mean '", row.found, "'?") : "")
        << row.wrong;
  }
  EXPECT_EQ(did_you_mean(std::string(100000, 'x'), {std::string(100000, 'y')}), "");
  EXPECT_EQ(did_you_mean("a", {}), "");
}

TEST(Text, JoinsValues) {
  EXPECT_EQ(text("a", 1, ' ', 2.5), "a1 2.5");
  EXPECT_EQ(join(std::vector<int>{1, 2, 3}, ", "), "1, 2, 3");
  EXPECT_EQ(join(std::vector<int>{}, ", "), "");
}

}  // namespace
}  // namespace seg
