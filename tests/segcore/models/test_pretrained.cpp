#include "segcore/models/weights/load_pretrained.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "registry/log.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/neck.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::pretrained_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// Numbers that Python made (tests/data/io/make_adapted.py).
at::Tensor python_numbers(const std::string& name) {
  static const nlohmann::json all = [] {
    std::ifstream file(source_path("tests/data/io/adapted.json"));
    return nlohmann::json::parse(file);
  }();
  const auto values = all.at(name).at("values").get<std::vector<float>>();
  return torch::tensor(values).reshape(all.at(name).at("shape").get<std::vector<int64_t>>());
}

void expect_same(const at::Tensor& a, const at::Tensor& b, double tolerance = 0) {
  ASSERT_EQ(a.sizes(), b.sizes());
  EXPECT_LE((a - b).abs().max().item<double>(), tolerance);
}

std::shared_ptr<Backbone> backbone(const std::string& yaml) {
  return Spec<Backbone>::of(yaml).build();
}

at::Tensor weight(const torch::nn::Module& module, const std::string& name) {
  return state_dict(module).at(name).as_tensor();
}

template <class F>
std::string load_error(F&& f) {
  try {
    f();
  } catch (const WeightsMismatch& e) {
    return std::string("mismatch: ") + e.what();
  } catch (const CheckpointError& e) {
    return e.what();
  }
  return "no error";
}

class Pretrained : public ::testing::Test {
 protected:
  Pretrained() { log::open_file(dir_ / "log"); }
  ~Pretrained() override { log::open_file(""); }

  std::string log_text() const {
    log::flush();
    return dir_.read("log");
  }
  /// Writes the weights of a module, all of one value, with a prefix.
  std::string save(const std::string& name, const torch::nn::Module& module, double value,
                   const std::string& prefix = "", Value more = Value::dict()) {
    const Value state = state_dict(module);
    for (const auto& [key, tensor] : state.as_dict()) {
      more.set(prefix + key.as_string(), torch::full_like(tensor.as_tensor(), value));
    }
    Value file = Value::dict();
    file.set("state_dict", more);
    write_checkpoint(dir_ / name, file);
    return dir_ / name;
  }
  std::string save(const std::string& name, const std::string& key, const at::Tensor& tensor,
                   const torch::nn::Module& like) {
    Value more = Value::dict();
    const Value state = state_dict(like);
    for (const auto& [other, value] : state.as_dict()) {
      more.set(other, other.as_string() == key ? tensor : value.as_tensor().clone());
    }
    write_checkpoint(dir_ / name, more);
    return dir_ / name;
  }

  test::TempDir dir_;
};

constexpr const char* kResNet =
    "type: ResNet, depth: 18, num_stages: 1, strides: [1], dilations: [1], out_indices: [0]";

std::string resnet_from(const std::string& init_cfg, const std::string& more = "") {
  return text("{", kResNet, more, ", init_cfg: ", init_cfg, "}");
}

TEST_F(Pretrained, FilesAreReadWhenAskedForAndNotByInitialisation) {
  const auto net = backbone(resnet_from("{type: Pretrained, checkpoint: nowhere.pth}"));
  net->init_weights();
  EXPECT_THAT(load_error([&] { load_pretrained_modules(*net); }), HasSubstr("<default>:1:"));
  EXPECT_THAT(load_error([&] { load_pretrained_modules(*net); }),
              HasSubstr("init_cfg: cannot read nowhere.pth: "));
}

TEST_F(Pretrained, AClassifierServesAsABackbone) {
  const auto net = backbone(text("{", kResNet, "}"));
  Value head = Value::dict();
  head.set("module.fc.weight", torch::zeros({10, 64}));
  head.set("module.head.fc.bias", torch::zeros({10}));
  const std::string file = save("a.pth", *net, 0.5, "module.", head);
  for (const char* location : {"map_location: cpu", "map_location: 'cuda:0'"}) {
    const auto again =
        backbone(resnet_from(text("{type: Pretrained, checkpoint: '", file, "', ", location, "}")));
    EXPECT_TRUE(load_pretrained_modules(*again));
    EXPECT_EQ(weight(*again, "layer1.1.conv2.weight").min().item<double>(), 0.5);
  }
  EXPECT_THAT(log_text(), HasSubstr("ResNet: "));
  EXPECT_THAT(log_text(), HasSubstr(" weights are loaded from " + file));
  EXPECT_THAT(log_text(), Not(HasSubstr("unexpected")));
}

