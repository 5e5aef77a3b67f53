// Mobile networks, EfficientNets, ShuffleNets and YOLO backbones: facts and maps of the Python
// libraries (tests/data/encoders/make_mobile_encoders.py), dilation, stochastic depth and
// deformable convolutions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <set>

#include "segcore/io/weights.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/nn/deform_conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/encoder_facts.hpp"

namespace seg::mobile_encoders_test {

using ::testing::HasSubstr;

std::shared_ptr<Encoder> encoder_of(const std::string& name, const EncoderOptions& options = {}) {
  return build_plain_encoder(name, options);
}

// --- Names, shapes and numbers ------------------------------------------------------------------

TEST(MobileEncoders, HaveTheTensorsAndWeightsOfPython) {
  // Larger ones are built like these, by the same rows with other factors, and take seconds each.
  const int64_t most_parameters =
      std::getenv("SEGCORE_ALL_FIXTURES") ? std::numeric_limits<int64_t>::max() : 45'000'000;
  size_t tested = 0;
  for (const auto& row : test::encoder_table_rows("mobile_encoders.tsv")) {
    SCOPED_TRACE(row[0]);
    ASSERT_NE(EncoderTable::instance().find(row[0]), nullptr);
    if (std::stoll(row[1]) > most_parameters) continue;
    const auto encoder = encoder_of(row[0]);
    EXPECT_EQ(test::count_parameters(*encoder), std::stoll(row[1]));
    EXPECT_EQ(test::state_digest(*encoder), row[2]);
    std::string addresses, last;
    for (const auto& weights : encoder->facts().published) {
      if (weights.address != last) addresses += (last.empty() ? "" : " ") + weights.address;
      last = weights.address;
    }
    EXPECT_EQ(addresses, row.size() > 3 ? row[3] : "");
    ++tested;
  }
  EXPECT_GT(tested, 80u);
}

TEST(MobileEncoders, AreAllComparedWithPython) {
  std::set<std::string> compared;
  for (const auto& row : test::encoder_table_rows("mobile_encoders.tsv")) compared.insert(row[0]);
  for (const auto& name : EncoderTable::instance().names()) {
    const bool ours =
        std::ranges::any_of(std::vector{"mobilenet", "efficientnet", "shufflenet", "yolo"},
                            [&](const char* part) { return name.find(part) != name.npos; });
    if (!ours || name.ends_with("-dcn")) continue;
    EXPECT_EQ(compared.count(name), 1u) << name;
  }
}

TEST(MobileEncoders, GiveTheMapsOfPython) {
  const torch::NoGradGuard no_grad;
  at::set_num_threads(1);
  const auto image = reference::image({1, 3, 64, 96});
  std::string built;
  std::vector<torch::Tensor> maps;
  std::shared_ptr<Encoder> encoder;
  for (const auto& row : test::encoder_table_rows("mobile_maps.tsv")) {
    SCOPED_TRACE(row[0] + " at the output stride " + row[1] + ", map " + row[3]);
    if (built != row[0] + row[1]) {
      built = row[0] + row[1];
      encoder = encoder_of(row[0], {.output_stride = std::stoll(row[1])});
      reference::fill(*encoder, std::stod(row[2]));
      encoder->to(torch::kFloat64);
      encoder->eval();
      maps = encoder->forward(image);
      ASSERT_EQ(maps.size(), 6u);
    }
    const auto i = static_cast<size_t>(std::stoul(row[3]));
    test::expect_map(maps[i], row, 4);
    EXPECT_EQ(maps[i].size(1), encoder->maps()[i].channels);
    EXPECT_EQ(64 / maps[i].size(2), encoder->maps()[i].stride);
  }
}

// --- Training -----------------------------------------------------------------------------------

TEST(MobileEncoders, TrainWhatTheirMapsDependOn) {
  torch::manual_seed(0);
  for (const std::string name :
       {"tu-mobilenetv3_small_050", "tu-mobilenetv4_conv_small_035", "tv-mobilenet_v3_small",
        "tv-shufflenet_v2_x0_5", "efficientnet-b0", "timm-efficientnet-b0", "yolov5n-dcn",
        "yolov8n", "yolov9t", "yolov9e"}) {
    for (const int64_t depth : {3, 5}) {
      SCOPED_TRACE(text(name, " of depth ", depth));
      const auto encoder = encoder_of(name, {.depth = depth});
      encoder->init_weights();
      const auto maps = encoder->forward(torch::randn({2, 3, 64, 64}));
      ASSERT_EQ(maps.size(), static_cast<size_t>(depth + 1));
      test::backward_of_maps(maps);
      test::expect_gradients_where_trained(*encoder);
    }
  }
}

TEST(MobileEncoders, LoseBlocksAtTheRateOfTheLastOne) {
  torch::manual_seed(0);
  const auto rates = [](const std::string& name, double rate) {
    std::vector<double> out;
    const auto encoder = encoder_of(name, {.drop_path_rate = rate});
    for_each_module(*encoder, [&](torch::nn::Module& m) {
      if (auto* drop = dynamic_cast<DropPath*>(&m)) out.push_back(drop->drop_probability());
    });
    return out;
  };
  // Blocks 2, 4, 6, 7, 9, 10, 12, 13 and 14 of 16 have a shortcut.
  EXPECT_THAT(rates("tu-efficientnet_b0", 0.16),
              ::testing::Pointwise(::testing::DoubleNear(1e-12),
                                   {0.02, 0.04, 0.06, 0.07, 0.09, 0.1, 0.12, 0.13, 0.14}));
  EXPECT_TRUE(rates("tu-efficientnet_b0", 0).empty());
  // The library's own rate.
  EXPECT_NEAR(rates("tv-efficientnet_b0", 0).back(), 0.2 * 14 / 16, 1e-12);
  try {
    encoder_of("tv-mobilenet_v3_large", {.drop_path_rate = 0.1});
    FAIL() << "no error";
  } catch (const OptionError& e) {
    EXPECT_STREQ(e.what(), "tv-mobilenet_v3_large has no stochastic depth");
  }
}

TEST(MobileEncoders, StartAsTheirLibrariesDo) {
  torch::manual_seed(0);
  const auto deviation = [](const std::string& name, const std::string& tensor) {
    const auto encoder = encoder_of(name);
    encoder->init_weights();
    return encoder->named_parameters()[tensor].std().item<double>();
  };
  // A depthwise 3x3: by the fan out of its group, of all groups, and PyTorch's 1 / sqrt(3 fan in).
  EXPECT_NEAR(deviation("tu-mobilenetv1_100", "blocks.4.1.conv_dw.weight"), std::sqrt(2.0 / 9),
              0.02);
  EXPECT_NEAR(deviation("tv-mobilenet_v2", "features.17.conv.1.0.weight"),
              std::sqrt(2.0 / (9 * 960)), 0.001);
  EXPECT_NEAR(deviation("tv-shufflenet_v2_x1_0", "stage4.3.branch2.3.weight"), 1 / std::sqrt(27.0),
              0.01);
  const auto deforms = encoder_of("yolov5n-dcn");
  deforms->init_weights();
  const auto parameters = deforms->named_parameters();
  EXPECT_EQ(parameters["model.2.m.0.cv2.conv.conv_offset.weight"].abs().max().item<float>(), 0);
}

// --- In models ----------------------------------------------------------------------------------

TEST(MobileEncoders, AreEncodersOfModels) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(0);
  const auto logits = [](const std::string& options) {
    const auto model =
        Spec<Segmentor>::of("{encoder_weights: null, in_channels: 4, classes: 3, " + options + "}")
            .build();
    model->eval();
    return model->encode_decode(torch::randn({1, 4, 64, 96}));
  };
  for (const std::string name :
       {"efficientnet-b0", "timm-efficientnet-b0", "tu-mobilenetv4_conv_small",
        "timm-mobilenetv3_small_075", "tv-mobilenet_v3_small", "tv-shufflenet_v2_x0_5"}) {
    SCOPED_TRACE(name);
    EXPECT_EQ(
        logits("type: DeepLabV3Plus, encoder_output_stride: 16, encoder_name: " + name).sizes(),
        (std::vector<int64_t>{1, 3, 64, 96}));
  }
  EXPECT_EQ(logits("type: Unet, encoder_name: yolov9t").sizes(),
            (std::vector<int64_t>{1, 3, 64, 96}));
  EXPECT_THAT(test::config_error([&] { logits("type: DeepLabV3, encoder_name: yolov8n"); }),
              HasSubstr("encoder_name: yolov8n cannot be dilated to the output stride 8 that this "
                        "model asks of its encoder. Take a resnet or mobilenet_v2"));
}

