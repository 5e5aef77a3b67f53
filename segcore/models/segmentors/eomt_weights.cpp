#include "segcore/models/segmentors/eomt_weights.hpp"

#include <array>
#include <cmath>
#include <regex>
#include <utility>

#include "segcore/models/blocks/resampled_grid.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using Renaming = std::pair<std::regex, std::string>;

const std::vector<Renaming>& timm_to_transformers(bool dinov3) {
  static const auto rules = [](bool rotary) {
    const std::string out = rotary ? "o_proj." : "out_proj.";
    return std::vector<Renaming>{
        {std::regex(R"(^(cls_token)$)"), "embeddings.$1"},
        {std::regex(R"(^reg_token$)"), "embeddings.register_tokens"},
        {std::regex(R"(^patch_embed\.proj\.)"),
         rotary ? "embeddings.patch_embeddings." : "embeddings.patch_embeddings.projection."},
        {std::regex(R"(^pos_embed$)"), "embeddings.position_embeddings.weight"},
        {std::regex(R"(^norm\.)"), "layernorm."},
        {std::regex(R"(^blocks\.)"), "layers."},
        {std::regex(R"(\.attn\.proj\.)"), ".attention." + out},
        {std::regex(R"(\.(?:ls(\d)\.gamma|gamma_(\d))$)"), ".layer_scale$1$2.lambda1"},
        {std::regex(R"(\.mlp\.fc1_g\.)"), ".mlp.gate_proj."},
        {std::regex(R"(\.mlp\.fc1_x\.)"), ".mlp.up_proj."},
        {std::regex(R"(\.mlp\.fc1\.)"), rotary ? ".mlp.up_proj." : ".mlp.fc1."},
        {std::regex(R"(\.mlp\.fc2\.)"), rotary ? ".mlp.down_proj." : ".mlp.fc2."},
    };
  };
  static const std::vector<Renaming> with_positions = rules(false), with_rotation = rules(true);
  return dinov3 ? with_rotation : with_positions;
}

/// Cuts the joint projection to queries, keys and values.
void set_projections(Value& out, const std::string& block, const std::string& what,
                     const at::Tensor& joint) {
  const auto parts = joint.chunk(3);
  out.set(block + "q_proj." + what, Value(parts[0]));
  out.set(block + "k_proj." + what, Value(parts[1]));
  out.set(block + "v_proj." + what, Value(parts[2]));
}

/// Names of timm become those of transformers.
Value renamed(const Value& state, const EomtSizes& sizes) {
  static const std::regex kAttention(
      R"(^blocks\.(\d+)\.attn\.(qkv\.weight|qkv\.bias|q_bias|v_bias)$)");
  static const std::regex kPacked(R"(^blocks\.(\d+)\.mlp\.fc(1|2)\.(weight|bias)$)");
  Value out = Value::dict();
  for (const auto& [key, value] : state.as_dict()) {
    std::string name = key.as_string();
    std::smatch match;
    if (std::regex_match(name, match, kAttention)) {
      const std::string block = "layers." + match[1].str() + ".attention.", what = match[2];
      if (what == "q_bias" || what == "v_bias") {
        out.set(block + what[0] + "_proj.bias", value);
      } else {
        set_projections(out, block, what.substr(4), value.as_tensor());
      }
      continue;
    }
    if (sizes.mlp == MlpOptions::Kind::kGated && std::regex_match(name, match, kPacked)) {
      const std::string mlp = "layers." + match[1].str() + ".mlp.", what = match[3];
      if (match[2] == "2") {
        out.set(mlp + "down_proj." + what, value);
      } else {
        const auto halves = value.as_tensor().chunk(2);
        out.set(mlp + "gate_proj." + what, Value(halves[0]));
        out.set(mlp + "up_proj." + what, Value(halves[1]));
      }
      continue;
    }
    for (const auto& [pattern, to] : timm_to_transformers(sizes.dinov3)) {
      name = std::regex_replace(name, pattern, to);
    }
    out.set(name, value);
  }
  return out;
}

/// timm's DINOv3 without biases, in a model that has them.
void add_zero_biases(Value& state) {
  std::vector<std::pair<std::string, at::Tensor>> added;
  for (const auto& [key, value] : state.as_dict()) {
    const std::string& name = key.as_string();
    if (!name.ends_with("q_proj.weight") && !name.ends_with("v_proj.weight")) continue;
    const std::string bias = name.substr(0, name.size() - 6) + "bias";
    if (!state.find(bias)) {
      added.emplace_back(bias, at::zeros({value.as_tensor().size(0)}));
    }
  }
  for (const auto& [name, bias] : added) state.set(name, Value(bias));
}

/// timm's position embeddings, [1, tokens, C], become a table, [h * w, C]; that of the class token,
/// where it has one, is added to it.
void split_positions(Value& state) {
  const std::string name = "embeddings.position_embeddings.weight";
  const Value* found = state.find(name);
  if (!found || found->as_tensor().dim() != 3) return;
  auto table = found->as_tensor().squeeze(0);
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(table.size(0))) + 1e-6);
  if (side * side != table.size(0)) {
    if (const Value* token = state.find("embeddings.cls_token")) {
      state.set("embeddings.cls_token", Value(token->as_tensor() + table[0].view({1, 1, -1})));
    }
    table = table.narrow(0, 1, table.size(0) - 1);
  }
  state.set(name, Value(table.contiguous()));
}

void fit_positions(Value& state, const EomtSizes& sizes) {
  const std::string name = "embeddings.position_embeddings.weight";
  const Value* found = state.find(name);
  if (!found || found->as_tensor().dim() != 2) return;
  const auto theirs = found->as_tensor().unsqueeze(0);
  const auto mine = at::empty({1, sizes.grid.h * sizes.grid.w, sizes.dims});
  const auto fitted = resampled_position_embedding(theirs, mine, /*front=*/0, sizes.grid);
  if (fitted.defined()) state.set(name, Value(fitted.squeeze(0)));
}

void fit_patches(Value& state, const EomtSizes& sizes) {
  const std::string name = sizes.dinov3 ? "embeddings.patch_embeddings.weight"
                                        : "embeddings.patch_embeddings.projection.weight";
  const Value* found = state.find(name);
  if (!found || found->as_tensor().dim() != 4) return;
  const auto theirs = found->as_tensor();
  if (theirs.size(2) == sizes.patch && theirs.size(3) == sizes.patch) return;
  state.set(name, Value(resampled_patch_weight(theirs, sizes.patch)));
}

}  // namespace

Value eomt_weights(const Value& state, const EomtSizes& sizes) {
  bool of_timm = false;
  for (const auto& [key, value] : state.as_dict()) {
    of_timm = of_timm || key.as_string().starts_with("blocks.");
  }
  Value out = of_timm ? renamed(state, sizes) : state;
  if (of_timm) {
    if (sizes.dinov3) add_zero_biases(out);
    split_positions(out);
  }
  fit_positions(out, sizes);
  fit_patches(out, sizes);
  return out;
}

}  // namespace seg