TEST_F(Pretrained, TakesABackboneOutOfAWholeModel) {
  const auto net = backbone(text("{", kResNet, "}"));
  Value head = Value::dict();
  head.set("decode_head.conv_seg.weight", torch::zeros({2, 4, 1, 1}));
  const std::string file = save("a.pth", *net, 0.25, "backbone.", head);
  for (const char* prefix : {"", ", prefix: backbone.", ", prefix: backbone"}) {
    const auto again =
        backbone(resnet_from(text("{type: Pretrained, checkpoint: '", file, "'", prefix, "}")));
    load_pretrained_modules(*again);
    EXPECT_EQ(weight(*again, "conv1.weight").max().item<double>(), 0.25) << prefix;
  }
  const auto wrong =
      backbone(resnet_from(text("{type: Pretrained, checkpoint: '", file, "', prefix: encoder}")));
  EXPECT_THAT(load_error([&] { load_pretrained_modules(*wrong); }),
              HasSubstr(file + ": no name begins with 'encoder.'; the names begin with: "
                               "decode_head, backbone"));
}

TEST_F(Pretrained, MapsNamesByRegularExpressions) {
  const auto net = backbone(text("{", kResNet, "}"));
  const std::string file = save("a.pth", *net, 2, "encoder.stage.");
  EXPECT_THAT(load_error([&] {
                const auto wrong =
                    backbone(resnet_from(text("{type: Pretrained, checkpoint: '", file, "'}")));
                load_pretrained_modules(*wrong);
              }),
              ::testing::MatchesRegex(
                  "mismatch: .*a.pth: none of the [0-9]+ weights fits the model. The nearest "
                  "names: 'encoder.stage.layer1.0.conv1.weight' in the file, "
                  "'layer1.0.conv1.weight' in the model. With prefix: 'encoder.stage.' [0-9]+ "
                  "fit"));
  for (const char* mapping :
       {R"([['^encoder\.stage\.', '']])", R"([['^(encoder)\.(stage)\.(.*)', '\3']])",
        R"([['^encoder\.', ''], ['^(stage)\.(.*)$', '\g<2>']])"}) {
    const auto again = backbone(resnet_from(
        text("{type: Pretrained, checkpoint: '", file, "', key_mapping: ", mapping, "}")));
    load_pretrained_modules(*again);
    EXPECT_EQ(weight(*again, "conv1.weight").max().item<double>(), 2) << mapping;
  }
  EXPECT_THAT(
      test::config_error([&] {
        backbone(resnet_from("{type: Pretrained, checkpoint: a.pth, key_mapping: [['(a', b]]}"));
      }),
      HasSubstr("init_cfg.key_mapping: '(a' is no regular expression"));
  EXPECT_THAT(test::config_error([&] {
                backbone(resnet_from(
                    R"({type: Pretrained, checkpoint: a.pth, key_mapping: [['(a)', '\2']]})"));
              }),
              HasSubstr(R"(init_cfg.key_mapping: '\2' names group 2, '(a)' has 1)"));
}

TEST_F(Pretrained, StemsTakeAnyNumberOfBands) {
  for (const int64_t bands : {1, 2, 4, 7}) {
    expect_same(stem_for_bands(python_numbers("stem"), bands), python_numbers(text("stem_", bands)),
                1e-6);
    const auto three = backbone(text("{", kResNet, "}"));
    const auto stem = torch::rand({64, 3, 7, 7});
    const std::string file = save("a.pth", "conv1.weight", stem, *three);
    const auto net = backbone(resnet_from(text("{type: Pretrained, checkpoint: '", file, "'}"),
                                          text(", in_channels: ", bands)));
    load_pretrained_modules(*net);
    expect_same(weight(*net, "conv1.weight"), stem_for_bands(stem, bands), 1e-6);
    expect_same(weight(*net, "layer1.0.conv1.weight"), weight(*three, "layer1.0.conv1.weight"));
  }
  EXPECT_THAT(log_text(), HasSubstr("conv1.weight takes 1 band: its weights for 3 are summed"));
  EXPECT_THAT(log_text(), HasSubstr("conv1.weight takes 7 bands: its weights for 3 are repeated "
                                    "and scaled by 3/7"));
}

