#include <gtest/gtest.h>

#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

std::shared_ptr<Segmentor> small_model() {
  return Spec<Segmentor>::of(R"(
type: EncoderDecoder
backbone: {type: ResNet, depth: 18, base_channels: 8, norm_cfg: {type: BN}}
decode_head: {type: FCNHead, in_channels: 64, channels: 8, num_classes: 3, num_convs: 1, norm_cfg: {type: BN}}
)")
      .build();
}

TEST(Freeze, StopsGradientsAndRunningStatisticsOfWhatItNames) {
  torch::manual_seed(0);
  const auto model = small_model();
  model->freeze({"^backbone\\.layer1", "^backbone\\.(conv1|bn1)\\."});
  model->train();
  std::map<std::string, torch::Tensor> before;
  for (const auto& buffer : model->named_buffers()) before[buffer.key()] = buffer.value().clone();
  const auto labels = torch::randint(3, {2, 32, 32}, torch::kLong);
  total_loss(model->loss(torch::randn({2, 3, 32, 32}), Targets(labels))).backward();
  const auto frozen = [](const std::string& name) {
    return name.starts_with("backbone.layer1.") || name.starts_with("backbone.conv1.") ||
           name.starts_with("backbone.bn1.");
  };
  for (const auto& parameter : model->named_parameters()) {
    EXPECT_EQ(parameter.value().grad().defined(), !frozen(parameter.key())) << parameter.key();
  }
  for (const auto& buffer : model->named_buffers()) {
    EXPECT_EQ(torch::equal(buffer.value(), before[buffer.key()]), frozen(buffer.key()))
        << buffer.key();
  }
}

TEST(Freeze, ABatchNormThatIsFrozenInPartGoesOnLearningItsStatistics) {
  const auto model = small_model();
  model->freeze({"backbone\\.bn1\\.weight"});
  model->train();
  model->loss(torch::randn({2, 3, 32, 32}), Targets(torch::zeros({2, 32, 32}, torch::kLong)));
  EXPECT_EQ(model->named_buffers()["backbone.bn1.num_batches_tracked"].item<int64_t>(), 1);
}

TEST(Freeze, ReportsWhatMatchesNothingAndWhatLeavesNothing) {
  const auto message = [](const std::vector<std::string>& expressions) {
    try {
      small_model()->freeze(expressions);
    } catch (const OptionError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(message({"backbon_"}),
            "no parameter has 'backbon_' in its name; tools/inspect --state-dict lists them");
  EXPECT_EQ(message({"."}), "leaves no parameter to train");
}

}  // namespace
}  // namespace seg
