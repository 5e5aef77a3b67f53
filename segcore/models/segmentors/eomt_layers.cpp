#include "segcore/models/segmentors/eomt_layers.hpp"

#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/resampled_grid.hpp"
#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/nn/layer_norm2d.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// A child without a forward pass of its own.
class EomtChild final : public BaseModule {};

/// The parameter `weight` of a child, as of torch.nn.Embedding.
torch::Tensor add_embedding(torch::nn::Module& parent, const std::string& name, int64_t count,
                            int64_t dims) {
  return parent.register_module(name, std::make_shared<EomtChild>())
      ->register_parameter("weight", torch::randn({count, dims}));
}

std::shared_ptr<Lambda> eomt_activation(const EomtSizes& s) {
  return std::make_shared<Lambda>(
      [silu = s.silu](const torch::Tensor& x) { return silu ? at::silu(x) : at::gelu(x); });
}

}  // namespace

std::shared_ptr<Norm> EomtSizes::norm() const {
  return Spec<Norm>::of(text("{type: LN, eps: ", eps, "}")).build(dims);
}

EomtEmbeddings::EomtEmbeddings(const EomtSizes& s) : grid_(s.grid) {
  cls_token_ = register_parameter("cls_token", torch::zeros({1, 1, s.dims}));
  register_tokens_ = register_parameter("register_tokens", torch::zeros({1, s.registers, s.dims}));
  patches_ = std::make_shared<Conv2d>(ConvOptions{
      .in_channels = s.bands, .out_channels = s.dims, .kernel_size = s.patch, .stride = s.patch});
  if (s.dinov3) {
    register_module("patch_embeddings", patches_);
    return;
  }
  auto folder = std::make_shared<Sequential>();
  folder->push_back("projection", patches_);
  register_module("patch_embeddings", folder);
  positions_ = add_embedding(*this, "position_embeddings", grid_.h * grid_.w, s.dims);
}

torch::Tensor EomtEmbeddings::forward(const torch::Tensor& images, Size2 grid) {
  auto x = nchw_to_nlc(patches_->forward(images));
  if (positions_.defined()) x = x + resampled_grid(positions_.unsqueeze(0), grid_, grid);
  const int64_t n = x.size(0);
  return at::cat({cls_token_.expand({n, -1, -1}), register_tokens_.expand({n, -1, -1}), x}, 1);
}

void EomtEmbeddings::init_weights() {
  const torch::NoGradGuard no_grad;
  patches_->reset_parameters();
  trunc_normal_(cls_token_, 0, 0.02);
  register_tokens_.zero_();
  if (positions_.defined()) positions_.normal_();
}

/// Children `k_proj`, `v_proj`, `q_proj`, `out_proj`; in DINOv3 `o_proj`, and keys have no biases.
class EomtBlock::Attention final : public BaseModule, public DropsValues {
 public:
  explicit Attention(const EomtSizes& s) : heads_(s.heads), dropout_(s.attention_dropout) {
    const auto projection = [&](const char* name, bool bias = true) {
      return register_module(name, std::make_shared<Linear>(s.dims, s.dims, bias));
    };
    key_ = projection("k_proj", !s.dinov3);
    value_ = projection("v_proj");
    query_ = projection("q_proj");
    out_ = projection(s.dinov3 ? "o_proj" : "out_proj");
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask,
                        const RotaryEmbedding* rotary) {
    const int64_t n = x.size(0), length = x.size(1), c = x.size(2);
    const auto split = [&](const torch::Tensor& t) {
      return t.view({n, length, heads_, c / heads_}).transpose(1, 2);
    };
    auto q = split(query_->forward(x)), k = split(key_->forward(x));
    if (rotary) {
      q = rotated(q, *rotary);
      k = rotated(k, *rotary);
    }
    const auto y = attention(q, k, split(value_->forward(x)), mask,
                             {.dropout = is_training() ? dropout_ : 0.0});
    return out_->forward(y.transpose(1, 2).reshape({n, length, c}));
  }
  void set_drop_probability(double p) override { dropout_ = p; }

 private:
  int64_t heads_;
  double dropout_;
  std::shared_ptr<Linear> key_, value_, query_, out_;
};

EomtBlock::EomtBlock(const EomtSizes& s) {
  const auto scale = [&](const char* name) {
    return register_module(
        name, std::make_shared<LayerScale>(s.dims, s.scale, /*channels_first=*/false, "lambda1"));
  };
  norm1_ = register_module("norm1", s.norm());
  attention_ = register_module("attention", std::make_shared<Attention>(s));
  scale1_ = scale("layer_scale1");
  drop_path_ = register_module("drop_path", std::make_shared<DropPath>(s.drop_path_rate));
  norm2_ = register_module("norm2", s.norm());
  const bool gated = s.mlp == MlpOptions::Kind::kGated;
  const bool projections = s.dinov3 || gated;
  mlp_ = register_module("mlp", std::make_shared<Mlp>(MlpOptions{
                                    .dims = s.dims,
                                    .hidden = s.hidden,
                                    .kind = s.mlp,
                                    // DINOv2's gated layers have SiLU whatever the rest has.
                                    .silu = s.silu || (gated && !s.dinov3),
                                    .first = projections ? "up_proj" : "fc1",
                                    .gate = "gate_proj",
                                    .last = projections ? "down_proj" : "fc2"}));
  scale2_ = scale("layer_scale2");
}

torch::Tensor EomtBlock::forward(const torch::Tensor& x, const torch::Tensor& mask,
                                 const RotaryEmbedding* rotary) {
  const auto y = x + drop_path_->forward(
                         scale1_->forward(attention_->forward(norm1_->forward(x), mask, rotary)));
  return y + drop_path_->forward(scale2_->forward(mlp_->forward(norm2_->forward(y))));
}

std::shared_ptr<Layer> eomt_upscaling(const EomtSizes& s, int64_t count) {
  const int64_t dims = s.dims;
  auto blocks = std::make_shared<Sequential>();
  for (int64_t i = 0; i < count; ++i) {
    auto block = std::make_shared<Sequential>();
    block->push_back("conv1", std::make_shared<ConvTranspose2d>(dims, dims, /*kernel_size=*/2,
                                                                /*stride=*/2, /*padding=*/0));
    block->push_back("activation", eomt_activation(s));
    block->push_back("conv2", std::make_shared<Conv2d>(ConvOptions{.in_channels = dims,
                                                                   .out_channels = dims,
                                                                   .kernel_size = 3,
                                                                   .padding = 1,
                                                                   .groups = dims,
                                                                   .bias = false}));
    block->push_back("layernorm2d",
                     std::make_shared<LayerNorm2d>(LayerNorm2dParams{.eps = 1e-6}, dims));
    blocks->push_back(block);
  }
  auto out = std::make_shared<Sequential>();
  out->push_back("block", blocks);
  return out;
}

std::shared_ptr<Layer> eomt_mask_head(const EomtSizes& s) {
  const int64_t dims = s.dims;
  auto out = std::make_shared<Sequential>();
  out->push_back("fc1", std::make_shared<Linear>(dims, dims));
  out->push_back("activation1", eomt_activation(s));
  out->push_back("fc2", std::make_shared<Linear>(dims, dims));
  out->push_back("activation2", eomt_activation(s));
  out->push_back("fc3", std::make_shared<Linear>(dims, dims));
  return out;
}

}  // namespace seg
