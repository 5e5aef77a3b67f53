#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>

#include "registry/error.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using ::testing::ElementsAre;

/// conv, bn, and a parameter and a buffer of its own, registered after the children.
struct Net : torch::nn::Module {
  Net() {
    conv = register_module("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(3, 4, 1)));
    bn = register_module("bn", torch::nn::BatchNorm2d(4));
    scale = register_parameter("scale", torch::ones({4}));
    index = register_buffer("index", torch::arange(3));
  }
  torch::nn::Conv2d conv{nullptr};
  torch::nn::BatchNorm2d bn{nullptr};
  torch::Tensor scale, index;
};

std::vector<std::string> names_of(const Value& state) {
  std::vector<std::string> out;
  for (const auto& [key, value] : state.as_dict()) out.push_back(key.as_string());
  return out;
}

Value filled_state(double value) {
  Value out = Value::dict();
  const Net net;
  const Value state = state_dict(net);
  for (const auto& [key, tensor] : state.as_dict()) {
    out.set(key, torch::full_like(tensor.as_tensor(), value));
  }
  return out;
}

template <class F>
std::string mismatch(F&& f) {
  try {
    f();
  } catch (const CheckpointError& e) {
    return e.what();
  }
  return "no error";
}

TEST(StateDict, HasPythonsOrder) {
  const Net net;
  EXPECT_THAT(names_of(state_dict(net)),
              ElementsAre("scale", "index", "conv.weight", "conv.bias", "bn.weight", "bn.bias",
                          "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"));
  const Value counter = state_dict(net).at("bn.num_batches_tracked");
  EXPECT_EQ(counter.as_tensor().scalar_type(), torch::kInt64);
  EXPECT_EQ(counter.as_tensor().dim(), 0);
}

TEST(LoadStateDict, CopiesAndConverts) {
  Net net;
  Value state = filled_state(2);
  state.set("conv.weight", torch::full({4, 3, 1, 1}, 0.5, torch::kFloat64));
  const LoadReport report = load_state_dict(net, state);
  EXPECT_TRUE(report.exact()) << report.text();
  EXPECT_EQ(report.matched.size(), 9u);
  EXPECT_EQ(net.conv->weight.sum().item<float>(), 6.0f);
  EXPECT_EQ(net.conv->weight.scalar_type(), torch::kFloat32);
  EXPECT_TRUE(net.conv->weight.requires_grad());
  EXPECT_EQ(net.bn->num_batches_tracked.item<int64_t>(), 2);
}

TEST(LoadStateDict, FindsTheWeightsInACheckpoint) {
  for (const char* key : {"state_dict", "model", "module"}) {
    Net net;
    Value checkpoint = Value::dict();
    checkpoint.set("epoch", 3);
    checkpoint.set(key, filled_state(3));
    load_state_dict(net, checkpoint);
    EXPECT_EQ(net.scale[0].item<float>(), 3.0f) << key;
  }
  Value wrapped = Value::dict();
  const Value inner = filled_state(4);
  for (const auto& [key, value] : inner.as_dict()) {
    wrapped.set("module." + key.as_string(), value);
  }
  Net net;
  EXPECT_TRUE(load_state_dict(net, wrapped).exact());
  EXPECT_EQ(net.scale[0].item<float>(), 4.0f);
}

TEST(LoadStateDict, TakesAPrefixAndMapsNames) {
  Value state = Value::dict();
  const Value inner = filled_state(5);
  for (const auto& [key, value] : inner.as_dict()) {
    std::string name = "encoder." + key.as_string();
    if (const size_t at = name.find("bn."); at != std::string::npos) name.replace(at, 3, "norm_1.");
    state.set(name, value);
  }
  state.set("head.weight", torch::zeros({1}));
  Net net;
  LoadOptions options;
  options.prefix = "encoder";
  options.revise_keys = {{"\\.norm_(\\d)\\.", ".bn."}};
  EXPECT_TRUE(load_state_dict(net, state, options).exact());
  EXPECT_EQ(net.bn->weight[0].item<float>(), 5.0f);
  options.prefix = "backbone";
  EXPECT_EQ(mismatch([&] { load_state_dict(net, state, options, "a.pth"); }),
            "a.pth: no name begins with 'backbone.'; the names begin with: encoder, head");
}

TEST(LoadStateDict, ReportsWhatDoesNotFit) {
  Net net;
  const Value full = filled_state(1);
  Value state = Value::dict();
  for (const auto& [key, value] : full.as_dict()) {
    if (key.as_string() != "scale") state.set(key, value);
  }
  state.set("conv.weight", torch::zeros({4, 5, 1, 1}));
  state.set("extra", torch::zeros({2}));
  const LoadReport report = load_state_dict(net, state);
  EXPECT_EQ(report.text(),
            "size mismatch for conv.weight: the checkpoint has [4, 5, 1, 1], the model "
            "[4, 3, 1, 1]\n"
            "unexpected key in source state_dict: extra\n"
            "missing keys in source state_dict: scale");
  LoadOptions strict;
  strict.strict = true;
  EXPECT_THROW(load_state_dict(net, state, strict, "a.pth"), WeightsMismatch);
  Value other = Value::dict();
  other.set("layer1.0.conv1.weight", torch::zeros({2}));
  EXPECT_EQ(mismatch([&] { load_state_dict(net, other, {}, "a.pth"); }),
            "a.pth: none of the 1 weights fits the model; it has names like "
            "'layer1.0.conv1.weight', the model names like 'bn.bias'");
  Value nothing = Value::dict();
  nothing.set("epoch", 1);
  EXPECT_EQ(mismatch([&] { load_state_dict(net, nothing, {}, "a.pth"); }),
            "a.pth: there are no weights in it: it holds 'epoch' (an int)");
}

TEST(LoadStateDict, RefusesComplexNumbersAndNamesThatAreNoNames) {
  Net net;
  Value state = filled_state(1);
  state.set("scale", torch::ones({4}, torch::kComplexFloat));
  EXPECT_EQ(mismatch([&] { load_state_dict(net, state); }),
            "'scale' is of complex numbers, the model's are real");
  state = filled_state(1);
  state.set(std::string(5000, 'a'), torch::ones({4}));
  EXPECT_EQ(mismatch([&] { load_state_dict(net, state); }),
            "the name of a weight has 5000 bytes: '" + std::string(60, 'a') + "...'");
}

TEST(LoadStateDict, ListsAreShort) {
  Value state = filled_state(1);
  for (int i = 0; i < 20; ++i) state.set(text("extra.", i), torch::zeros({1}));
  Net net;
  EXPECT_EQ(load_state_dict(net, state).text(),
            "unexpected key in source state_dict: extra.0, extra.1, extra.2, extra.3, extra.4, "
            "extra.5, extra.6, extra.7, ... (20 in all)");
}

TEST(LoadStateDict, NamesTheNearestWhereNothingFits) {
  Value state = Value::dict();
  const Value inner = filled_state(5);
  for (const auto& [key, value] : inner.as_dict()) {
    state.set("net.encoder." + key.as_string(), value);
  }
  Net net;
  EXPECT_EQ(
      mismatch([&] { load_state_dict(net, state, {}, "a.pth"); }),
      "a.pth: none of the 9 weights fits the model. The nearest names: "
      "'net.encoder.conv.weight' in the file, 'conv.weight' in the model. After tools/convert "
      "a.pth a-renamed.pth --rename '^net\\.encoder\\.' '' 9 fit");
  LoadOptions of_config;
  of_config.in_config = true;
  EXPECT_THAT(mismatch([&] { load_state_dict(net, state, of_config, "a.pth"); }),
              ::testing::EndsWith(". With prefix: 'net.encoder.' 9 fit"));
  Value others = Value::dict();
  for (const auto& [key, value] : inner.as_dict()) {
    others.set(key, torch::zeros({7, 7}));
  }
  EXPECT_THAT(mismatch([&] { load_state_dict(net, others, {}, "a.pth"); }),
              ::testing::StartsWith("a.pth: none of the 9 weights fits the model\n"
                                    "size mismatch for scale: the checkpoint has [7, 7], the "
                                    "model [4]\n"));
}

TEST(LoadStateDict, ReplacementsAreWrittenAsInPythonOrInJavaScript) {
  Value state = Value::dict();
  const Value inner = filled_state(5);
  for (const auto& [key, value] : inner.as_dict()) {
    state.set("e" + key.as_string().substr(0, 1) + "1" + key.as_string().substr(1), value);
  }
  for (const char* to : {R"(\1)", R"(\g<1>)", "$1"}) {
    Net net;
    LoadOptions options;
    options.revise_keys = {{"^e(.)1", to}};
    EXPECT_TRUE(load_state_dict(net, state, options).exact()) << to;
  }
  Net net;
  LoadOptions merging;
  merging.revise_keys = {{"weight|bias", "x"}};
  EXPECT_EQ(mismatch([&] { load_state_dict(net, state, merging, "a.pth"); }),
            "a.pth: key_mapping makes 'ec1onv.x' of more than one name");
}

TEST(LoadWholeModel, LacksOnlyWhatTrainingNeeds) {
  struct Model : torch::nn::Module {
    Model() {
      register_module("decode_head", std::make_shared<Net>());
      register_module("auxiliary_head", std::make_shared<Net>());
    }
  };
  Value state = Value::dict();
  const Value inner = filled_state(5);
  for (const auto& [key, value] : inner.as_dict()) {
    state.set("decode_head." + key.as_string(), value);
  }
  state.set("data_preprocessor.mean", torch::zeros({3}));
  Model model;
  const LoadReport report = load_whole_model(model, state, "a.pth");
  EXPECT_EQ(report.missing.size(), 8u);
  EXPECT_TRUE(report.unexpected.empty());
  state.set("decode_head.scale", torch::zeros({3}));
  EXPECT_THROW(load_whole_model(model, state, "a.pth"), WeightsMismatch);
}

}  // namespace
}  // namespace seg
