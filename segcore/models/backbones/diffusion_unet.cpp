#include "segcore/models/backbones/diffusion_unet.hpp"

#include <algorithm>
#include <cmath>

#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<UNetModelParams> UNetModelParams::schema() {
  using P = UNetModelParams;
  return Schema<P>("The U-Net of a latent diffusion model.")
      .source("Rombach et al. 2021, arXiv:2112.10752; CompVis/stable-diffusion, UNetModel")
      .optional("in_channels", &P::in_channels, "channels of the latents", at_least(1))
      .optional("out_channels", &P::out_channels, "channels of the noise, which is not predicted",
                at_least(1))
      .optional("model_channels", &P::model_channels, "width of the first level", at_least(1))
      .optional("attention_resolutions", &P::attention_resolutions,
                "reductions of the map at which levels have transformers", at_least(1))
      .optional("num_res_blocks", &P::num_res_blocks, "residual blocks of each level: 2")
      .optional("channel_mult", &P::channel_mult, "widths of the four levels, by that of the first",
                at_least(1))
      .optional("dropout", &P::dropout, "probability of a value of a residual block to be zeroed",
                in_range(0, 1))
      .optional("conv_resample", &P::conv_resample,
                "levels change their size by convolutions, else by means and copies")
      .optional("num_heads", &P::num_heads, "attention heads of each transformer; -1: by width")
      .optional("num_head_channels", &P::num_head_channels,
                "width of each attention head; -1: by num_heads")
      .optional("use_spatial_transformer", &P::use_spatial_transformer,
                "must be true: attention takes the context")
      .optional("transformer_depth", &P::transformer_depth, "blocks of each transformer",
                at_least(1))
      .optional("context_dim", &P::context_dim, "width of the context", at_least(1))
      .optional("use_checkpoint", &P::use_checkpoint,
                "recompute residual blocks in the backward pass; transformers always are")
      .accepted("image_size", "has no effect, as in ldm")
      .accepted("legacy", "has no effect on spatial transformers")
      .validate([](const P& p, Problems& problems) {
        if (!p.use_spatial_transformer) {
          problems.error("use_spatial_transformer", "must be true: VPD conditions the U-Net");
        }
        if (p.num_res_blocks != 2) {
          problems.error(
              "num_res_blocks",
              text("must be 2, since VPD takes the maps of such a U-Net; got ", p.num_res_blocks));
        }
        if (p.channel_mult.size() != 4) {
          problems.error("channel_mult", text("must have 4 values, since VPD takes four maps; got ",
                                              p.channel_mult.size()));
        }
        if (p.num_heads < 1 && p.num_head_channels < 1) {
          problems.error("num_heads", "must be at least 1 where num_head_channels is not given");
          return;
        }
        for (const int64_t mult : p.channel_mult) {
          const int64_t width = mult * p.model_channels;
          if (width % 32 != 0) {
            problems.error("model_channels",
                           text("a level of ", width, " channels cannot be cut into 32 groups"));
            return;
          }
          if (p.heads(width) < 1 || width % p.heads(width) != 0 ||
              (p.num_head_channels > 0 && width % p.num_head_channels != 0)) {
            problems.error(p.num_head_channels > 0 ? "num_head_channels" : "num_heads",
                           text("does not divide the ", width, " channels of a level"));
            return;
          }
        }
      });
}

int64_t UNetModelParams::heads(int64_t channels) const {
  return num_head_channels > 0 ? channels / num_head_channels : num_heads;
}

std::shared_ptr<Layer> diffusion_norm(int64_t channels, double eps) {
  return norm_cfg_of(text("{type: GN, num_groups: 32, eps: ", eps, "}"))->build(channels);
}

std::shared_ptr<Layer> diffusion_conv(int64_t in, int64_t out, int64_t stride) {
  return std::make_shared<Conv2d>(ConvOptions{
      .in_channels = in, .out_channels = out, .kernel_size = 3, .stride = stride, .padding = 1});
}

