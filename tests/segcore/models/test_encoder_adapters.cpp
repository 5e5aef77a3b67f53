// Encoders of segmentation_models_pytorch as backbones, and backbones as its encoders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/io/weights.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/models/smp/encoder_of_backbone.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::encoder_adapters_test {

using ::testing::HasSubstr;

std::shared_ptr<Segmentor> adapted_model(const std::string& options) {
  torch::manual_seed(0);
  return Spec<Segmentor>::of("{" + options + "}").build();
}

std::string adapter_error(const std::string& options) {
  return test::config_error([&] { adapted_model(options); });
}

/// One training step: all parameters that are trained have gradients, and no other; the loss falls.
void expect_step(const std::string& options, int64_t side = 64) {
  SCOPED_TRACE(options);
  const auto model = adapted_model(options);
  set_drop_probability(*model, 0);
  const auto images = torch::randn({2, 3, side, side});
  const auto labels = torch::randint(0, 3, {2, side, side}, torch::kLong);
  const auto before = total_loss(model->loss(images, labels));
  before.backward();
  {
    const torch::NoGradGuard no_grad;
    for (const auto& item : model->named_parameters()) {
      ASSERT_EQ(item.value().requires_grad(), item.value().grad().defined()) << item.key();
      if (item.value().requires_grad()) item.value().sub_(item.value().grad(), 1e-3);
    }
  }
  EXPECT_LT(total_loss(model->loss(images, labels)).item<double>(), before.item<double>());
}

std::vector<std::string> tensor_names(const torch::nn::Module& module) {
  std::vector<std::string> out;
  const Value state = state_dict(module);
  for (const auto& [name, tensor] : state.as_dict()) out.push_back(name.as_string());
  return out;
}

// --- SmpEncoder ---------------------------------------------------------------------------------

constexpr const char* kFcnHead =
    "decode_head: {type: FCNHead, channels: 8, num_convs: 1, num_classes: 3, norm_cfg: {type: "
    "BN}}";

TEST(SmpEncoder, HasTheTensorsAndMapsOfItsEncoder) {
  const torch::NoGradGuard no_grad;
  for (const std::string name : {"resnet18", "vgg11_bn", "mobilenet_v2"}) {
    SCOPED_TRACE(name);
    const auto encoder = build_encoder(name, {.in_channels = 2});
    const auto backbone =
        Spec<Backbone>::of("{type: SmpEncoder, in_channels: 2, name: " + name + "}").build();
    EXPECT_EQ(tensor_names(*backbone), tensor_names(*encoder));
    load_state_dict(*backbone, state_dict(*encoder));
    const auto images = torch::randn({1, 2, 64, 32});
    for (const bool training : {true, false}) {
      encoder->train(training);
      backbone->train(training);
      const auto all = encoder->forward(images);
      const auto maps = backbone->forward(images);
      const auto features = backbone->features();
      ASSERT_EQ(maps.size(), 4u);
      for (size_t i = 0; i < 4; ++i) {
        EXPECT_TRUE(torch::equal(maps[i], all[i + 2]));
        EXPECT_EQ(features[i].channels, maps[i].size(1));
        EXPECT_EQ(features[i].stride, 64 / maps[i].size(2));
      }
    }
  }
}

TEST(SmpEncoder, TrainsWithAnyHead) {
  expect_step(std::string("type: EncoderDecoder, backbone: {type: SmpEncoder, name: resnet18}, ") +
              kFcnHead);
  expect_step(
      "type: EncoderDecoder, backbone: {type: SmpEncoder, name: mobilenet_v2, depth: 4, "
      "out_indices: [1, 2, 3, 4]}, neck: {type: FPN, out_channels: 8, num_outs: 4}, decode_head: "
      "{type: SegformerHead, channels: 8, num_classes: 3, norm_cfg: {type: BN}}");
  const auto model = adapted_model(
      std::string("type: EncoderDecoder, backbone: {type: SmpEncoder, name: resnet18}, ") +
      kFcnHead);
  EXPECT_TRUE(model->named_parameters().contains("backbone.layer1.0.conv1.weight"));
}

