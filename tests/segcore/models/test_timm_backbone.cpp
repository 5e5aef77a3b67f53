// Encoders of timm as MMSegmentation's TIMMBackbone wraps them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/io/weights.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::timm_backbone_test {

using ::testing::HasSubstr;

std::shared_ptr<Backbone> timm_backbone(const std::string& options) {
  torch::manual_seed(0);
  return Spec<Backbone>::of("{type: TIMMBackbone, " + options + "}").build();
}

std::string timm_error(const std::string& options) {
  return test::config_error([&] { timm_backbone(options); });
}

TEST(TIMMBackbone, GivesTimmsMaps) {
  const torch::NoGradGuard no_grad;
  const auto vgg = timm_backbone("model_name: vgg11, pretrained: false");
  std::vector<int64_t> strides, channels;
  for (const auto& f : vgg->features()) {
    strides.push_back(f.stride);
    channels.push_back(f.channels);
  }
  EXPECT_EQ(strides, (std::vector<int64_t>{1, 2, 4, 8, 16, 32}));
  EXPECT_EQ(channels, (std::vector<int64_t>{64, 128, 256, 512, 512, 512}));
  vgg->eval();
  const auto maps = vgg->forward(torch::randn({1, 3, 64, 96}));
  ASSERT_EQ(maps.size(), 6u);
  EXPECT_EQ(maps[2].sizes(), at::IntArrayRef({1, 256, 16, 24}));

  const auto some = timm_backbone("model_name: vgg11, pretrained: false, out_indices: [1, 3]");
  ASSERT_EQ(some->features().size(), 2u);
  EXPECT_EQ(some->features()[0].stride, 2);
  EXPECT_EQ(some->features()[1].stride, 8);
}

TEST(TIMMBackbone, HasItsTensorsBelowTimmModel) {
  const auto backbone = timm_backbone("model_name: vgg11, pretrained: false");
  EXPECT_TRUE(backbone->named_parameters().contains("timm_model.features.0.weight"));
  // features_only of timm itself writes features_0.
  ValueDict items;
  const Value state = state_dict(*backbone);
  for (const auto& [key, value] : state.as_dict()) {
    std::string name = key.as_string();
    name.replace(name.find("features."), 9, "features_");
    items.emplace_back(name, value.as_tensor() + 1);
  }
  EXPECT_TRUE(load_state_dict(*backbone, Value::dict(std::move(items)), {.strict = true}).exact());
  EXPECT_EQ(backbone->named_parameters()["timm_model.features.0.bias"].numel(), 64);
}

TEST(TIMMBackbone, TakesTheWeightsOfATag) {
  const auto rule = [](const std::string& options) {
    const auto backbone = timm_backbone(options);
    std::string out;
    for (const auto& module : backbone->modules()) {
      const auto* base = dynamic_cast<const BaseModule*>(module.get());
      if (!base) continue;
      for (const auto& r : base->pretrained_rules()) {
        out += r.config().find("checkpoint")->value.scalar;
      }
    }
    return out;
  };
  EXPECT_EQ(rule("model_name: vgg11"),
            "https://huggingface.co/timm/vgg11.tv_in1k/resolve/main/model.safetensors");
  EXPECT_EQ(rule("model_name: vgg11.tv_in1k"), rule("model_name: vgg11"));
  EXPECT_EQ(rule("model_name: vgg11, checkpoint_path: a.pth"), "a.pth");
  EXPECT_EQ(rule("model_name: vgg11, pretrained: false"), "");
}

TEST(TIMMBackbone, ReportsWhatItCannotBuild) {
  EXPECT_THAT(timm_error("model_name: vgg12"),
              HasSubstr("model_name: no model of timm is called 'vgg12' here. Did you mean "
                        "'vgg11'?"));
  EXPECT_THAT(timm_error("model_name: vgg11.a1"),
              HasSubstr("model_name: unknown weights 'a1' of tu-vgg11."));
  EXPECT_THAT(timm_error("model_name: vgg11, pretrained: false, output_stride: 8"),
              HasSubstr("model_name: tu-vgg11 cannot be dilated to the output stride 8"));
  EXPECT_THAT(timm_error("model_name: vgg11, pretrained: false, out_indices: [6]"),
              HasSubstr("out_indices: there is no map 6: vgg11 has 6, counted from 0"));
  EXPECT_THAT(timm_error("model_name: vgg11, pretrained: false, drop_path_rate: 0.1"),
              HasSubstr("drop_path_rate: tu-vgg11 has no stochastic depth"));
  EXPECT_THAT(timm_error("model_name: vgg11, features_only: false"),
              HasSubstr("features_only: must be true"));
}

TEST(TIMMBackbone, TrainsUnderAHead) {
  torch::manual_seed(0);
  const auto model =
      Spec<Segmentor>::of(
          "{type: EncoderDecoder, backbone: {type: TIMMBackbone, model_name: vgg11_bn, pretrained: "
          "false, out_indices: [2, 3]}, decode_head: {type: FCNHead, in_channels: 512, in_index: "
          "1, channels: 8, num_convs: 1, num_classes: 3, norm_cfg: {type: BN}}, auxiliary_head: "
          "{type: FCNHead, in_channels: 256, in_index: 0, channels: 8, num_convs: 1, num_classes: "
          "3, norm_cfg: {type: BN}}}")
          .build();
  const auto losses =
      model->loss(torch::randn({2, 3, 32, 32}), torch::randint(0, 3, {2, 32, 32}, torch::kLong));
  total_loss(losses).backward();
  for (const auto& item : model->named_parameters()) {
    EXPECT_EQ(item.value().requires_grad(), item.value().grad().defined()) << item.key();
  }
}

}  // namespace seg::timm_backbone_test