TEST(MobileEncoders, LeaveOutWhatFollowsThem) {
  const auto names_left = [](const std::string& encoder, const std::vector<std::string>& names) {
    Value state = Value::dict();
    for (const auto& name : names) state.set(name, Value(torch::zeros({1})));
    encoder_of(encoder)->adapt_pretrained(state);
    std::vector<std::string> out;
    for (const auto& [name, value] : state.as_dict()) out.push_back(name.as_string());
    return out;
  };
  using ::testing::ElementsAre;
  const std::vector<std::string> timm{"bn1.weight", "blocks.0.0.bn2.weight", "conv_head.weight",
                                      "bn2.weight", "classifier.weight"};
  EXPECT_THAT(names_left("tu-mobilenetv2_035", timm),
              ElementsAre("bn1.weight", "blocks.0.0.bn2.weight"));
  EXPECT_THAT(names_left("timm-efficientnet-b0", timm),
              ElementsAre("bn1.weight", "blocks.0.0.bn2.weight", "conv_head.weight", "bn2.weight"));
  EXPECT_THAT(names_left("efficientnet-b0", {"_bn1.weight", "_fc.weight"}),
              ElementsAre("_bn1.weight"));
  EXPECT_THAT(names_left("yolov8n", {"model.9.cv1.bn.weight", "model.10.x", "model.22.dfl.conv"}),
              ElementsAre("model.9.cv1.bn.weight"));
}

