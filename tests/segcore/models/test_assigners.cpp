#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "segcore/models/assigners/assigner.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using ::testing::ElementsAre;

/// The least sum over all choices of a column for each row.
double least_sum(const torch::Tensor& cost) {
  const auto rows = cost.size(0), columns = cost.size(1);
  std::vector<int64_t> order(static_cast<size_t>(columns));
  std::iota(order.begin(), order.end(), 0);
  double least = std::numeric_limits<double>::infinity();
  do {
    double sum = 0;
    for (int64_t i = 0; i < rows; ++i) sum += cost[i][order[static_cast<size_t>(i)]].item<double>();
    least = std::min(least, sum);
  } while (std::next_permutation(order.begin(), order.end()));
  return least;
}

TEST(LinearSumAssignment, FindsTheLeastSum) {
  for (int trial = 0; trial < 8; ++trial) {
    for (const auto& [rows, columns] : {std::pair{4, 4}, {3, 5}, {5, 3}, {1, 4}, {4, 1}}) {
      const auto cost =
          reference::uniform("cost" + std::to_string(trial), rows * columns).view({rows, columns});
      const auto column_of = linear_sum_assignment(cost);
      ASSERT_EQ(column_of.size(), static_cast<size_t>(rows));
      double sum = 0;
      std::vector<int64_t> used;
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t j = column_of[static_cast<size_t>(i)];
        if (j < 0) continue;
        used.push_back(j);
        sum += cost[i][j].item<double>();
      }
      std::sort(used.begin(), used.end());
      EXPECT_TRUE(std::adjacent_find(used.begin(), used.end()) == used.end());
      EXPECT_EQ(used.size(), static_cast<size_t>(std::min(rows, columns)));
      EXPECT_NEAR(sum, least_sum(rows <= columns ? cost : cost.t()), 1e-12);
    }
  }
}

TEST(HungarianAssigner, MatchesQueriesWithTruths) {
  const auto assigner = Spec<Assigner>::of(
                            "{type: mmdet.HungarianAssigner, match_costs: ["
                            "{type: mmdet.ClassificationCost, weight: 1.0}, "
                            "{type: mmdet.DiceCost, weight: 2.0, pred_act: true, eps: 1.0}, "
                            "{type: mmdet.FocalLossCost, weight: 2.0, binary_input: true}, "
                            "{type: mmdet.CrossEntropyLossCost, weight: 2.0}]}")
                            .build();
  MatchInputs in;
  in.labels = torch::tensor({2, 0}, torch::kLong);
  in.gt_masks = torch::tensor({{1., 1., 0., 0.}, {0., 0., 0., 1.}}, torch::kFloat64);
  in.scores = torch::zeros({3, 4}, torch::kFloat64);
  in.masks = torch::full({3, 4}, -4, torch::kFloat64);
  in.masks[2] = in.gt_masks[0] * 8 - 4;  // query 2 is the first truth, query 0 the second
  in.masks[0] = in.gt_masks[1] * 8 - 4;
  EXPECT_THAT(assigner->assign(assigner->costs(in)), ElementsAre(1, -1, 0));
  in.labels = in.labels.narrow(0, 0, 0);
  in.gt_masks = in.gt_masks.narrow(0, 0, 0);
  EXPECT_THAT(assigner->assign(assigner->costs(in)), ElementsAre(-1, -1, -1));
}

}  // namespace
}  // namespace seg
