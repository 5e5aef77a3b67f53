#include "segcore/models/backbones/diffusion_autoencoder.hpp"

#include <algorithm>

#include "segcore/models/backbones/diffusion_unet.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<AutoencoderSizes> AutoencoderSizes::schema() {
  using P = AutoencoderSizes;
  return Schema<P>("Sizes of an autoencoder.")
      .optional("double_z", &P::double_z, "must be true: latents have a mean and a variance")
      .optional("z_channels", &P::z_channels, "width between encoder and latents", at_least(1))
      .optional("resolution", &P::resolution, "side of the images that attn_resolutions refers to",
                at_least(1))
      .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
      .optional("out_ch", &P::out_ch, "bands of the decoder, which is not computed", at_least(1))
      .optional("ch", &P::ch, "width of the first level", at_least(1))
      .optional("ch_mult", &P::ch_mult, "widths of the levels, by that of the first", at_least(1))
      .optional("num_res_blocks", &P::num_res_blocks, "residual blocks of each level", at_least(1))
      .optional("attn_resolutions", &P::attn_resolutions,
                "sides of the map at which levels have attention, for images of `resolution`",
                at_least(1))
      .optional("dropout", &P::dropout, "has no effect, since the encoder is not trained",
                in_range(0, 1))
      .optional("resamp_with_conv", &P::resamp_with_conv,
                "levels halve their maps by convolutions, else by means")
      .validate([](const P& p, Problems& problems) {
        if (!p.double_z) problems.error("double_z", "must be true, as AutoencoderKL needs");
        if (p.ch_mult.empty()) problems.error("ch_mult", "must have a value for each level");
        for (const int64_t mult : p.ch_mult) {
          if (p.ch % 32 == 0 && (p.ch * mult) % 32 == 0) continue;
          problems.error("ch", text("a level of ", p.ch * mult, " channels over one of ", p.ch,
                                    " cannot be cut into 32 groups"));
          return;
        }
      });
}

Schema<AutoencoderKLParams> AutoencoderKLParams::schema() {
  using P = AutoencoderKLParams;
  return Schema<P>("The autoencoder of a latent diffusion model.")
      .source("Rombach et al. 2021, arXiv:2112.10752; CompVis/stable-diffusion, AutoencoderKL")
      .optional("embed_dim", &P::embed_dim, "channels of the latents", at_least(1))
      .optional("ddconfig", &P::ddconfig, "sizes of encoder and decoder")
      .accepted("monitor", "the autoencoder is not trained")
      .accepted("lossconfig", "the autoencoder is not trained");
}

namespace {

constexpr double kAutoencoderEps = 1e-6;

std::shared_ptr<Layer> latent_pointwise(int64_t in, int64_t out) {
  return std::make_shared<Conv2d>(ConvOptions{.in_channels = in, .out_channels = out});
}

/// Children `norm1`, `conv1`, `norm2`, `dropout`, `conv2`, `nin_shortcut`.
class AutoencoderResBlock final : public Layer {
 public:
  AutoencoderResBlock(int64_t in, int64_t out, double dropout) {
    norm1_ = register_module("norm1", diffusion_norm(in, kAutoencoderEps));
    conv1_ = register_module("conv1", diffusion_conv(in, out));
    norm2_ = register_module("norm2", diffusion_norm(out, kAutoencoderEps));
    dropout_ = register_module("dropout", std::make_shared<Dropout>(dropout));
    conv2_ = register_module("conv2", diffusion_conv(out, out));
    if (in != out) shortcut_ = register_module("nin_shortcut", latent_pointwise(in, out));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto h = conv1_->forward(at::silu(norm1_->forward(x)));
    const auto branch = conv2_->forward(dropout_->forward(at::silu(norm2_->forward(h))));
    return (shortcut_ ? shortcut_->forward(x) : x) + branch;
  }

