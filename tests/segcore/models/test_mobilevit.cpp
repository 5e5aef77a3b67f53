/// MobileViT with DeepLabV3's head: the numbers of transformers 5.24.0 through the maps of
/// configs/weights/, its options and its messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "segcore/io/weight_map.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/precision.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/named_weights.hpp"
#include "tests/support/paths.hpp"

namespace seg::mobilevit_test {

using ::testing::HasSubstr;

/// The sizes of the models of tests/data/weight_names/make_hf_names.py.
constexpr const char* kSmall =
    "type: MobileViT, stem_channels: 4, arch: [[mobilenetv2, 4, 1, 1, 2], [mobilenetv2, 8, 2, 3, "
    "2], [mobilevit, 8, 2, 8, 16, 2, 2], [mobilevit, 12, 2, 12, 24, 4, 2], [mobilevit, 16, 2, 16, "
    "32, 3, 2]]";

std::shared_ptr<Backbone> small(const std::string& options) {
  return Spec<Backbone>::of(text("{", kSmall, options, "}")).build();
}

/// Weights that a hash of their original names gives, under our names.
Value mapped_weights(const std::string& names, const WeightMap& map) {
  Value state = Value::dict();
  const Value named = test::weights_named_as(names);
  for (const auto& [name, value] : named.as_dict()) {
    const std::string& key = name.as_string();
    const bool counts = key.ends_with("num_batches_tracked");
    state.set(key, counts ? torch::zeros({}, torch::kLong)
                          : reference::weight_values(key, value.as_tensor(), /*gain=*/2));
  }
  return map.apply(state);
}

WeightMap mobilevit_map(const std::string& name) {
  return WeightMap(source_path("configs/weights/" + name + ".yaml"));
}

void load_all(torch::nn::Module& model, const Value& state) {
  model.to(torch::kFloat64);
  model.eval();
  EXPECT_EQ(load_state_dict(model, state).text(), "");
}

struct TransformersRun {
  int64_t output_stride;
  std::array<int64_t, 2> image;      ///< height and width
  std::array<double, 5> magnitudes;  ///< sums of the absolute values of the stages' maps
  double sum, magnitude;             ///< of the logits
  std::array<double, 5> logits;      ///< spread evenly over all
};

/// MobileViTForSemanticSegmentation in double precision on two images of reference::image. At the
/// odd sizes, maps are resized to whole patches and back.
const std::vector<TransformersRun> kTransformersRuns{
    {32,
     {64, 96},
     {11994.1784511732, 25653.4146295485, 5856.70995970233, 577.410811768474, 148.546450799937},
     7.40122481630436,
     33.3927572692324,
     {0.476979962306481, -0.129304320343595, 0.0862840373572571, 0.715372561509382,
      0.50261994304761}},
    {32,
     {75, 101},
     {14885.769891896, 32656.2872808761, 7371.11538566458, 723.755934957437, 282.541517558429},
     5.37254112451755,
     46.7476799175332,
     {0.322860145895157, -0.186432937152465, 0.471313570734592, -0.153423082596389,
      0.54889757641394}},
    {16,
     {64, 96},
     {11994.1784511732, 25653.4146295485, 5856.70995970233, 577.410811768474, 763.17185090232},
     57.3571554909884,
     151.217478830572,
     {0.866507176876268, 0.271571452449845, 0.489500748448107, 0.708182787305342,
      0.716327286662821}},
    {16,
     {75, 101},
     {14885.769891896, 32656.2872808761, 7371.11538566458, 723.755934957437, 897.442460557777},
     19.974265891883,
     118.391142407091,
     {0.465905189512848, -0.116313925711952, 0.191799326516844, 0.153234666533828,
      0.47258224347915}},
    {8,
     {64, 96},
     {11994.1784511732, 25653.4146295485, 5856.70995970233, 2155.74453274849, 2775.2530670557},
     119.302783358302,
     467.327671818424,
     {0.808650175745143, 0.349351307282319, 0.500642685039475, 0.279235512957177,
      0.62086719088422}},
    {8,
     {75, 101},
     {14885.769891896, 32656.2872808761, 7371.11538566458, 2861.10717197515, 3621.27517220829},
     55.3321844077308,
     451.699690611204,
     {0.752503015160166, 0.238257937527732, 0.604787846464162, -0.0677028772578835,
      1.10552364341821}}};

void expect_close(double actual, double expected) {
  EXPECT_NEAR(actual, expected, 1e-9 * std::abs(expected) + 1e-10);
}

TEST(MobileViT, GivesTheNumbersOfTransformersThroughTheMap) {
  const torch::NoGradGuard no_grad;
  const WeightMap map = mobilevit_map("hf_deeplabv3_mobilevit");
  const Value state = mapped_weights("hf_deeplabv3_mobilevit", map);
  for (const TransformersRun& run : kTransformersRuns) {
    SCOPED_TRACE(text("stride ", run.output_stride, ", height ", run.image[0]));
    const auto backbone = small(text(", last_exp_factor: 0, out_indices: [0, 1, 2, 3, 4], ",
                                     "output_stride: ", run.output_stride));
    const auto head = Spec<DecodeHead>::of(
                          "{type: ASPPHead, channels: 8, num_classes: 5, bottleneck_kernel_size: "
                          "1, bottleneck_dropout_ratio: 0.1, norm_cfg: {type: BN}}")
                          .build(backbone->features());
    Sequential model;  // only holds both under the names of a segmentor
    model.register_module("backbone", backbone);
    model.register_module("decode_head", head);
    load_all(model, state);
    const auto features = backbone->forward(reference::image({2, 3, run.image[0], run.image[1]}));
    ASSERT_EQ(features.size(), 5U);
    EXPECT_EQ(backbone->features().back().stride, run.output_stride);
    for (size_t i = 0; i < 5; ++i) {
      expect_close(features[i].abs().sum().item<double>(), run.magnitudes[i]);
    }
    const auto logits = head->forward(features).flatten();
    expect_close(logits.sum().item<double>(), run.sum);
    expect_close(logits.abs().sum().item<double>(), run.magnitude);
    for (int64_t i = 0; i < 5; ++i) {
      expect_close(logits[(logits.numel() - 1) * i / 4].item<double>(),
                   run.logits[static_cast<size_t>(i)]);
    }
  }
}

TEST(MobileViT, WidensTheLastMapAsTheClassifierOfTransformersDoes) {
  const torch::NoGradGuard no_grad;
  const auto backbone = small("");
  const Value state = mapped_weights("hf_mobilevit", mobilevit_map("hf_mobilevit"));
  load_all(*backbone, state);
  const auto features = backbone->forward(reference::image({2, 3, 75, 101}));
  ASSERT_EQ(features.size(), 1U);
  EXPECT_EQ(features[0].sizes(), (std::vector<int64_t>{2, 64, 3, 4}));
  EXPECT_EQ(backbone->features()[0].channels, 64);
  expect_close(features[0].sum().item<double>(), 731.110132921561);
  expect_close(features[0].abs().sum().item<double>(), 1037.17411211084);
}

TEST(MobileViT, HasTheParametersOfTheOriginals) {
  const auto parameters = [](const std::string& arch) {
    int64_t count = 0;
    const auto net =
        Spec<Backbone>::of("{type: mmpretrain.MobileViT, last_exp_factor: 0, arch: " + arch + "}")
            .build();
    for (const auto& p : net->parameters()) count += p.numel();
    return count;
  };
  // Of MobileViTForSemanticSegmentation without its head.
  EXPECT_EQ(parameters("small"), 4833952);
  EXPECT_EQ(parameters("x_small"), 1895216);
  EXPECT_EQ(parameters("xx_small"), 924784);
}

TEST(MobileViT, DropsWhereTheOriginalDoes) {
  const auto net = small(", drop_rate: 0.1");
  std::vector<std::string> dropping;
  for (const auto& module : net->named_modules()) {
    const auto* drop = dynamic_cast<const DropLayer*>(module.value().get());
    if (drop && drop->drop_probability() > 0 &&
        module.key().find("layers.2.1.global_rep.0.") == 0) {
      dropping.push_back(module.key());
    }
  }
  EXPECT_THAT(dropping, ::testing::ElementsAre("layers.2.1.global_rep.0.attn.proj_drop",
                                               "layers.2.1.global_rep.0.ffn.layers.2"));
}

TEST(MobileViT, FreezesStagesAndNorms) {
  const auto net = small(", frozen_stages: 2, norm_eval: true, out_indices: [-1, 1]");
  net->train();
  const auto parameters = net->named_parameters();
  EXPECT_TRUE(parameters["stem.conv.weight"].requires_grad());
  EXPECT_FALSE(parameters["layers.1.2.conv.0.conv.weight"].requires_grad());
  EXPECT_TRUE(parameters["layers.2.0.conv.0.conv.weight"].requires_grad());
  EXPECT_FALSE(net->named_modules()["layers.4.1.conv_fusion.bn"]->is_training());
  const auto maps = net->forward(torch::rand({1, 3, 64, 64}));
  ASSERT_EQ(maps.size(), 2U);
  EXPECT_EQ(maps[0].size(1), 8);
  EXPECT_EQ(maps[1].size(1), 64);
}

TEST(MobileViT, RecomputesBlocksWithTheSameGradients) {
  const auto image = torch::rand({2, 3, 64, 64});
  const auto gradient = [&](const std::string& options) {
    torch::manual_seed(0);
    const auto net = small(options);
    net->forward(image)[0].square().sum().backward();
    return net->named_parameters()["layers.0.0.conv.0.conv.weight"].grad();
  };
  EXPECT_TRUE(torch::allclose(gradient(", with_cp: true"), gradient(""), 1e-4, 1e-6));
}

TEST(MobileViT, TrainsInHalfPrecisionAndAveragesAugmentations) {
  torch::manual_seed(0);
  const auto model =
      Spec<Segmentor>::of(text("{type: EncoderDecoder, backbone: {", kSmall,
                               "}, decode_head: {type: ASPPHead, channels: 8, dilations: [1, 6], "
                               "num_classes: 3, dropout_ratio: 0, norm_cfg: {type: BN}}}"))
          .build();
  const auto images = torch::randn({2, 3, 64, 64});
  const auto labels = torch::randint(0, 3, {2, 64, 64}, torch::kLong);
  const double full = total_loss(model->loss(images, labels)).item<double>();
  torch::Tensor half;
  {
    const Autocast precision(at::kCPU, at::kBFloat16);
    half = total_loss(model->loss(images, labels));
  }
  EXPECT_NEAR(half.item<double>(), full, 0.05 * full);
  half.backward();
  for (const auto& item : model->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_TRUE(item.value().grad().isfinite().all().item<bool>()) << item.key();
  }
  model->eval();
  const torch::NoGradGuard no_grad;
  ModelInput plain, mirrored;
  plain.images = images.narrow(0, 0, 1);
  mirrored.images = plain.images.flip({3});
  mirrored.metas.resize(1);
  mirrored.metas[0].flip = true;
  mirrored.metas[0].flip_direction = "horizontal";
  const auto mean = (model->encode_decode(plain.images).softmax(1) +
                     model->encode_decode(mirrored.images).softmax(1).flip({3})) /
                    2;
  EXPECT_TRUE(torch::equal(model->predict_tta({plain, mirrored}).at(0).ids, mean.argmax(1)[0]));
}

TEST(MobileViT, SaysWhatIsWrong) {
  const auto error = [](const std::string& options) {
    return test::spec_error<Backbone>("{type: MobileViT, " + options + "}");
  };
  EXPECT_THAT(error("arch: smal"), HasSubstr("arch: unknown value 'smal'. Known: small, x_small, "
                                             "xx_small, or a list of stages"));
  EXPECT_THAT(error("output_stride: 4"), HasSubstr("output_stride: must be 8, 16 or 32, got 4"));
  EXPECT_THAT(error("out_indices: [5]"), HasSubstr("out_indices: there is no stage 5 among 5"));
  EXPECT_THAT(error("frozen_stages: 6"), HasSubstr("frozen_stages: there are only 5 stages"));
  const std::string stage =
      "arch: stage 1 must be [mobilenetv2, channels, stride, blocks, expand_ratio] or [mobilevit, "
      "channels, stride, transformer_channels, ffn_channels, blocks, expand_ratio], with a stride "
      "of 1 or 2 and transformer_channels a multiple of 4";
  for (const char* row : {"mobilenetv2, 8", "mobilenetv2, 8, 3, 1", "resnet, 8, 1, 1",
                          "mobilevit, 8, 2, 6, 8, 2", "mobilevit, 8, 2", "8, 1, 1, 1", ""}) {
    EXPECT_THAT(error(text("arch: [[mobilenetv2, 8, 1, 1], [", row, "]]")), HasSubstr(stage))
        << row;
  }
  EXPECT_THAT(test::spec_error<DecodeHead>(
                  "{type: ASPPHead, channels: 8, num_classes: 5, bottleneck_kernel_size: 2}"),
              HasSubstr("bottleneck_kernel_size: must be odd, got 2"));
}

}  // namespace seg::mobilevit_test