TEST(SmpEncoder, DilatesItsLastStages) {
  const torch::NoGradGuard no_grad;
  const auto backbone =
      Spec<Backbone>::of("{type: SmpEncoder, name: resnet18, output_stride: 8}").build();
  EXPECT_EQ(backbone->forward(torch::zeros({1, 3, 64, 64})).back().size(2), 8);
  std::vector<int64_t> strides;
  for (const auto& f : backbone->features()) strides.push_back(f.stride);
  EXPECT_EQ(strides, (std::vector<int64_t>{4, 8, 8, 8}));
}

TEST(SmpEncoder, BeginsAsTheLibrarysAndTakesItsWeights) {
  const auto backbone = Spec<Backbone>::of("{type: SmpEncoder, name: resnet18}").build();
  backbone->init_weights();
  const auto weight = backbone->named_parameters()["layer4.0.conv1.weight"];
  // Kaiming's normal by the fan out: variance 2 / fan_out.
  const double expected = std::sqrt(2.0 / (512 * 9));
  EXPECT_NEAR(weight.std().item<double>(), expected, 0.01 * expected);

  const auto published =
      Spec<Backbone>::of("{type: SmpEncoder, name: resnet18, weights: a.pth}").build();
  ASSERT_EQ(published->pretrained_rules().size(), 1u);
  Value state = Value::dict();
  state.set("fc.weight", torch::zeros({1000, 512}));
  state.set("bn1.weight", torch::zeros({64}));
  dynamic_cast<AdaptsPretrained&>(*published).adapt_pretrained(state);
  EXPECT_EQ(state.as_dict().size(), 1u) << "without the classifier";
}

TEST(SmpEncoder, NamesItsOwnOptionsInErrors) {
  const auto error = [](const std::string& options) {
    return test::config_error(
        [&] { Spec<Backbone>::of("{type: SmpEncoder, " + options + "}").build(); });
  };
  EXPECT_THAT(error("name: resnet35"),
              HasSubstr("name: unknown value 'resnet35'. Did you mean 'resnet34'?"));
  EXPECT_THAT(error("name: resnet18, weights: imagenet1"),
              HasSubstr("weights: unknown weights 'imagenet1' of resnet18. Did you mean"));
  EXPECT_THAT(error("name: vgg11, output_stride: 16"),
              HasSubstr("name: vgg11 cannot be dilated to the output stride 16"));
  EXPECT_THAT(error("name: resnet18, output_stride: 4"),
              HasSubstr("output_stride: must be 8, 16 or 32, got 4"));
  EXPECT_THAT(error("name: resnet18, depth: 4"),
              HasSubstr("out_indices: there is no map 5 at depth 4"));
  EXPECT_THAT(error("name: resnet18, out_indices: [1, 3]"),
              HasSubstr("depth: is 5, but the last map that is given is 3: the layers after it "
                        "would not be trained"));
  EXPECT_THAT(error("name: resnet18, out_indices: [5, 2]"), HasSubstr("out_indices: must ascend"));
}

// --- Backbones as encoders ----------------------------------------------------------------------

constexpr const char* kResNet = "encoder: {type: ResNet, depth: 18}, classes: 3";
constexpr const char* kMit =
    "encoder: {type: MixVisionTransformer, embed_dims: 4, num_heads: [1, 2, 2, 4], num_layers: "
    "[1, 1, 1, 1]}, classes: 3";

TEST(BackboneAsEncoder, KeepsTheNamesOfItsTensors) {
  const auto model = adapted_model(std::string("type: Unet, ") + kResNet);
  const auto backbone = Spec<Backbone>::of("{type: ResNet, depth: 18}").build();
  std::vector<std::string> expected, found;
  for (const auto& name : tensor_names(*backbone)) expected.push_back("encoder." + name);
  for (const auto& name : tensor_names(*model)) {
    if (name.starts_with("encoder.")) found.push_back(name);
  }
  EXPECT_EQ(found, expected);
}

