// The weighted mean of several models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::ensemble_test {

using ::testing::HasSubstr;

std::string member_of(const std::string& model, const std::string& more = "") {
  return "{model: " + model + more + "}";
}

std::string small(int64_t classes, double mean) {
  return text("{type: EncoderDecoder, data_preprocessor: {type: SegDataPreProcessor, mean: [", mean,
              ", 0, 0], std: [1, 1, 1]}, backbone: {type: ResNet, depth: 18, base_channels: 4, "
              "stem_channels: 4}, decode_head: {type: FCNHead, channels: 8, num_convs: 1, "
              "concat_input: false, num_classes: ",
              classes, "}}");
}

std::shared_ptr<Segmentor> ensemble(const std::string& members) {
  torch::manual_seed(0);
  auto out = Spec<Segmentor>::of("{type: EnsembleSegmentor, members: [" + members + "]}").build();
  out->init_weights();
  out->eval();
  return out;
}

std::string ensemble_error(const std::string& members) {
  return test::config_error([&] { ensemble(members); });
}

Batch batch_of(int64_t height, int64_t width) {
  Batch out;
  out.samples.resize(1);
  auto& sample = out.samples[0];
  sample.image = torch::randint(0, 255, {3, height, width}, torch::kByte);
  sample.meta.ori_shape = {height, width};
  sample.meta.img_shape = {height, width};
  return out;
}

TEST(EnsembleSegmentor, AveragesProbabilitiesOfItsMembersOwnInputs) {
  const torch::NoGradGuard no_grad;
  const auto model = ensemble(member_of(small(3, 0), ", weight: 1") + ", " +
                              member_of(small(3, 100), ", weight: 3"));
  const auto batch = batch_of(40, 56);
  const auto input = model->data_preprocessor()(batch, false, torch::kCPU);
  ASSERT_EQ(input.members.size(), 2u);
  EXPECT_FALSE(torch::equal(input.members[0].images, input.members[1].images));
  const auto child = [&](const std::string& name) -> Segmentor& {
    return dynamic_cast<Segmentor&>(*model->named_modules()[name]);
  };
  const auto first = child("members.0").predict_scores({input.members[0]}).at(0).scores;
  const auto second = child("members.1").predict_scores({input.members[1]}).at(0).scores;
  const auto expected = (first + 3 * second) / 4;
  const auto found = model->predict_scores({input}).at(0);
  EXPECT_TRUE(torch::allclose(found.scores, expected, 1e-5, 1e-6));
  EXPECT_TRUE(torch::equal(found.ids, found.scores.argmax(0)));
  const auto plain = model->predict(input).at(0);
  EXPECT_TRUE(torch::equal(plain.ids, found.ids));
  EXPECT_FALSE(plain.scores.defined());
  EXPECT_EQ(model->num_classes(), 3);
}

TEST(EnsembleSegmentor, TakesWeightsUnderItsMembersNames) {
  const auto model = ensemble(member_of(small(3, 0)) + ", " + member_of(small(3, 0)));
  EXPECT_TRUE(model->named_parameters().contains("members.1.decode_head.conv_seg.weight"));
}

TEST(EnsembleSegmentor, ReportsWhatDoesNotFit) {
  EXPECT_THAT(ensemble_error(""), HasSubstr("members: must not be empty"));
  EXPECT_THAT(ensemble_error(member_of(small(3, 0)) + ", " + member_of(small(4, 0))),
              HasSubstr("members.1: has 4 classes, the first has 3"));
  EXPECT_THAT(ensemble_error("{weight: 2}"),
              HasSubstr("members.0.model: needs a model, or the config that has it"));
  EXPECT_THAT(ensemble_error(member_of(small(3, 0), ", weight: 0")),
              HasSubstr("members.0.weight: must be above 0"));
  const auto model = ensemble(member_of(small(3, 0)));
  EXPECT_THROW(model->loss(torch::zeros({1, 3, 32, 32}), Targets(torch::Tensor())), DataError);
}

}  // namespace seg::ensemble_test
