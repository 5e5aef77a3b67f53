/// Depth by VPD: beside the numbers of Python (tests/data/reference/vpd) its files, messages and
/// predictions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "segcore/evaluation/depth_picture.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/losses/depth_loss.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/models/takes_categories.hpp"
#include "segcore/models/weights/load_pretrained.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::vpd_test {
namespace {

using ::testing::HasSubstr;

/// The least that a U-Net of four levels can be.
std::string narrow_backbone(const std::string& more = "", const std::string& checkpoint = "null",
                            const std::string& unet = "") {
  return "{type: VPD, num_class_embeddings: 3" + more +
         ", diffusion_cfg: {checkpoint: " + checkpoint +
         ", params: {unet_config: {params: {model_channels: 32, channel_mult: [1, 1, 1, 1], "
         "num_heads: 2, attention_resolutions: [8], context_dim: 8" +
         unet +
         "}}, first_stage_config: {params: {ddconfig: {ch: 32, ch_mult: [1, 1, 1, 1], "
         "num_res_blocks: 1}}}}}}";
}

std::string narrow_model(const std::string& more = "", const std::string& backbone = "",
                         const std::string& head = "feature_dim: 32") {
  return "{type: DepthEstimator, backbone: " + narrow_backbone(backbone) +
         ", decode_head: {type: VPDDepthHead, embed_dim: 4, num_deconv_filters: [4, 4, 4], " +
         head + "}" + more + "}";
}

std::shared_ptr<Segmentor> depth_model(const std::string& more = "",
                                       const std::string& backbone = "") {
  torch::manual_seed(1);
  auto model = Spec<Segmentor>::of(narrow_model(more, backbone)).build();
  model->to(torch::kFloat64);
  model->eval();
  return model;
}

template <class E = DataError, class F>
std::string error_text(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "no error";
}

std::string model_error(const std::string& yaml) {
  return test::config_error([&] { Spec<Segmentor>::of(yaml).build(); });
}

ModelInput depth_input(const torch::Tensor& images, const SampleMeta& meta) {
  ModelInput input;
  input.images = images;
  input.metas.assign(static_cast<size_t>(images.size(0)), meta);
  return input;
}

torch::Tensor tensor_of(const torch::nn::Module& module, const std::string& name) {
  return state_dict(module).at(name).as_tensor();
}

TEST(DepthEstimator, PredictsTheOriginalShape) {
  const torch::NoGradGuard no_grad;
  const auto model = depth_model();
  EXPECT_EQ(model->num_classes(), 0);
  const auto images = torch::randn({1, 3, 64, 128}, torch::kFloat64);
  SampleMeta meta;
  meta.img_shape = {60, 100};
  meta.ori_shape = {90, 150};
  meta.flip = true;
  meta.flip_direction = "horizontal";
  const auto depth = model->encode_decode(images);
  EXPECT_GT(depth.min().item<double>(), 0);
  EXPECT_LT(depth.max().item<double>(), 10);
  const auto inside = depth.slice(2, 0, 60).slice(3, 0, 100).flip({3});
  const auto expected = resize(inside, Size2(90, 150))[0][0];
  const auto plain = depth_input(images, meta);
  const Prediction found = model->predict(plain).at(0);
  EXPECT_FALSE(found.ids.defined());
  EXPECT_FALSE(found.scores.defined());
  EXPECT_TRUE(torch::allclose(found.depth, expected, 1e-9, 1e-9));
  EXPECT_TRUE(torch::equal(model->predict_scores({plain}).at(0).depth, found.depth));

  meta.flip = false;
  const auto other = depth_input(images.flip({3}), meta);
  EXPECT_TRUE(torch::allclose(model->predict_tta({plain, other}).at(0).depth,
                              (found.depth + model->predict(other).at(0).depth) / 2));
}

TEST(DepthEstimator, TrainsInHalfPrecision) {
  torch::manual_seed(1);
  const auto model = Spec<Segmentor>::of(narrow_model()).build();
  const auto images = torch::randn({2, 3, 64, 64});
  Targets targets{torch::Tensor()};
  targets.depth = torch::rand({2, 64, 64}) * 9 + 0.5;
  const double full = total_loss(model->loss(images, targets)).item<double>();
  torch::Tensor half;
  {
    const Autocast precision(at::kCPU, at::kBFloat16);
    half = total_loss(model->loss(images, targets));
  }
  EXPECT_NEAR(half.item<double>(), full, 0.05 * full);
  half.backward();
  for (const auto& item : model->named_parameters()) {
    if (!item.value().grad().defined()) continue;
    EXPECT_TRUE(item.value().grad().isfinite().all().item<bool>()) << item.key();
  }
}

TEST(DepthEstimator, WindowsAreMirroredWhereAsked) {
  const torch::NoGradGuard no_grad;
  const std::string window = "crop_size: [64, 64], stride: [64, 32]}";
  const auto model = depth_model(", test_cfg: {mode: slide_flip, " + window);
  const auto images = torch::randn({1, 3, 64, 96}, torch::kFloat64);
  torch::Tensor sum = torch::zeros({1, 1, 64, 96}, torch::kFloat64), count = sum.clone();
  for (const int64_t left : {0, 32}) {
    const auto part = images.slice(3, left, left + 64);
    const auto mean =
        (model->encode_decode(part) + model->encode_decode(part.flip({3})).flip({3})) / 2;
    sum.slice(3, left, left + 64) += mean;
    count.slice(3, left, left + 64) += 1;
  }
  const auto expected = (sum / count)[0][0];
  const auto input = depth_input(images, {});
  EXPECT_TRUE(torch::allclose(model->predict(input).at(0).depth, expected));
  EXPECT_TRUE(torch::allclose(model->predict_windows(input, 64, {64, 32}).depth, expected));
  const auto plain = depth_model(", test_cfg: {mode: slide, " + window);
  EXPECT_FALSE(torch::allclose(plain->predict(input).at(0).depth, expected));
  EXPECT_THAT(model_error(narrow_model(", test_cfg: {mode: slide_flip}")),
              HasSubstr("crop_size: is needed by mode 'slide_flip'"));
}

TEST(DepthEstimator, HeadsFitTheTypeOfTheModel) {
  const std::string head = "{type: FCNHead, channels: 8, num_classes: 2, in_index: 0}";
  EXPECT_THAT(model_error("{type: DepthEstimator, backbone: " + narrow_backbone() +
                          ", decode_head: " + head + "}"),
              HasSubstr("decode_head: FCNHead predicts classes: DepthEstimator needs a head that "
                        "estimates depth, such as VPDDepthHead"));
  EXPECT_THAT(model_error("{type: EncoderDecoder, backbone: " + narrow_backbone() +
                          ", decode_head: {type: VPDDepthHead}}"),
              HasSubstr("decode_head: VPDDepthHead estimates depth: use the type DepthEstimator"));
  EXPECT_THAT(model_error(narrow_model("", "", "loss_decode: {type: CrossEntropyLoss}")),
              HasSubstr("no depth loss is called 'CrossEntropyLoss'"));
}

TEST(DepthEstimator, TrainsOnDepthAlone) {
  const auto model = depth_model();
  const auto images = torch::randn({2, 3, 64, 64}, torch::kFloat64);
  EXPECT_EQ(error_text([&] {
              model->loss(images, Targets(torch::zeros({2, 64, 64})));
            }),
            "the model learns depth, but the training data have none: use NYUDataset with "
            "data_prefix.depth_map_path, and LoadDepthAnnotation in its pipeline");
  Targets targets{torch::Tensor()};
  targets.depth = torch::ones({2, 64, 64}, torch::kFloat64);
  targets.categories = {2, -1};
  model->train();
  const auto losses = model->loss(images, targets);
  ASSERT_EQ(losses.size(), 1u);
  EXPECT_EQ(losses[0].first, "decode.loss_silog");
  losses[0].second.backward();
  for (const auto& item : model->named_parameters()) {
    // The autoencoder is not trained; the noise is not predicted.
    const bool used = item.key().find("encoder_vq") == std::string::npos &&
                      item.key().find("diffusion_model.out.") == std::string::npos;
    EXPECT_EQ(item.value().grad().defined(), used) << item.key();
  }
  const auto classes = Spec<Segmentor>::of(
                           "{type: EncoderDecoder, backbone: {type: UNet, base_channels: 4, "
                           "num_stages: 2, strides: [1, 1], enc_num_convs: [1, 1], dec_num_convs: "
                           "[1], downsamples: [true], enc_dilations: [1, 1], dec_dilations: [1]}, "
                           "decode_head: {type: FCNHead, channels: 4, num_classes: 2}}")
                           .build();
  EXPECT_EQ(error_text([&] { classes->loss(images, targets); }),
            "the model learns classes, but the training data have maps of depth: use the type "
            "DepthEstimator with a head that estimates depth, or a data set with classes");
}

TEST(VPDDepthHead, WrongOptions) {
  EXPECT_THAT(model_error(narrow_model("", "", "feature_dim: 64")),
              HasSubstr("feature_dim: must be 8 times embed_dim (32), got 64"));
  EXPECT_THAT(model_error(narrow_model("", "", "feature_dim: 32, num_deconv_layers: 2")),
              HasSubstr("num_deconv_filters: has 3 widths for 2 layers (num_deconv_layers)"));
}

TEST(SiLogLoss, StaysFiniteWhereItsRootIsZero) {
  const auto loss = Spec<DepthLoss>::of("{type: SiLogLoss}").build();
  auto depth = torch::full({2, 3, 3}, 2.0, torch::kFloat64).requires_grad_();
  auto truth = torch::zeros({2, 3, 3}, torch::kFloat64);  // the first is unknown
  truth[1].fill_(2);                                      // the second is estimated exactly
  const auto value = (*loss)(depth, truth);
  value.backward();
  EXPECT_LT(value.item<double>(), 1e-12);
  EXPECT_TRUE(depth.grad().isfinite().all().item<bool>());
}

TEST(VPD, WrongOptions) {
  const auto error = [](const std::string& more, const std::string& unet = "") {
    return test::config_error(
        [&] { Spec<Backbone>::of(narrow_backbone(more, "null", unet)).build(); });
  };
  EXPECT_THAT(error(", unet_cfg: {use_attn: true}"),
              HasSubstr("unet_cfg.use_attn: must be false: maps of attention are not joined to "
                        "the features"));
  EXPECT_THAT(error("", ", num_res_blocks: 3"),
              HasSubstr("num_res_blocks: must be 2, since VPD takes the maps of such a U-Net; got "
                        "3"));
  EXPECT_THAT(error("", ", in_channels: 8"),
              HasSubstr("diffusion_cfg: the autoencoder's embed_dim is 4, the U-Net's in_channels "
                        "8: they must be equal"));
  EXPECT_THAT(error("", ", num_head_channels: 5"),
              HasSubstr("num_head_channels: does not divide the 32 channels of a level"));
  EXPECT_THAT(error("", ", use_spatial_transformer: false"),
              HasSubstr("use_spatial_transformer: must be true: VPD conditions the U-Net"));
}

TEST(VPD, TakesImagesOfWholeStrides) {
  const torch::NoGradGuard no_grad;
  const auto images = torch::randn({1, 3, 60, 100});
  const auto vpd = Spec<Backbone>::of(narrow_backbone()).build();
  EXPECT_EQ(error_text([&] { vpd->forward(images); }),
            "VPD takes images whose sides are multiples of 64, got 60x100: set "
            "model.backbone.pad_shape, or predict by windows of such a size (test_cfg)");
  const auto padded = Spec<Backbone>::of(narrow_backbone(", pad_shape: [64, 128]")).build();
  const auto maps = padded->forward(images);
  const auto infos = padded->features();
  ASSERT_EQ(maps.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(maps[i].sizes(), (std::vector<int64_t>{1, infos[i].channels, 64 / infos[i].stride,
                                                     128 / infos[i].stride}));
  }
}

TEST(VPD, TextsAreOfTheCategoryOrTheirMean) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  const auto vpd = Spec<Backbone>::of(narrow_backbone(", class_embed_select: true")).build();
  vpd->eval();
  for (auto& parameter : vpd->parameters()) {
    if (parameter.abs().max().item<float>() == 0) parameter.normal_(0, 0.1);  // the zeroed branches
  }
  auto* by_category = dynamic_cast<TakesCategories*>(vpd.get());
  ASSERT_NE(by_category, nullptr);
  const auto images = torch::randn({1, 3, 64, 64}).repeat({3, 1, 1, 1});
  const auto map = by_category->forward_categories(images, {0, 1, -1})[3];
  EXPECT_FALSE(torch::allclose(map[0], map[1]));
  EXPECT_TRUE(torch::allclose(map[2], vpd->forward(images)[3][0], 1e-4, 1e-5));
  EXPECT_EQ(error_text([&] {
              by_category->forward_categories(images, {0, 1, 3});
            }),
            "an image is of category 3, but 3 have embeddings: set "
            "model.backbone.num_class_embeddings and class_embed_path, or class_embed_select: "
            "false");
}

