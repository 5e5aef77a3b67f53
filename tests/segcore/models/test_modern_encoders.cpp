// ConvNeXts, plain vision transformers and Hieras: facts and maps of timm
// (tests/data/encoders/make_modern_encoders.py), training, weights for other sizes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "segcore/io/weights.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/mlp.hpp"
#include "segcore/models/blocks/resampled_grid.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/encoder_facts.hpp"

namespace seg::modern_encoders_test {

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// --- Names, shapes and numbers ------------------------------------------------------------------

TEST(ModernEncoders, HaveTheTensorsOfTimm) {
  // Larger ones have the same blocks more often or wider, and take seconds each:
  // SEGCORE_ALL_ENCODERS tests them too, but for those that need more memory than a test has.
  const int64_t most = std::getenv("SEGCORE_ALL_ENCODERS") ? 1'200'000'000 : 31'000'000;
  size_t tested = 0;
  for (const auto& row : test::encoder_table_rows("modern_encoders.tsv")) {
    SCOPED_TRACE(row[0]);
    ASSERT_NE(EncoderTable::instance().find(row[0]), nullptr);
    if (std::stoll(row[1]) > most) continue;
    const auto encoder = build_plain_encoder(row[0], {});
    EXPECT_EQ(test::count_parameters(*encoder), std::stoll(row[1]));
    EXPECT_EQ(test::state_digest(*encoder), row[2]);
    ++tested;
  }
  EXPECT_GT(tested, 25u);
}

TEST(ModernEncoders, AreAllComparedWithTimm) {
  std::set<std::string> compared;
  for (const auto& row : test::encoder_table_rows("modern_encoders.tsv")) compared.insert(row[0]);
  EXPECT_EQ(compared.size(), 81u);
  for (const auto& name : EncoderTable::instance().names()) {
    for (const char* part : {"tu-convnext", "tu-vit_", "tu-deit", "tu-hiera"}) {
      if (!name.starts_with(part)) continue;
      EXPECT_EQ(compared.count(name), 1u) << name;
    }
  }
}

TEST(ModernEncoders, GiveTheMapsOfTimm) {
  const torch::NoGradGuard no_grad;
  at::set_num_threads(1);
  std::string built;
  std::vector<torch::Tensor> maps;
  std::shared_ptr<Encoder> encoder;
  for (const auto& row : test::encoder_table_rows("modern_maps.tsv")) {
    SCOPED_TRACE(row[0] + " at the output stride " + row[1] + ", map " + row[6]);
    const auto number = [&](size_t i) { return int64_t{std::stoll(row[i])}; };
    if (built != row[0] + row[1]) {
      built = row[0] + row[1];
      EncoderOptions options{.output_stride = number(1)};
      if (number(4) > 0) options.img_size = Size2(number(4), number(5));
      encoder = build_deepest_encoder(row[0], options);
      reference::fill(*encoder, 1);
      for (auto& p : encoder->parameters()) p.set_data(p.to(torch::kFloat64));
      encoder->eval();
      maps = encoder->forward(reference::image({1, 3, number(2), number(3)}).to(torch::kFloat64));
      ASSERT_EQ(maps.size(), encoder->maps().size());
      if (encoder->facts().channels.front() == 0) maps.erase(maps.begin() + 1);
    }
    test::expect_map(maps[static_cast<size_t>(number(6))], row, 7);
  }
}

TEST(ModernEncoders, PackTheGateBeforeTheValue) {
  // DINOv2's giant alone has such layers. SwiGLUPacked of timm: silu of the first half.
  Mlp mlp({.dims = 1, .hidden = 1, .kind = MlpOptions::Kind::kPacked, .silu = true});
  const torch::NoGradGuard no_grad;
  for (auto& p : mlp.parameters()) p.zero_();
  mlp.named_parameters()["fc1.weight"].copy_(torch::tensor({{2.0}, {3.0}}));
  mlp.named_parameters()["fc2.weight"].fill_(1);
  EXPECT_NEAR(mlp.forward(torch::ones({1, 1})).item<double>(), 3 * 2 / (1 + std::exp(-2.0)), 1e-6);
}

// --- Training -----------------------------------------------------------------------------------

TEST(ModernEncoders, TrainWhatTheirMapsDependOn) {
  for (const std::string name : {"tu-convnext_atto", "tu-vit_tiny_patch16_224",
                                 "tu-vit_tiny_patch16_dinov3_qkvb", "tu-hiera_tiny_224"}) {
    for (const int64_t depth : {3, 5}) {
      SCOPED_TRACE(text(name, " of depth ", depth));
      torch::manual_seed(0);
      const auto encoder = build_plain_encoder(name, {.depth = depth, .img_size = 64});
      encoder->init_weights();
      torch::Tensor sum = torch::zeros({});
      const auto maps = encoder->forward(torch::randn({1, 3, 64, 64}));
      ASSERT_EQ(maps.size(), static_cast<size_t>(depth + 1));
      for (size_t i = 1; i < maps.size(); ++i) {
        EXPECT_EQ(maps[i].size(1), encoder->maps()[i].channels);
        if (maps[i].numel() > 0) sum = sum + maps[i].square().mean();
      }
      sum.backward();
      for (const auto& p : encoder->named_parameters()) {
        ASSERT_EQ(p.value().requires_grad(), p.value().grad().defined()) << p.key();
      }
    }
  }
}

TEST(ModernEncoders, LoseBlocksAtTheRateOfTheLastOne) {
  for (const std::string name :
       {"tu-convnext_atto", "tu-vit_tiny_patch16_224", "tu-hiera_tiny_224"}) {
    SCOPED_TRACE(name);
    std::vector<double> rates;
    const auto encoder = build_plain_encoder(name, {.img_size = 64, .drop_path_rate = 0.11});
    for_each_module(*encoder, [&](torch::nn::Module& m) {
      if (auto* drop = dynamic_cast<DropPath*>(&m)) rates.push_back(drop->drop_probability());
    });
    ASSERT_EQ(rates.size(), 12u);
    for (size_t i = 0; i < 12; ++i) EXPECT_NEAR(rates[i], 0.01 * static_cast<double>(i), 1e-12);
  }
}

TEST(ModernEncoders, OrderTheirLayers) {
  const auto layer = [](const Backbone& backbone, const std::string& parameter) {
    EXPECT_TRUE(backbone.named_parameters().contains(parameter)) << parameter;
    return backbone.layer_order().layer_of(parameter, LayerUnit::kBlock).value_or(-1);
  };
  const auto vit = Spec<Backbone>::of(
                       "{type: TIMMBackbone, pretrained: false, img_size: 32, "
                       "model_name: vit_tiny_patch16_224}")
                       .build();
  EXPECT_EQ(vit->layer_order().count(LayerUnit::kBlock), 12);
  EXPECT_EQ(layer(*vit, "timm_model.pos_embed"), 0);
  EXPECT_EQ(layer(*vit, "timm_model.blocks.3.mlp.fc1.weight"), 4);
  EXPECT_EQ(layer(*vit, "timm_model.norm.weight"), -1);
  const auto convnext = Spec<Backbone>::of("{type: SmpEncoder, name: tu-convnext_atto}").build();
  EXPECT_EQ(convnext->layer_order().count(LayerUnit::kBlock), 5);
  EXPECT_EQ(layer(*convnext, "model.stem.0.weight"), 0);
  EXPECT_EQ(layer(*convnext, "model.stages.1.blocks.1.gamma"), 2);
  EXPECT_EQ(layer(*convnext, "model.stages.2.downsample.1.bias"), 3);
  EXPECT_EQ(layer(*convnext, "model.stages.2.blocks.5.norm.weight"), 4);
}

// --- Sizes --------------------------------------------------------------------------------------

TEST(PlainTransformers, ResizePublishedPositions) {
  for (const std::string name :
       {"tu-vit_tiny_patch16_224", "tu-deit3_small_patch16_224", "tu-hiera_tiny_224"}) {
    SCOPED_TRACE(name);
    const auto published = build_plain_encoder(name, {});
    const auto smaller = build_plain_encoder(name, {.img_size = Size2(64, 96)});
    torch::manual_seed(0);
    const auto positions = torch::randn_like(published->named_parameters()["pos_embed"]);
    Value state = Value::dict();
    state.set("pos_embed", Value(positions));
    state.set("head.weight", Value(torch::ones({1})));
    smaller->adapt_pretrained(state);
    ASSERT_EQ(state.as_dict().size(), 1u);
    const auto fitted = state.find("pos_embed")->as_tensor();
    EXPECT_EQ(fitted.sizes(), smaller->named_parameters()["pos_embed"].sizes());
    // What images of that size would see without the file.
    const int64_t front = name == "tu-vit_tiny_patch16_224" ? 1 : 0;
    const int64_t side = name == "tu-hiera_tiny_224" ? 56 : 14;
    const auto seen = resampled_grid(positions.narrow(1, front, side * side), side,
                                     side == 56 ? Size2(16, 24) : Size2(4, 6));
    EXPECT_TRUE(fitted.narrow(1, front, seen.size(1)).allclose(seen, 1e-4, 1e-5));
    EXPECT_TRUE(fitted.narrow(1, 0, front).equal(positions.narrow(1, 0, front)));
  }
}

TEST(PlainTransformers, TakeImagesOfWholePatches) {
  const auto run = [](const std::string& name, int64_t h, int64_t w) {
    const torch::NoGradGuard no_grad;
    return error_of([&] { build_plain_encoder(name, {})->forward(torch::zeros({1, 3, h, w})); });
  };
  EXPECT_EQ(run("tu-vit_tiny_patch16_224", 48, 32), "no error");
  EXPECT_EQ(run("tu-vit_tiny_patch16_224", 40, 33),
            "images of 40x33 do not fit tu-vit_tiny_patch16_224: height and width must be "
            "multiples of 16. Pad them to 48x48: for training set size of the data preprocessor "
            "(crop_size), for tests its test_cfg: {size_divisor: 16}");
  EXPECT_EQ(run("tu-hiera_tiny_224", 48, 64),
            "images of 48x64 do not fit tu-hiera_tiny_224: height and width must be multiples of "
            "32. Pad them to 64x64: for training set size of the data preprocessor (crop_size), "
            "for tests its test_cfg: {size_divisor: 32}");
  EXPECT_EQ(error_of([] { build_plain_encoder("tu-vit_tiny_patch16_224", {.img_size = 8}); }),
            "must be at least the side of a patch, 16, got 8");
}

TEST(PlainTransformers, AreNoEncodersOfSmpDecoders) {
  const auto build = [](const std::string& name) {
    return error_of([&] {
      Spec<Segmentor>::of("{type: Unet, classes: 3, encoder_weights: null, encoder_name: " + name +
                          "}")
          .build();
    });
  };
  EXPECT_THAT(build("tu-vit_tiny_patch16_224"),
              ::testing::HasSubstr(
                  "encoder_name: tu-vit_tiny_patch16_224 gives maps of the strides 1, 16, 16, 16, "
                  "16, 16, but this decoder joins those of 1, 2, 4, 8, 16, 32: take another "
                  "encoder, or this one as the backbone of another head"));
  EXPECT_EQ(build("tu-convnext_atto"), "no error");
  EXPECT_EQ(build("tu-hiera_tiny_224"), "no error");
}

TEST(ModernEncoders, AreBackbones) {
  const torch::NoGradGuard no_grad;
  const auto model = Spec<Segmentor>::of(
                         "{type: EncoderDecoder, backbone: {type: TIMMBackbone, pretrained: false, "
                         "img_size: 32, model_name: vit_tiny_patch16_dinov3_qkvb, "
                         "out_indices: [2, 11]}, decode_head: {type: FCNHead, channels: 8, "
                         "in_index: 1, num_classes: 3}}")
                         .build();
  model->eval();
  EXPECT_EQ(model->encode_decode(torch::randn({1, 3, 64, 96})).sizes(),
            at::IntArrayRef({1, 3, 64, 96}));
}

}  // namespace seg::modern_encoders_test
