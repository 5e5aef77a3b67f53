/// What a training step waits for on a GPU, seen on the CPU: reading a value back, and results
/// whose size the program must know.
#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/decode_head.hpp"
#include "segcore/profile/operator_recorder.hpp"
#include "segcore/torch.hpp"
#include "tests/support/tiny_query_head.hpp"

namespace seg::loss_waits_test {

using ::testing::IsEmpty;

class LossWaits : public ::testing::TestWithParam<std::string> {};

std::string fcn_head(const std::string& loss) {
  return "{type: FCNHead, channels: 4, num_convs: 1, num_classes: 5, in_index: 0, loss_decode: " +
         loss + "}";
}

std::vector<std::string> names_of(const std::vector<OperatorNote>& notes) {
  std::vector<std::string> out;
  for (const OperatorNote& note : notes) out.push_back(note.name);
  return out;
}

TEST_P(LossWaits, ForNothing) {
  const std::vector<FeatureInfo> inputs{{8, 4}, {16, 8}, {32, 16}};
  const auto head = Spec<DecodeHead>::of(GetParam()).build(inputs);
  std::vector<torch::Tensor> maps;
  for (const auto& map : inputs) {
    maps.push_back(torch::randn({2, map.channels, 64 / map.stride, 48 / map.stride}));
  }
  const auto labels = torch::randint(0, 5, {2, 64, 48}, torch::kLong);
  const RecordedStep step = record_operators(*head, at::kCPU, [&] {
    RECORD_USER_SCOPE("forward");
    EXPECT_FALSE(head->loss(maps, labels).empty());
  });
  EXPECT_FALSE(step.calls.empty());
  EXPECT_THAT(names_of(step.waits), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Heads, LossWaits,
                         ::testing::Values(fcn_head("{type: CrossEntropyLoss}"),
                                           fcn_head("{type: DiceLoss}"),
                                           fcn_head("{type: FocalLoss}"),
                                           test::tiny_maskformer_head(),
                                           test::tiny_mask2former_head()));

}  // namespace seg::loss_waits_test
