#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "segcore/io/value.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/smp/segmentation_model.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::smp_test {

using ::testing::HasSubstr;

std::shared_ptr<Segmentor> smp_model(const std::string& options) {
  torch::manual_seed(0);
  return Spec<Segmentor>::of("{encoder_weights: null, " + options + "}").build();
}

std::string smp_error(const std::string& options) {
  return test::config_error([&] { smp_model(options); });
}

TEST(SmpModels, ReportWrongOptions) {
  EXPECT_THAT(smp_error("type: Unet, encoder_name: resnet35"),
              HasSubstr("encoder_name: unknown value 'resnet35'. Did you mean 'resnet34'?"));
  EXPECT_THAT(smp_error("type: Unet, encoder_depth: 4"),
              HasSubstr("decoder_channels: needs 4 values (encoder_depth), got 5"));
  EXPECT_THAT(smp_error("type: MAnet, decoder_channels: [64, 32]"),
              HasSubstr("decoder_channels: needs 5 values (encoder_depth), got 2"));
  EXPECT_THAT(smp_error("type: Linknet, encoder_depth: 6"),
              HasSubstr("encoder_depth: must be between 1 and 5, got 6"));
  for (const std::string type : {"FPN", "PAN", "DeepLabV3Plus"}) {
    EXPECT_THAT(smp_error("type: " + type + ", encoder_depth: 2"),
                HasSubstr("encoder_depth: must be between 3 and 5, got 2"));
  }
  EXPECT_THAT(smp_error("type: DeepLabV3, encoder_name: vgg16"),
              HasSubstr("encoder_name: vgg16 cannot be dilated to the output stride 8 that this "
                        "model asks of its encoder. Take a resnet or mobilenet_v2"));
  EXPECT_THAT(smp_error("type: DeepLabV3, encoder_output_stride: 32"),
              HasSubstr("encoder_output_stride: must be 8 or 16, got 32"));
  EXPECT_THAT(smp_error("type: PAN, encoder_output_stride: 8"),
              HasSubstr("encoder_output_stride: must be 16 or 32, got 8"));
  EXPECT_THAT(smp_error("type: DeepLabV3Plus, decoder_atrous_rates: [6, 12]"),
              HasSubstr("decoder_atrous_rates: needs 3 values, got 2"));
  EXPECT_THAT(smp_error("type: FPN, decoder_segmentation_channels: 48"),
              HasSubstr("decoder_segmentation_channels: must be a multiple of the 32 groups of the "
                        "norm, got 48"));
  EXPECT_THAT(smp_error("type: FPN, decoder_merge_policy: sum"),
              HasSubstr("decoder_merge_policy: unknown value 'sum'."));
  EXPECT_THAT(smp_error("type: Unet, activation: softmin"),
              HasSubstr("activation: unknown value 'softmin'. Did you mean 'softmax'?"));
  EXPECT_THAT(smp_error("type: Unet, decoder_attention_type: scse, decoder_channels: [64, 32, 16, "
                        "8, 8]"),
              HasSubstr("decoder_attention_type: scse divides channels by 16, and a map of the "
                        "decoder has only 8: widen decoder_channels"));
}

TEST(SmpModels, ReportAWrongNorm) {
  EXPECT_THAT(smp_error("type: Unet, decoder_use_norm: batchnorn"),
              HasSubstr("decoder_use_norm: unknown norm 'batchnorn'. Did you mean 'batchnorm'? "
                        "Known: batchnorm, identity, instancenorm"));
  EXPECT_THAT(smp_error("type: Unet, decoder_use_norm: {type: layernorm}"),
              HasSubstr("decoder_use_norm.type: layernorm normalises the last dimension"));
  EXPECT_THAT(smp_error("type: Unet, decoder_use_norm: inplace"),
              HasSubstr("decoder_use_norm: inplace is a layer of the package inplace_abn, which is "
                        "not here. Write batchnorm"));
  EXPECT_THAT(smp_error("type: Unet, decoder_use_norm: {type: batchnorm, epsilon: 1}"),
              HasSubstr("decoder_use_norm: BN has no option 'epsilon'"));
  EXPECT_THAT(smp_error("type: Unet, decoder_use_norm: [1]"),
              HasSubstr("decoder_use_norm: expected bool or string or mapping with 'type'"));
}