TEST_F(Pretrained, StemsForOtherBandsAreNotGuessed) {
  const auto four = backbone(text("{", kResNet, ", in_channels: 4}"));
  const std::string file = save("a.pth", *four, 1);
  const auto net = backbone(resnet_from(text("{type: Pretrained, checkpoint: '", file, "'}")));
  load_pretrained_modules(*net);
  EXPECT_THAT(log_text(), HasSubstr("size mismatch for conv1.weight: the checkpoint has "
                                    "[64, 4, 7, 7], the model [64, 3, 7, 7]"));
}

std::string vit_yaml(const std::string& more) {
  return text("{type: VisionTransformer, embed_dims: 4, num_heads: 1, num_layers: 1, patch_size: 2",
              more, "}");
}

TEST_F(Pretrained, PositionsTakeAnotherGrid) {
  const auto like = backbone(vit_yaml(", img_size: 6"));
  for (const char* mode : {"bicubic", "bilinear"}) {
    const std::string file = save("a.pth", "pos_embed", python_numbers("vit"), *like);
    const auto net =
        backbone(vit_yaml(text(", img_size: [4, 8], interpolate_mode: ", mode,
                               ", init_cfg: {type: Pretrained, checkpoint: '", file, "'}")));
    load_pretrained_modules(*net);
    expect_same(weight(*net, "pos_embed"), python_numbers(text("vit_", mode)), 1e-6);
  }
  // DeiT has a token of distillation behind the class token.
  const std::string deit = save("deit.pth", "pos_embed", python_numbers("deit"), *like);
  const auto net = backbone(
      vit_yaml(text(", img_size: [4, 8], init_cfg: {type: Pretrained, checkpoint: '", deit, "'}")));
  load_pretrained_modules(*net);
  expect_same(weight(*net, "pos_embed"), python_numbers("deit_bicubic"), 1e-6);
  // Without a class token in the file its place is left as it is.
  const auto numbers = python_numbers("vit");
  std::vector<std::shared_ptr<Backbone>> wide;
  for (const int64_t front : {0, 1}) {
    const auto tokens = numbers.narrow(1, 1 - front, 9 + front).clone();
    const std::string file = save("wide.pth", "pos_embed", tokens, *like);
    wide.push_back(backbone(vit_yaml(
        text(", img_size: [4, 12], init_cfg: {type: Pretrained, checkpoint: '", file, "'}"))));
    load_pretrained_modules(*wide.back());
  }
  expect_same(weight(*wide[0], "pos_embed").narrow(1, 1, 12),
              weight(*wide[1], "pos_embed").narrow(1, 1, 12), 1e-6);
  EXPECT_EQ(weight(*wide[0], "pos_embed")[0][0].abs().max().item<double>(), 0);
}

TEST_F(Pretrained, TablesTakeAnotherWindow) {
  const auto yaml = [](int64_t window, const std::string& more) {
    return text(
        "{type: SwinTransformer, embed_dims: 4, depths: [1], num_heads: [2], strides: [4], ",
        "out_indices: [0], window_size: ", window, more, "}");
  };
  const std::string name = "stages.0.blocks.0.attn.w_msa.relative_position_bias_table";
  const auto like = backbone(yaml(4, ""));
  const std::string file = save("a.pth", name, python_numbers("swin"), *like);
  const auto net =
      backbone(yaml(3, text(", init_cfg: {type: Pretrained, checkpoint: '", file, "'}")));
  const auto index = weight(*net, "stages.0.blocks.0.attn.w_msa.relative_position_index").clone();
  load_pretrained_modules(*net);
  expect_same(weight(*net, name), python_numbers("swin_window_3"), 1e-6);
  expect_same(weight(*net, "stages.0.blocks.0.attn.w_msa.relative_position_index"), index);
  EXPECT_THAT(log_text(), HasSubstr(name + " is resized from [49, 2] to [25, 2]"));
  EXPECT_THAT(log_text(), Not(HasSubstr("mismatch")));
}