TEST(VPD, ReadsEmbeddingsAndWeightsOfTheDiffusionModel) {
  const test::TempDir dir;
  const auto texts = torch::randn({3, 8});
  write_checkpoint(dir / "texts.pth", Value(texts));
  write_checkpoint(dir / "more.pth", Value(torch::randn({5, 8})));
  const std::string select = ", class_embed_select: true, class_embed_path: ";
  const auto source = Spec<Backbone>::of(narrow_backbone()).build();
  const Value own = state_dict(*source);
  Value weights = Value::dict();
  for (const auto& [key, tensor] : own.as_dict()) {
    const std::string& name = key.as_string();
    const std::string vq = "encoder_vq.", unet = "unet.unet.";
    if (name.starts_with(vq)) {
      weights.set("first_stage_model." + name.substr(vq.size()), tensor);
    } else if (name.starts_with(unet)) {
      weights.set("model." + name.substr(unet.size()), tensor);
    }
  }
  weights.set("cond_stage_model.weight", torch::zeros({2}));
  Value file = Value::dict();
  file.set("state_dict", weights);
  write_checkpoint(dir / "sd.pth", file);

  const auto vpd =
      Spec<Backbone>::of(narrow_backbone(select + (dir / "texts.pth"), dir / "sd.pth")).build();
  EXPECT_TRUE(load_pretrained_modules(*vpd));
  const auto embeddings = tensor_of(*vpd, "class_embeddings");
  EXPECT_TRUE(torch::equal(embeddings.narrow(0, 0, 3), texts));
  EXPECT_TRUE(torch::allclose(embeddings[3], texts.mean(0)));
  for (const std::string name :
       {"encoder_vq.quant_conv.weight", "unet.unet.diffusion_model.input_blocks.0.0.weight"}) {
    EXPECT_TRUE(torch::equal(tensor_of(*vpd, name), tensor_of(*source, name))) << name;
  }

  const auto wrong = [&](const std::string& path) {
    const auto model = Spec<Backbone>::of(narrow_backbone(select + path)).build();
    return error_text<CheckpointError>([&] { load_pretrained_modules(*model); });
  };
  EXPECT_THAT(wrong(dir / "more.pth"),
              HasSubstr(dir / "more.pth" + ": its tensor [5, 8] does not fit class_embeddings "
                                           "[4, 8]"));
  EXPECT_THAT(wrong(dir / "sd.pth"), HasSubstr(dir / "sd.pth" + ": expected one tensor, found "));
}