namespace {

/// Of GroupNorm32 and of the norms beside attention.
constexpr double kResBlockEps = 1e-5, kTransformerEps = 1e-6;

std::shared_ptr<Layer> diffusion_silu() { return act_cfg_of("{type: SiLU}")->build(false); }

std::shared_ptr<Layer> diffusion_pointwise(int64_t in, int64_t out) {
  return std::make_shared<Conv2d>(ConvOptions{.in_channels = in, .out_channels = out});
}

/// Residual branches start as nothing.
std::shared_ptr<Layer> zeroed(std::shared_ptr<Layer> layer) {
  const torch::NoGradGuard no_grad;
  for (auto& parameter : layer->parameters()) parameter.zero_();
  return layer;
}

/// Two convolutions, between which the time step is added; children `in_layers`, `emb_layers`,
/// `out_layers`, `skip_connection`.
class DiffusionResBlock final : public BaseModule {
 public:
  DiffusionResBlock(int64_t in, int64_t out, const UNetModelParams& p)
      : use_checkpoint_(p.use_checkpoint) {
    in_layers_ = std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
        diffusion_norm(in, kResBlockEps), diffusion_silu(), diffusion_conv(in, out)});
    emb_layers_ = std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
        diffusion_silu(), std::make_shared<Linear>(4 * p.model_channels, out)});
    out_layers_ = std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
        diffusion_norm(out, kResBlockEps), diffusion_silu(), std::make_shared<Dropout>(p.dropout),
        zeroed(diffusion_conv(out, out))});
    register_module("in_layers", in_layers_);
    register_module("emb_layers", emb_layers_);
    register_module("out_layers", out_layers_);
    skip_connection_ = in == out ? std::make_shared<Identity>() : diffusion_pointwise(in, out);
    register_module("skip_connection", skip_connection_);
  }
  torch::Tensor forward(const DiffusionBlock::State& state) {
    const auto run = [this](at::TensorList in) {
      const auto& x = in[0];
      const auto step = emb_layers_->forward(in[1]).unsqueeze(-1).unsqueeze(-1);  // [N, out, 1, 1]
      return skip_connection_->forward(x) + out_layers_->forward(in_layers_->forward(x) + step);
    };
    return run_block_of(use_checkpoint_, run, {state.x, state.step});
  }

 private:
  bool use_checkpoint_;
  std::shared_ptr<Sequential> in_layers_, emb_layers_, out_layers_;
  std::shared_ptr<Layer> skip_connection_;
};

/// Attention to a context, or of the tokens to each other; children `to_q`, `to_k`, `to_v`,
/// `to_out`.
class DiffusionCrossAttention final : public BaseModule {
 public:
  DiffusionCrossAttention(int64_t width, int64_t context_width, int64_t heads) : heads_(heads) {
    to_q_ = register_module("to_q", std::make_shared<Linear>(width, width, /*bias=*/false));
    to_k_ = register_module("to_k", std::make_shared<Linear>(context_width, width, false));
    to_v_ = register_module("to_v", std::make_shared<Linear>(context_width, width, false));
    to_out_ = std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
        std::make_shared<Linear>(width, width), std::make_shared<Dropout>(0.0)});
    register_module("to_out", to_out_);
  }
  /// \param x  [N, L, width]
  /// \param context  [N, S, context_width]
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& context) {
    const auto split = [this](const torch::Tensor& t) {
      return t.view({t.size(0), t.size(1), heads_, -1}).transpose(1, 2);  // [N, heads, L, d]
    };
    const auto out = attention(split(to_q_->forward(x)), split(to_k_->forward(context)),
                               split(to_v_->forward(context)));
    return to_out_->forward(out.transpose(1, 2).flatten(2));
  }

 private:
  int64_t heads_;
  std::shared_ptr<Linear> to_q_, to_k_, to_v_;
  std::shared_ptr<Sequential> to_out_;
};

/// A linear layer whose one half is gated by the GELU of the other; child `proj`.
class GatedGelu final : public Layer {
 public:
  GatedGelu(int64_t in, int64_t out) {
    proj_ = register_module("proj", std::make_shared<Linear>(in, 2 * out));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto halves = proj_->forward(x).chunk(2, -1);
    return halves[0] * at::gelu(halves[1]);
  }

 private:
  std::shared_ptr<Linear> proj_;
};