std::string model_yaml(const std::string& more, const std::string& backbone_more = "",
                       const std::string& head_more = "") {
  return text("{type: EncoderDecoder, backbone: {", kResNet, backbone_more,
              "}, decode_head: {type: FCNHead, in_channels: 64, in_index: 0, channels: 4, "
              "num_convs: 1, num_classes: 2, concat_input: false, dropout_ratio: 0, ",
              "loss_decode: {type: CrossEntropyLoss}", head_more, "}", more, "}");
}

TEST_F(Pretrained, EveryModuleOfAModelTakesIt) {
  const auto model = Spec<Segmentor>::of(model_yaml("")).build();
  const std::string file = save("model.pth", *model, 0.75);
  const auto rule = [&](const std::string& prefix) {
    return text(", init_cfg: {type: Pretrained, checkpoint: '", file, "', prefix: ", prefix, "}");
  };
  const auto parts =
      Spec<Segmentor>::of(model_yaml("", rule("backbone."), rule("decode_head."))).build();
  parts->init_weights();
  load_pretrained_modules(*parts);
  const auto whole =
      Spec<Segmentor>::of(
          model_yaml(text(", init_cfg: {type: Pretrained, checkpoint: '", file, "'}")))
          .build();
  load_pretrained_modules(*whole);
  const auto older = Spec<Segmentor>::of(model_yaml(text(", pretrained: '", file, "'"))).build();
  older->init_weights();
  load_pretrained_modules(*older);
  for (const char* name : {"backbone.conv1.weight", "decode_head.conv_seg.weight"}) {
    EXPECT_EQ(weight(*parts, name).min().item<double>(), 0.75) << name;
    EXPECT_EQ(weight(*whole, name).min().item<double>(), 0.75) << name;
  }
  EXPECT_EQ(weight(*older, "backbone.conv1.weight").min().item<double>(), 0.75);
  EXPECT_NE(weight(*older, "decode_head.conv_seg.weight").min().item<double>(), 0.75);
  EXPECT_EQ(test::config_error([&] {
              Spec<Segmentor>::of(model_yaml(", pretrained: a.pth", rule("backbone."))).build();
            }).substr(0, 11),
            "<default>:1");
}

TEST_F(Pretrained, NothingIsReadWhereAnotherFileSetsAll) {
  const auto model =
      Spec<Segmentor>::of(model_yaml("", ", init_cfg: {type: Pretrained, checkpoint: nowhere.pth}"))
          .build();
  const std::string file = save("model.pth", *model, 0.75);
  const Value weights = weights_for(*model, {.checkpoint = file});
  const LoadReport report = load_weights(*model, weights, file);
  EXPECT_TRUE(report.exact());
  EXPECT_FALSE(load_pretrained_modules(*model, report.matched));
  EXPECT_THAT(log_text(), HasSubstr("no file is read, since load_from sets all weights of ResNet"));
}

TEST_F(Pretrained, DistinguishesWeightsOfABackboneFromThoseOfAModel) {
  const auto model = Spec<Segmentor>::of(model_yaml("")).build();
  const auto net = backbone(text("{", kResNet, "}"));
  const std::string file = save("net.pth", *net, 0.75);
  EXPECT_THAT(
      load_error([&] { load_weights(*model, weights_for(*model, {.checkpoint = file}), file); }),
      HasSubstr("After tools/convert " + file + " net-renamed.pth --rename '^' backbone. "));
  EXPECT_THAT(load_error([&] {
                load_weights(*model, weights_for(*model, {.checkpoint = file}), file,
                             /*in_config=*/true);
              }),
              HasSubstr("With key_mapping: [['^', 'backbone.']] "));
  const PretrainedParams mapped{.checkpoint = file, .key_mapping = {{"^", "backbone."}}};
  load_weights(*model, weights_for(*model, mapped), file);
  EXPECT_EQ(weight(*model, "backbone.conv1.weight").min().item<double>(), 0.75);
}

}  // namespace
}  // namespace seg::pretrained_test