TEST(BackboneAsEncoder, TrainsWithEveryDecoderThatNeedsNoHalf) {
  const std::string narrow = ", decoder_channels: [32, 16, 16, 16, 16]";
  expect_step(std::string("type: Unet, decoder_attention_type: scse, ") + kResNet + narrow);
  expect_step(std::string("type: Unet, ") + kMit + narrow);
  expect_step(std::string("type: MAnet, ") + kMit + narrow);
  expect_step(std::string("type: FPN, decoder_pyramid_channels: 16, "
                          "decoder_segmentation_channels: 32, ") +
              kMit);
  expect_step(
      "type: PAN, classes: 3, encoder: {type: ResNet, depth: 18, strides: [1, 2, 2, 1], "
      "dilations: [1, 1, 1, 2]}",
      128);
  expect_step(
      "type: DeepLabV3Plus, classes: 3, decoder_channels: 16, encoder: {type: ResNet, depth: 18, "
      "strides: [1, 2, 2, 1], dilations: [1, 1, 1, 2]}");
  expect_step(
      "type: PSPNet, classes: 3, psp_out_channels: 16, encoder: {type: ResNet, depth: 18, "
      "num_stages: 2, strides: [1, 2], dilations: [1, 1], out_indices: [0, 1]}");
  // A backbone that gives a map of 1/2 has one for decoders that need it.
  expect_step(
      "type: Linknet, classes: 3, encoder: {type: SmpEncoder, name: resnet18, out_indices: "
      "[1, 2, 3, 4, 5]}");
}

TEST(BackboneAsEncoder, GivesMapsOfEachLevelAndNoChannelsAtHalf) {
  const torch::NoGradGuard no_grad;
  const auto backbone = Spec<Backbone>::of("{type: ResNet, depth: 18}").build();
  const auto encoder = smp::encoder_of(backbone, {});
  EXPECT_EQ(encoder->out_channels(), (std::vector<int64_t>{3, 0, 64, 128, 256, 512}));
  EXPECT_EQ(encoder->output_stride(), 32);
  backbone->eval();
  const auto images = torch::randn({1, 3, 64, 33});
  const auto maps = encoder->forward(images);
  const auto own = backbone->forward(images);
  ASSERT_EQ(maps.size(), 6u);
  EXPECT_TRUE(torch::equal(maps[0], images));
  EXPECT_EQ(maps[1].sizes(), at::IntArrayRef({1, 0, 32, 17}));
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(torch::equal(maps[i + 2], own[i]));
}

TEST(BackboneAsEncoder, IsRefusedWithTheStrideThatIsMissing) {
  EXPECT_THAT(adapter_error("type: Unet, encoder: {type: VisionTransformer, img_size: 32, "
                            "embed_dims: 8, num_heads: 2, num_layers: 4, out_indices: [0, 1, 2, "
                            "3]}"),
              HasSubstr("encoder: VisionTransformer gives maps of the strides 16, 16, 16, 16, but "
                        "this model takes maps of 2, 4, 8, 16, 32 (encoder_depth 5): one of 4 is "
                        "missing. Change its out_indices, strides or dilations, or "
                        "encoder_depth"));
  EXPECT_THAT(adapter_error(std::string("type: DeepLabV3, ") + kResNet),
              HasSubstr("encoder: ResNet gives maps of the strides 4, 8, 16, 32, but this model "
                        "takes maps of 2, 4, 8, 8, 8 (encoder_depth 5): one of 8 is missing"));
  EXPECT_THAT(adapter_error(std::string("type: Linknet, ") + kResNet),
              HasSubstr("encoder: gives no map of stride 2, which Linknet joins: take another "
                        "encoder"));
  EXPECT_THAT(adapter_error(std::string("type: UnetPlusPlus, ") + kMit),
              HasSubstr("gives no map of stride 2, which UnetPlusPlus joins"));
  EXPECT_THAT(adapter_error("type: Unet, encoder: {type: ResNet, depth: 18, in_channels: 4}"),
              HasSubstr("in_channels: is 3, but the encoder takes images of 4 bands"));
}

TEST(BackboneAsEncoder, ReportsMapsThatNoDecoderUses) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  adapted_model(std::string("type: Unet, encoder_depth: 4, decoder_channels: [16, 16, 16, 16], ") +
                kResNet);
  const std::string logged =
      ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(logged, HasSubstr("encoder: the map of stride 32 is not used: layers that only it "
                                "depends on are not trained"));
}

}  // namespace seg::encoder_adapters_test
