/// The second stage of ensembles.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/backbone.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::stacking_test {

using ::testing::HasSubstr;

std::shared_ptr<Backbone> net(const std::string& options) {
  torch::manual_seed(0);
  auto out =
      Spec<Backbone>::of("{type: StackingNet, in_channels: 6, base_channels: 16, " + options + "}")
          .build();
  out->init_weights();
  return out;
}

int64_t parameters(Backbone& model) {
  int64_t out = 0;
  for (const auto& p : model.parameters()) out += p.numel();
  return out;
}

TEST(StackingNet, HasTheParametersOfItsConvolutions) {
  constexpr int64_t kC = 16, kNorm = 2 * kC, kStem = 6 * kC + kNorm;
  EXPECT_EQ(parameters(*net("num_blocks: 2, conv: standard")), kStem + 4 * (9 * kC * kC + kNorm));
  EXPECT_EQ(parameters(*net("num_blocks: 2, conv: dilated")), kStem + 4 * (9 * kC * kC + kNorm));
  EXPECT_EQ(parameters(*net("num_blocks: 2, conv: grouped, groups: 4")),
            kStem + 4 * (9 * kC * kC / 4 + kNorm));
  EXPECT_EQ(parameters(*net("num_blocks: 2, conv: depthwise")),
            kStem + 4 * (9 * kC + kNorm + kC * kC + kNorm));
  const int64_t plain = parameters(*net("num_blocks: 1"));
  // Two 1x1 convolutions with biases, to 2 of 16 channels and back; one of 3 neighbours; one 7x7 of
  // two maps with a norm; CBAM has that and two 1x1 convolutions to one channel and back.
  EXPECT_EQ(parameters(*net("num_blocks: 1, attention: se")) - plain, 2 * 16 * 2 + 2 + 16);
  EXPECT_EQ(parameters(*net("num_blocks: 1, attention: eca")) - plain, 3);
  EXPECT_EQ(parameters(*net("num_blocks: 1, attention: spatial")) - plain, 2 * 49 + 2);
  EXPECT_EQ(parameters(*net("num_blocks: 1, attention: cbam")) - plain, 2 * 49 + 2 + 2 * 16);
}

/// How far a change of one pixel reaches: the distance in pixels at which outputs still change.
int64_t reach(const std::string& options) {
  const torch::NoGradGuard no_grad;
  const auto model = net(options);
  model->eval();
  auto x = torch::rand({1, 6, 1, 61});
  const auto before = model->forward(x).at(0);
  x.select(3, 30).add_(10);
  const auto changed = (model->forward(x).at(0) != before).any(1).squeeze().nonzero();
  return changed.max().item<int64_t>() - 30;
}

TEST(StackingNet, LooksAroundEachPixelAsFarAsItsDilationsSay) {
  EXPECT_EQ(reach("num_blocks: 3"), 6);
  EXPECT_EQ(reach("num_blocks: 3, conv: dilated, dilations: [1, 2, 4]"), 2 * (1 + 2 + 4));
  EXPECT_EQ(reach("num_blocks: 3, conv: dilated, dilations: [3]"), 2 * 9);
}

TEST(StackingNet, KeepsTheSizeAndTrainsEveryParameter) {
  for (const char* conv : {"standard", "depthwise", "dilated", "grouped"}) {
    for (const char* attention : {"none", "se", "cbam", "spatial", "eca"}) {
      const auto model = net(text("num_blocks: 2, conv: ", conv, ", attention: ", attention));
      const auto out = model->forward(torch::rand({2, 6, 7, 5})).at(0);
      EXPECT_EQ(out.sizes(), (std::vector<int64_t>{2, 16, 7, 5}));
      out.square().mean().backward();
      for (const auto& p : model->named_parameters()) {
        EXPECT_TRUE(p.value().grad().defined() && p.value().grad().isfinite().all().item<bool>())
            << conv << " " << attention << " " << p.key();
      }
    }
  }
}

TEST(StackingNet, RefusesWhatDoesNotFit) {
  EXPECT_THAT(test::config_error([] { net("conv: grouped, groups: 3"); }),
              HasSubstr("groups: must divide base_channels 16, got 3"));
  EXPECT_THAT(test::config_error([] { net("conv: dilated, dilations: []"); }),
              HasSubstr("dilations: must not be empty"));
  EXPECT_THAT(test::config_error([] { net("attention: cbm"); }), HasSubstr("cbam"));
}

}  // namespace seg::stacking_test