TEST(DepthPicture, ShowsNearAndFarAndWritesMillimetres) {
  const auto depth = torch::tensor({0.0, 1.0, 10.0, 1.2345}).view({2, 2});
  const cv::Mat colours = depth_colours(depth, 10);
  EXPECT_EQ(colours.at<cv::Vec3b>(0, 0), cv::Vec3b(0, 0, 0));
  EXPECT_GT(colours.at<cv::Vec3b>(0, 1)[2], colours.at<cv::Vec3b>(0, 1)[0]);  // near: red
  EXPECT_GT(colours.at<cv::Vec3b>(1, 0)[0], colours.at<cv::Vec3b>(1, 0)[2]);  // far: blue
  const test::TempDir dir;
  write_depth(dir / "d.png", depth.mul(10), 1000);
  const cv::Mat file = decode_image(read_file_bytes(dir / "d.png"), "d.png", ImageFlag::kUnchanged);
  ASSERT_EQ(file.type(), CV_16UC1);
  EXPECT_EQ(file.at<uint16_t>(0, 0), 0);
  EXPECT_EQ(file.at<uint16_t>(0, 1), 10000);
  EXPECT_EQ(file.at<uint16_t>(1, 0), 65535);
  EXPECT_EQ(file.at<uint16_t>(1, 1), 12345);
}

}  // namespace
}  // namespace seg::vpd_test
