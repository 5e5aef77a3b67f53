/// Weights whose tensors have the names of older versions of MMSegmentation.
#include <gtest/gtest.h>

#include <regex>

#include "segcore/io/weights.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"

namespace seg::old_names_test {
namespace {

constexpr const char* kVit =
    "type: VisionTransformer, img_size: 8, embed_dims: 4, num_heads: 1, num_layers: 2, "
    "patch_size: 4, final_norm: true";

/// The name that MMSegmentation 0.14 has for a tensor of today's VisionTransformer.
std::string old_name(std::string name) {
  const std::pair<const char*, const char*> rules[] = {
      {"patch_embed\\.projection", "patch_embed.proj"},
      {"ffn\\.layers\\.0\\.0", "mlp.fc1"},
      {"ffn\\.layers\\.1", "mlp.fc2"},
      {"layers\\.(\\d+)\\.ln", "blocks.$1.norm"},
      {"layers\\.(\\d+)\\.", "blocks.$1."},
      {"attn\\.attn\\.in_proj_", "attn.qkv."},
      {"attn\\.attn\\.out_proj", "attn.proj"},
      {"^((?:backbone\\.)?)ln1\\.", "$1norm."}};
  for (const auto& [from, to] : rules) name = std::regex_replace(name, std::regex(from), to);
  return name;
}

/// Other weights than the module's, under old names.
Value old_weights(const torch::nn::Module& module) {
  Value out = Value::dict();
  const Value state = state_dict(module);
  for (const auto& [name, tensor] : state.as_dict()) {
    const at::Tensor& t = tensor.as_tensor();
    out.set(old_name(name.as_string()),
            t.is_floating_point() ? at::rand_like(t) : at::full_like(t, 7));
  }
  return out;
}

void expect_loads_all(torch::nn::Module& module) {
  const Value old = old_weights(module);
  EXPECT_FALSE(old.find("layers.0.ln1.weight") || old.find("backbone.layers.0.ln1.weight"));
  const LoadReport report = load_state_dict(module, old);
  EXPECT_TRUE(report.exact()) << report.text();
  const Value state = state_dict(module);
  for (const auto& [name, tensor] : state.as_dict()) {
    const Value* given = old.find(old_name(name.as_string()));
    ASSERT_TRUE(given) << name.as_string();
    EXPECT_TRUE(given->as_tensor().equal(tensor.as_tensor())) << name.as_string();
  }
}

TEST(OldNames, AVisionTransformerTakesThoseUpTo014) {
  expect_loads_all(*Spec<Backbone>::of(std::string("{") + kVit + "}").build());
}

TEST(OldNames, SoDoesAWholeModel) {
  expect_loads_all(*Spec<Segmentor>::of(std::string("{type: EncoderDecoder, backbone: {") + kVit +
                                        "}, decode_head: {type: FCNHead, in_channels: 4, in_index: "
                                        "0, channels: 4, num_convs: 1, num_classes: 2, norm_cfg: "
                                        "{type: BN}}}")
                        .build());
}

}  // namespace
}  // namespace seg::old_names_test