 private:
  std::shared_ptr<Layer> norm1_, conv1_, norm2_, dropout_, conv2_, shortcut_;
};

/// Attention of one head between all positions; children `norm`, `q`, `k`, `v`, `proj_out`.
class AutoencoderAttention final : public Layer {
 public:
  explicit AutoencoderAttention(int64_t width) {
    norm_ = register_module("norm", diffusion_norm(width, kAutoencoderEps));
    q_ = register_module("q", latent_pointwise(width, width));
    k_ = register_module("k", latent_pointwise(width, width));
    v_ = register_module("v", latent_pointwise(width, width));
    proj_out_ = register_module("proj_out", latent_pointwise(width, width));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto normed = norm_->forward(x);
    const auto tokens = [&](Layer& layer) {
      return layer.forward(normed).flatten(2).transpose(1, 2).unsqueeze(1);  // [N, 1, H*W, C]
    };
    const auto out = attention(tokens(*q_), tokens(*k_), tokens(*v_));
    return x + proj_out_->forward(out.squeeze(1).transpose(1, 2).reshape(x.sizes()));
  }

 private:
  std::shared_ptr<Layer> norm_, q_, k_, v_, proj_out_;
};

/// Halves the sides of a map, padded at the right and below; child `conv`.
class AutoencoderDownsample final : public Layer {
 public:
  AutoencoderDownsample(int64_t width, bool convolves) {
    if (!convolves) return;
    conv_ = register_module(
        "conv", std::make_shared<Conv2d>(ConvOptions{
                    .in_channels = width, .out_channels = width, .kernel_size = 3, .stride = 2}));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return conv_ ? conv_->forward(at::constant_pad_nd(x, {0, 1, 0, 1}))
                 : at::avg_pool2d(x, {2, 2}, {2, 2});
  }

 private:
  std::shared_ptr<Layer> conv_;
};

/// One level: children `block`, `attn` and what changes the size.
class AutoencoderLevel final : public Layer {
 public:
  AutoencoderLevel(int64_t in, int64_t out, int64_t count, bool attends, double dropout) {
    blocks_ = register_module("block", std::make_shared<ListOf<Layer>>());
    attention_ = register_module("attn", std::make_shared<ListOf<Layer>>());
    for (int64_t i = 0; i < count; ++i) {
      blocks_->push_back(std::make_shared<AutoencoderResBlock>(i == 0 ? in : out, out, dropout));
      if (attends) attention_->push_back(std::make_shared<AutoencoderAttention>(out));
    }
  }
  void resample(const std::string& name, std::shared_ptr<Layer> layer) {
    resample_ = register_module(name, std::move(layer));
  }
  torch::Tensor forward(const torch::Tensor& input) override {
    auto x = input;
    for (size_t i = 0; i < blocks_->size(); ++i) {
      x = (*blocks_)[i].forward(x);
      if (!attention_->empty()) x = (*attention_)[i].forward(x);
    }
    return resample_ ? resample_->forward(x) : x;
  }

 private:
  std::shared_ptr<ListOf<Layer>> blocks_, attention_;
  std::shared_ptr<Layer> resample_;
};

/// Children `block_1`, `attn_1`, `block_2`.
std::shared_ptr<Sequential> autoencoder_middle(int64_t width, double dropout) {
  auto mid = std::make_shared<Sequential>();
  mid->push_back("block_1", std::make_shared<AutoencoderResBlock>(width, width, dropout));
  mid->push_back("attn_1", std::make_shared<AutoencoderAttention>(width));
  mid->push_back("block_2", std::make_shared<AutoencoderResBlock>(width, width, dropout));
  return mid;
}

bool level_attends(const AutoencoderSizes& p, size_t level) {
  const int64_t side = p.resolution >> level;
  return std::find(p.attn_resolutions.begin(), p.attn_resolutions.end(), side) !=
         p.attn_resolutions.end();
}

/// The weights of the decoder, which VPD does not compute but keeps, so that checkpoints have all
/// that Python's have. Its levels go from the coarsest to the finest.
std::shared_ptr<BaseModule> autoencoder_decoder(const AutoencoderSizes& p) {
  struct Decoder : BaseModule {};
  auto decoder = std::make_shared<Decoder>();
  int64_t width = p.ch * p.ch_mult.back();
  decoder->register_module("conv_in", diffusion_conv(p.z_channels, width));
  decoder->register_module("mid", autoencoder_middle(width, p.dropout));
  std::vector<std::shared_ptr<Layer>> levels;  // the coarsest first
  for (size_t level = p.ch_mult.size(); level-- > 0;) {
    const int64_t out = p.ch * p.ch_mult[level];
    auto up = std::make_shared<AutoencoderLevel>(width, out, p.num_res_blocks + 1,
                                                 level_attends(p, level), p.dropout);
    if (level > 0) {
      auto upsample = std::make_shared<Sequential>();
      if (p.resamp_with_conv) upsample->push_back("conv", diffusion_conv(out, out));
      up->resample("upsample", upsample);
    }
    levels.push_back(up);
    width = out;
  }
  auto up = decoder->register_module("up", std::make_shared<ListOf<Layer>>());
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) up->push_back(*level);
  decoder->register_module("norm_out", diffusion_norm(width, kAutoencoderEps));
  decoder->register_module("conv_out", diffusion_conv(width, p.out_ch));
  return decoder;
}

}  // namespace