TEST(SmpModels, NameTheWeightsOfTheirEncoder) {
  EXPECT_THAT(
      test::config_error([] {
        Spec<Segmentor>::of("{type: Unet, encoder_name: resnet18, encoder_weights: imagenet1}")
            .build();
      }),
      HasSubstr("encoder_weights: unknown weights 'imagenet1' of resnet18. Did you mean "
                "'imagenet'? Known: imagenet, ssl, swsl; a file of weights; or null for random "
                "ones"));
}

TEST(SmpModels, NameThePaddingThatASizeNeeds) {
  const auto message = [](const std::string& options, std::vector<int64_t> size) {
    const torch::NoGradGuard no_grad;
    try {
      smp_model(options)->encode_decode(torch::zeros({1, 3, size[0], size[1]}));
    } catch (const DataError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(
      message("type: Linknet, encoder_name: resnet18", {40, 64}),
      "images of 40x64 do not fit this Linknet: height and width must be multiples of 32. "
      "Pad them to 64x64: for training set size of the data preprocessor (crop_size), for tests "
      "its test_cfg: {size_divisor: 32}");
  EXPECT_THAT(message("type: DeepLabV3, encoder_name: resnet18", {24, 33}),
              HasSubstr("do not fit this DeepLabV3: height and width must be multiples of 8. Pad "
                        "them to 24x40"));
  EXPECT_THAT(message("type: PAN, encoder_name: resnet18", {64, 128}),
              HasSubstr("PAN halves its encoder's last map three times, and this one has only "
                        "4x8"));
  EXPECT_EQ(message("type: Unet, encoder_name: resnet18", {37, 53}), "no error");
}

/// Every parameter that is trained has a gradient, and no other: neither an optimiser nor other
/// processes wait for the rest.
void expect_gradients(const std::string& options, int64_t side = 64) {
  const auto model = smp_model(options + ", classes: 3");
  set_drop_probability(*model, 0);
  total_loss(model->loss(torch::randn({2, 3, side, side}),
                         torch::randint(0, 3, {2, side, side}, torch::kLong)))
      .backward();
  for (const auto& item : model->named_parameters()) {
    EXPECT_EQ(item.value().requires_grad(), item.value().grad().defined())
        << options << ": " << item.key();
  }
}

TEST(SmpModels, TrainAllThatTheirOutputDependsOn) {
  expect_gradients(
      "type: Unet, encoder_name: resnet18, encoder_depth: 3, decoder_channels: [32, 16, 16], "
      "decoder_attention_type: scse");
  expect_gradients(
      "type: UnetPlusPlus, encoder_name: vgg11, encoder_depth: 2, decoder_channels: [16, 16], "
      "decoder_attention_type: scse");
  expect_gradients(
      "type: Unet, encoder_name: mobilenet_v2, encoder_depth: 2, decoder_channels: [16, 8]");
  expect_gradients(
      "type: PSPNet, encoder_name: resnet18, psp_out_channels: 16, aux_params: "
      "{classes: 2}");
  expect_gradients(
      "type: FPN, encoder_name: mobilenet_v2, decoder_pyramid_channels: 16, "
      "decoder_segmentation_channels: 32");
}

TEST(SmpModels, LogTheirLosses) {
  const auto model = smp_model(
      "type: Linknet, encoder_name: resnet18, encoder_depth: 2, classes: 3, loss_decode: "
      "[{type: CrossEntropyLoss}, {type: DiceLoss}]");
  const auto losses =
      model->loss(torch::randn({2, 3, 16, 16}), torch::randint(0, 3, {2, 16, 16}, torch::kLong));
  std::vector<std::string> names;
  for (const auto& [name, value] : losses) names.push_back(name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"decode.loss_ce", "decode.loss_dice", "decode.acc_seg"}));
}

TEST(SmpModels, OneClassIsBinary) {
  const torch::NoGradGuard no_grad;
  const std::string options = "type: Linknet, encoder_name: resnet18, encoder_depth: 2";
  const auto model = smp_model(options);
  model->eval();
  EXPECT_EQ(model->num_classes(), 2);
  const auto images = torch::randn({1, 3, 16, 16});
  const auto labels = torch::randint(0, 2, {1, 16, 16}, torch::kLong);
  const auto logits = model->encode_decode(images);
  EXPECT_EQ(logits.size(1), 1);
  const double expected =
      at::binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(torch::kFloat))
          .item<double>();
  EXPECT_NEAR(model->loss(images, labels)[0].second.item<double>(), expected, 1e-5);
  ModelInput input;
  input.images = images;
  EXPECT_TRUE(
      torch::equal(model->predict(input)[0].ids, (logits.sigmoid() > 0.5)[0][0].to(torch::kLong)));
}