// --- Deformable convolutions --------------------------------------------------------------------

TEST(DeformConv, BeginsAsHalfAConvolution) {
  torch::manual_seed(0);
  const torch::NoGradGuard no_grad;
  const ConvOptions options{.in_channels = 4,
                            .out_channels = 6,
                            .kernel_size = {3, 5},
                            .stride = {2, 1},
                            .padding = {1, 4},
                            .dilation = {1, 2}};
  const auto conv = build_conv(Spec<Conv2d>::of("{type: DCNv2, deform_groups: 2}"), options);
  Conv2d plain(options);
  plain.weight.copy_(conv->weight / 2);
  plain.bias.copy_(conv->bias);
  const auto x = torch::randn({2, 4, 9, 7});
  EXPECT_TRUE(torch::allclose(conv->forward(x), plain.forward(x), 1e-4, 1e-5));
}

TEST(DeformConv, MovesItsTaps) {
  const torch::NoGradGuard no_grad;
  // One tap, moved half a pixel right and one down: means of neighbours, and 0 outside.
  const ConvOptions options{.in_channels = 1, .out_channels = 1};
  const auto x = torch::arange(6, torch::kFloat32).view({1, 1, 2, 3});
  const auto offsets = torch::tensor({1.0f, 0.5f}).view({1, 2, 1, 1}).expand({1, 2, 2, 3});
  const auto taps =
      deformed_taps(x, offsets.contiguous(), torch::full({1, 1, 2, 3}, 2.0f), options, 1);
  EXPECT_EQ(taps.sizes(), (std::vector<int64_t>{1, 1, 1, 2, 3}));
  EXPECT_TRUE(torch::allclose(taps.flatten(), torch::tensor({7.0f, 9.0f, 5.0f, 0.0f, 0.0f, 0.0f})));
}

TEST(DeformConv, BeginsAsAPlainConvolution) {
  torch::manual_seed(0);
  const ConvOptions options{.in_channels = 6,
                            .out_channels = 4,
                            .kernel_size = 3,
                            .stride = 2,
                            .padding = 2,
                            .dilation = 2,
                            .groups = 2,
                            .bias = false};
  const auto x = torch::randn({2, 6, 9, 11});
  for (const std::string type : {"DCN", "DCNv2"}) {
    const auto conv = Spec<Conv2d>::of("{deform_groups: 3, type: " + type + "}").build(options);
    const auto plain = at::conv2d(x, conv->weight, {}, 2, 2, 2, 2);
    EXPECT_TRUE(torch::allclose(conv->forward(x), (type == "DCN" ? 1.0 : 0.5) * plain, 1e-4, 1e-5));
    EXPECT_EQ(conv->named_parameters()["conv_offset.weight"].sizes(),
              at::IntArrayRef({type == "DCN" ? 54 : 81, 6, 3, 3}));
  }
}

TEST(DeformConv, SaysWhatItHasNot) {
  const auto message = [](const std::string& yaml, const ConvOptions& options) {
    return test::config_error([&] { Spec<Conv2d>::of(yaml).build(options); });
  };
  EXPECT_THAT(message("{type: DCN}", {.in_channels = 4, .out_channels = 4}),
              HasSubstr("type: DCN has no bias: it needs a norm behind it, as in mmcv"));
  EXPECT_THAT(message("{type: DCNv2, deform_groups: 3}", {.in_channels = 4, .out_channels = 4}),
              HasSubstr("deform_groups: must divide the 4 channels"));
}

TEST(YoloV5, HasTheTensorsOfThePlainOneAndOffsets) {
  auto rows = test::state_rows(*encoder_of("yolov5s-dcn"));
  EXPECT_EQ(
      std::erase_if(rows, [](const auto& row) { return row.find("conv_offset") != row.npos; }),
      2u * 7);
  EXPECT_EQ(rows, test::state_rows(*encoder_of("yolov5s")));
}

}  // namespace seg::mobile_encoders_test