/// Children `conv_in`, `down`, `mid`, `norm_out`, `conv_out`.
class AutoencoderKL::Encoder final : public Layer {
 public:
  explicit Encoder(const AutoencoderSizes& p) {
    conv_in_ = register_module("conv_in", diffusion_conv(p.in_channels, p.ch));
    down_ = register_module("down", std::make_shared<ListOf<AutoencoderLevel>>());
    int64_t width = p.ch;
    for (size_t level = 0; level < p.ch_mult.size(); ++level) {
      const int64_t out = p.ch * p.ch_mult[level];
      auto down = std::make_shared<AutoencoderLevel>(width, out, p.num_res_blocks,
                                                     level_attends(p, level), p.dropout);
      if (level + 1 < p.ch_mult.size()) {
        down->resample("downsample",
                       std::make_shared<AutoencoderDownsample>(out, p.resamp_with_conv));
      }
      down_->push_back(down);
      width = out;
    }
    mid_ = register_module("mid", autoencoder_middle(width, p.dropout));
    norm_out_ = register_module("norm_out", diffusion_norm(width, kAutoencoderEps));
    conv_out_ = register_module("conv_out", diffusion_conv(width, 2 * p.z_channels));
  }
  torch::Tensor forward(const torch::Tensor& images) override {
    auto x = conv_in_->forward(images);
    for (const auto& level : *down_) x = level->forward(x);
    return conv_out_->forward(at::silu(norm_out_->forward(mid_->forward(x))));
  }

 private:
  std::shared_ptr<Layer> conv_in_, norm_out_, conv_out_;
  std::shared_ptr<ListOf<AutoencoderLevel>> down_;
  std::shared_ptr<Sequential> mid_;
};

AutoencoderKL::AutoencoderKL(const AutoencoderKLParams& p, InitCfg init_cfg)
    : BaseModule(std::move(init_cfg)), stride_(int64_t{1} << (p.ddconfig.ch_mult.size() - 1)) {
  encoder_ = register_module("encoder", std::make_shared<Encoder>(p.ddconfig));
  register_module("decoder", autoencoder_decoder(p.ddconfig));
  quant_conv_ =
      register_module("quant_conv", latent_pointwise(2 * p.ddconfig.z_channels, 2 * p.embed_dim));
  register_module("post_quant_conv", latent_pointwise(p.embed_dim, p.ddconfig.z_channels));
  for (auto& parameter : parameters()) parameter.requires_grad_(false);
  eval();
}

torch::Tensor AutoencoderKL::encode(const torch::Tensor& images) {
  const torch::NoGradGuard no_grad;
  // The mean; the other half is the logarithm of the variance.
  return quant_conv_->forward(encoder_->forward(images)).chunk(2, 1)[0];
}

void AutoencoderKL::train(bool) { BaseModule::train(false); }

}  // namespace seg