TEST(SmpModels, ApplyTheirActivationToTheOutputAlone) {
  const torch::NoGradGuard no_grad;
  const std::string options = "type: Linknet, encoder_name: resnet18, encoder_depth: 2, classes: 3";
  const auto plain = smp_model(options);
  plain->eval();
  const auto images = torch::randn({2, 3, 16, 16});
  const auto logits = plain->encode_decode(images);
  ModelInput input;
  input.images = images;
  const auto expect = [&](const std::string& activation, const torch::Tensor& expected) {
    const auto model = smp_model(options + ", activation: " + activation);
    model->eval();
    EXPECT_TRUE(torch::allclose(model->encode_decode(images), expected)) << activation;
    EXPECT_TRUE(torch::equal(model->predict(input)[0].ids, logits.argmax(1)[0])) << activation;
  };
  expect("identity", logits);
  expect("sigmoid", logits.sigmoid());
  expect("softmax", logits.softmax(1));
  expect("softmax2d", logits.softmax(1));
  expect("logsoftmax", logits.log_softmax(1));
  expect("tanh", logits.tanh());
  expect("clamp", logits.clamp(0, 1));
  expect("argmax2d", logits.argmax(1));
}

TEST(SmpModels, ClassifyImagesAsPythonDoes) {
  const torch::NoGradGuard no_grad;
  const auto scores = [](const std::string& aux) {
    const auto model = smp_model(
        "type: Unet, encoder_name: resnet18, encoder_depth: 3, decoder_channels: [16, 16, 16], "
        "classes: 2, aux_params: {classes: 3, " +
        aux + "}");
    reference::fill(*model, 1);
    for (auto& p : model->parameters()) p.set_data(p.to(torch::kFloat64));
    for (auto& b : model->buffers()) {
      if (b.is_floating_point()) b.set_data(b.to(torch::kFloat64));
    }
    model->eval();
    return dynamic_cast<smp::SegmentationModel&>(*model).classify(reference::image({1, 3, 16, 24}));
  };
  // Of segmentation_models_pytorch 0.6.0 with the same weights and image.
  const auto expect = [](const torch::Tensor& found, const std::vector<double>& expected) {
    EXPECT_TRUE(torch::allclose(found[0], torch::tensor(expected, torch::kFloat64), 1e-9)) << found;
  };
  expect(scores("pooling: max, activation: sigmoid"),
         {0.004034013391979274, 0.9643436873504247, 0.16014855276141923});
  expect(scores("dropout: 0.5"), {-2.9176421394285423, 1.6051652617162682, -1.058514189124569});
}

// --- Weights ------------------------------------------------------------------------------------

std::shared_ptr<Encoder> encoder_of(const std::string& name, int64_t in_channels) {
  return build_encoder(name, {.in_channels = in_channels});
}

TEST(SmpEncoders, FitTheFirstConvolutionToTheBands) {
  const auto published = torch::randn({64, 3, 7, 7});
  const auto adapted = [&](int64_t bands) {
    Value state = Value::dict();
    state.set("conv1.weight", published);
    state.set("fc.weight", torch::zeros({1000, 512}));
    encoder_of("resnet18", bands)->adapt_pretrained(state);
    EXPECT_EQ(state.as_dict().size(), 1u);
    return state.at("conv1.weight").as_tensor();
  };
  EXPECT_TRUE(torch::equal(adapted(3), published));
  EXPECT_TRUE(torch::equal(adapted(1), published.sum(1, true)));
  const auto four =
      torch::cat({published, published.narrow(1, 0, 1)}, 1) * (3.0 / 4);  // bands 0, 1, 2, 0
  EXPECT_TRUE(torch::equal(adapted(4), four));
}

TEST(SmpEncoders, TakeTheEncoderOfAWholeModel) {
  Value state = Value::dict();
  state.set("encoder.features.0.weight", torch::ones({64, 3, 3, 3}));
  state.set("decoder.blocks.0.conv1.0.weight", torch::ones({1}));
  encoder_of("vgg11", 3)->adapt_pretrained(state);
  ASSERT_EQ(state.as_dict().size(), 1u);
  EXPECT_NE(state.find("features.0.weight"), nullptr);
}