/// Attention to itself, to the context, and a feed-forward network, with a norm before each;
/// children `attn1`, `ff`, `attn2`, `norm1`, `norm2`, `norm3`.
class DiffusionTransformerBlock final : public BaseModule {
 public:
  DiffusionTransformerBlock(int64_t width, int64_t context_width, int64_t heads) {
    attn1_ =
        register_module("attn1", std::make_shared<DiffusionCrossAttention>(width, width, heads));
    auto ff = register_module("ff", std::make_shared<Feedforward>());
    ff_ = ff->net = ff->register_module(
        "net", std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
                   std::make_shared<GatedGelu>(width, 4 * width), std::make_shared<Dropout>(0.0),
                   std::make_shared<Linear>(4 * width, width)}));
    attn2_ = register_module(
        "attn2", std::make_shared<DiffusionCrossAttention>(width, context_width, heads));
    const auto norm = norm_cfg_of("{type: LN}");
    norm1_ = register_module("norm1", norm->build(width));
    norm2_ = register_module("norm2", norm->build(width));
    norm3_ = register_module("norm3", norm->build(width));
  }
  /// \param in  tokens [N, L, width] and context [N, S, context_width]
  torch::Tensor forward(at::TensorList in) {
    auto x = in[0];
    const auto own = norm1_->forward(x);
    x = attn1_->forward(own, own) + x;
    x = attn2_->forward(norm2_->forward(x), in[1]) + x;
    return ff_->forward(norm3_->forward(x)) + x;
  }

 private:
  struct Feedforward : BaseModule {
    std::shared_ptr<Sequential> net;
  };
  std::shared_ptr<DiffusionCrossAttention> attn1_, attn2_;
  std::shared_ptr<Sequential> ff_;
  std::shared_ptr<Norm> norm1_, norm2_, norm3_;
};

/// Transformer blocks over the positions of a map, add a shortcut; children `norm`, `proj_in`,
/// `transformer_blocks`, `proj_out`.
class SpatialTransformer final : public BaseModule {
 public:
  SpatialTransformer(int64_t width, const UNetModelParams& p) {
    norm_ = register_module("norm", diffusion_norm(width, kTransformerEps));
    proj_in_ = register_module("proj_in", diffusion_pointwise(width, width));
    blocks_ = register_module("transformer_blocks",
                              std::make_shared<ListOf<DiffusionTransformerBlock>>());
    for (int64_t i = 0; i < p.transformer_depth; ++i) {
      blocks_->push_back(
          std::make_shared<DiffusionTransformerBlock>(width, p.context_dim, p.heads(width)));
    }
    proj_out_ = register_module("proj_out", zeroed(diffusion_pointwise(width, width)));
  }
  torch::Tensor forward(const DiffusionBlock::State& state) {
    const Size2 size{state.x.size(2), state.x.size(3)};
    auto x = nchw_to_nlc(proj_in_->forward(norm_->forward(state.x)));  // [N, H*W, C]
    for (const auto& block : *blocks_) {
      x = recompute_of([&block = *block](at::TensorList in) { return block.forward(in); },
                       {x, state.context});
    }
    return proj_out_->forward(nlc_to_nchw(x, size)) + state.x;
  }

 private:
  std::shared_ptr<Layer> norm_, proj_in_, proj_out_;
  std::shared_ptr<ListOf<DiffusionTransformerBlock>> blocks_;
};

/// Halves the sides of a map; child `op`.
class DiffusionDownsample final : public Layer {
 public:
  DiffusionDownsample(int64_t width, bool convolves) {
    if (convolves) op_ = register_module("op", diffusion_conv(width, width, /*stride=*/2));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return op_ ? op_->forward(x) : at::avg_pool2d(x, {2, 2}, {2, 2});
  }

 private:
  std::shared_ptr<Layer> op_;
};

/// Doubles the sides of a map; child `conv`.
class DiffusionUpsample final : public Layer {
 public:
  DiffusionUpsample(int64_t width, bool convolves) {
    if (convolves) conv_ = register_module("conv", diffusion_conv(width, width));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto large = resize_by(x, 2, false, "nearest");
    return conv_ ? conv_->forward(large) : large;
  }

 private:
  std::shared_ptr<Layer> conv_;
};

/// Cosines and sines of the time step at `width / 2` frequencies, [1, width].
torch::Tensor step_embedding(double step, int64_t width, const torch::Tensor& like) {
  constexpr double kMaxPeriod = 10000;
  const int64_t half = width / 2;
  const auto options = like.options().dtype(wide_type(like));
  const auto angles =
      (at::arange(half, options) * (-std::log(kMaxPeriod) / static_cast<double>(half))).exp() *
      step;
  auto out = at::cat({angles.cos(), angles.sin()});
  if (width % 2 == 1) out = at::constant_pad_nd(out, {0, 1});
  return out.unsqueeze(0);
}

}  // namespace

torch::Tensor DiffusionBlock::forward(State state) {
  for (const auto& child : children_) state.x = child(state);
  return state.x;
}

UNetModel::UNetModel(const UNetModelParams& p) : p_(p) {
  const int64_t embedded = 4 * p.model_channels;
  time_embed_ = std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
      std::make_shared<Linear>(p.model_channels, embedded), diffusion_silu(),
      std::make_shared<Linear>(embedded, embedded)});
  register_module("time_embed", time_embed_);
  add_input_blocks();
  add_middle_block();
  add_output_blocks();
  // Not computed; its weights are part of the model, so that checkpoints have all that Python's
  // have.
  register_module("out", std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
                             diffusion_norm(width_, kResBlockEps), diffusion_silu(),
                             zeroed(diffusion_conv(width_, p.out_channels))}));
}

/// A residual block, and a transformer where this level has them.
std::shared_ptr<DiffusionBlock> UNetModel::level_block(int64_t in, int64_t out) const {
  auto block = std::make_shared<DiffusionBlock>();
  block->push_back(std::make_shared<DiffusionResBlock>(in, out, p_));
  const auto& with = p_.attention_resolutions;
  if (std::find(with.begin(), with.end(), reduction_) != with.end()) {
    block->push_back(std::make_shared<SpatialTransformer>(out, p_));
  }
  return block;
}

void UNetModel::add_input_blocks() {
  input_blocks_ = register_module("input_blocks", std::make_shared<Blocks>());
  const auto add = [this](const std::shared_ptr<DiffusionBlock>& block) {
    input_blocks_->push_back(block);
    skipped_.push_back(width_);
  };
  width_ = p_.model_channels;
  auto first = std::make_shared<DiffusionBlock>();
  first->push_back(diffusion_conv(p_.in_channels, width_));
  add(first);
  for (size_t level = 0; level < p_.channel_mult.size(); ++level) {
    for (int64_t i = 0; i < p_.num_res_blocks; ++i) {
      const int64_t out = p_.channel_mult[level] * p_.model_channels;
      const auto block = level_block(width_, out);
      width_ = out;
      add(block);
    }
    if (level + 1 == p_.channel_mult.size()) break;
    auto down = std::make_shared<DiffusionBlock>();
    down->push_back(std::make_shared<DiffusionDownsample>(width_, p_.conv_resample));
    add(down);
    reduction_ *= 2;
  }
}

void UNetModel::add_middle_block() {
  middle_block_ = std::make_shared<DiffusionBlock>();
  middle_block_->push_back(std::make_shared<DiffusionResBlock>(width_, width_, p_));
  middle_block_->push_back(std::make_shared<SpatialTransformer>(width_, p_));
  middle_block_->push_back(std::make_shared<DiffusionResBlock>(width_, width_, p_));
  register_module("middle_block", middle_block_);
}

void UNetModel::add_output_blocks() {
  output_blocks_ = register_module("output_blocks", std::make_shared<Blocks>());
  for (size_t level = p_.channel_mult.size(); level-- > 0;) {
    const int64_t out = p_.channel_mult[level] * p_.model_channels;
    for (int64_t i = 0; i <= p_.num_res_blocks; ++i) {
      const auto block = level_block(width_ + skipped_.back(), out);
      skipped_.pop_back();
      width_ = out;
      if (level > 0 && i == p_.num_res_blocks) {
        block->push_back(std::make_shared<DiffusionUpsample>(width_, p_.conv_resample));
        reduction_ /= 2;
      }
      output_blocks_->push_back(block);
    }
  }
}

std::vector<int64_t> UNetModel::channels() const {
  std::vector<int64_t> out;
  for (const int64_t mult : p_.channel_mult) out.push_back(mult * p_.model_channels);
  return out;
}

int64_t UNetModel::size_divisor() const { return int64_t{1} << (p_.channel_mult.size() - 1); }

std::vector<torch::Tensor> UNetModel::forward(const torch::Tensor& latents, double step,
                                              const torch::Tensor& context) {
  DiffusionBlock::State state{latents, {}, context};
  state.step = time_embed_->forward(step_embedding(step, p_.model_channels, latents))
                   .expand({latents.size(0), -1});
  std::vector<torch::Tensor> skips, maps;
  for (const auto& block : *input_blocks_) {
    state.x = block->forward(state);
    skips.push_back(state.x);
  }
  state.x = middle_block_->forward(state);
  for (size_t i = 0; i < output_blocks_->size(); ++i) {
    state.x = at::cat({state.x, skips.back()}, 1);
    skips.pop_back();
    state.x = (*output_blocks_)[i].forward(state);
    // The third block of a level ends at the size of the next one. VPD, Zhao et al. 2023,
    // arXiv:2303.02153, takes the last one in place of the second of the finest level.
    const bool second = i % 3 == 1 && i + 3 < output_blocks_->size();
    if (second || i + 1 == output_blocks_->size()) maps.push_back(state.x);
  }
  std::reverse(maps.begin(), maps.end());
  return maps;
}

}  // namespace seg