TEST(SmpEncoders, DescribeTheirMaps) {
  const torch::NoGradGuard no_grad;
  for (const std::string name : {"resnet18", "vgg11", "mobilenet_v2"}) {
    for (const int64_t depth : {1, 3, 5}) {
      const auto encoder = build_encoder(name, {.in_channels = 2, .depth = depth});
      encoder->eval();
      const auto maps = encoder->forward(torch::zeros({1, 2, 64, 32}));
      ASSERT_EQ(maps.size(), static_cast<size_t>(depth) + 1);
      EXPECT_EQ(encoder->output_stride(), int64_t{1} << depth);
      for (size_t i = 0; i < maps.size(); ++i) {
        EXPECT_EQ(maps[i].sizes(),
                  (std::vector<int64_t>{1, encoder->out_channels()[i], 64 >> i, 32 >> i}))
            << name;
      }
    }
  }
}

TEST(SmpEncoders, DilateInsteadOfStriding) {
  const torch::NoGradGuard no_grad;
  for (const std::string name : {"resnet18", "mobilenet_v2"}) {
    for (const int64_t stride : {8, 16}) {
      const auto encoder = build_encoder(name, {.output_stride = stride});
      encoder->eval();
      EXPECT_EQ(encoder->output_stride(), stride);
      EXPECT_EQ(encoder->forward(torch::zeros({1, 3, 64, 64})).back().size(2), 64 / stride);
    }
  }
}

// --- Initial values -----------------------------------------------------------------------------

struct Moments {
  double bound, std;
};

Moments moments_of(const torch::nn::Module& model, const std::string& name) {
  const auto weight = model.named_parameters()[name].detach().to(torch::kFloat64);
  return {weight.abs().max().item<double>(), weight.std().item<double>()};
}

TEST(SmpModels, BeginAsTheLibrarysDo) {
  const auto model = smp_model("type: Unet, encoder_name: resnet18, classes: 40");
  model->init_weights();
  // Kaiming's uniform by the fan in: variance 2 / fan_in.
  const double decoder = std::sqrt(2.0 / (768 * 9));
  const auto first = moments_of(*model, "decoder.blocks.0.conv1.0.weight");
  EXPECT_NEAR(first.std, decoder, 0.01 * decoder);
  EXPECT_LE(first.bound, std::sqrt(3.0) * decoder);
  // Xavier's uniform: variance 2 / (fan_in + fan_out).
  const double head = std::sqrt(2.0 / (16 * 9 + 40 * 9));
  const auto last = moments_of(*model, "segmentation_head.0.weight");
  EXPECT_NEAR(last.std, head, 0.03 * head);
  EXPECT_LE(last.bound, std::sqrt(3.0) * head);
  EXPECT_EQ(model->named_parameters()["segmentation_head.0.bias"].abs().sum().item<double>(), 0);
  // Kaiming's normal by the fan out: variance 2 / fan_out.
  const double encoder = std::sqrt(2.0 / (512 * 9));
  EXPECT_NEAR(moments_of(*model, "encoder.layer4.0.conv1.weight").std, encoder, 0.01 * encoder);
}

TEST(SmpModels, DeepLabV3TakesWeightsWhoseDecoderHasNumbers) {
  const auto model = smp_model("type: DeepLabV3, encoder_name: resnet18, decoder_channels: 8");
  const Value state = state_dict(*model);
  ValueDict items;
  for (const auto& [key, tensor] : state.as_dict()) {
    std::string name = key.as_string();
    for (const auto& [now, before] :
         {std::pair{"decoder.aspp.", "decoder.0."}, std::pair{"decoder.conv.", "decoder.1."},
          std::pair{"decoder.bn.", "decoder.2."}}) {
      if (name.starts_with(now)) name = before + name.substr(std::string(now).size());
    }
    items.emplace_back(name, tensor.as_tensor() + 1);
  }
  ASSERT_TRUE(Value::dict(items).find("decoder.1.weight"));
  const auto report = load_state_dict(*model, Value::dict(std::move(items)), {.strict = true});
  EXPECT_TRUE(report.exact());
  EXPECT_EQ(model->named_parameters()["decoder.bn.bias"].min().item<double>(), 1);
}

}  // namespace seg::smp_test
