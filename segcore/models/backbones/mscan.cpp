#include <cmath>

#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct MSCANParams {
  int64_t in_channels = 3;
  std::vector<int64_t> embed_dims{64, 128, 256, 512};
  std::vector<double> mlp_ratios{4, 4, 4, 4};
  double drop_rate = 0;
  double drop_path_rate = 0;
  std::vector<int64_t> depths{3, 4, 6, 3};
  int64_t num_stages = 4;
  std::vector<Size2> attention_kernel_sizes{5, {1, 7}, {1, 11}, {1, 21}};
  std::vector<Size2> attention_kernel_paddings{2, {0, 3}, {0, 5}, {0, 10}};
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: GELU}");
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: SyncBN, requires_grad: true}");
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

namespace {

std::shared_ptr<Conv2d> mscan_conv(int64_t in, int64_t out, Size2 kernel = 1, Size2 padding = 0,
                                   int64_t groups = 1, Size2 stride = 1) {
  return std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                              .out_channels = out,
                                              .kernel_size = kernel,
                                              .stride = stride,
                                              .padding = padding,
                                              .groups = groups});
}

class MSCANMlp final : public Layer {
 public:
  MSCANMlp(int64_t dims, int64_t hidden, const Spec<Activation>& act, double drop) {
    fc1_ = register_module("fc1", mscan_conv(dims, hidden));
    dwconv_ = register_module("dwconv", mscan_conv(hidden, hidden, 3, 1, hidden));
    act_ = register_module("act", act.build(false));
    fc2_ = register_module("fc2", mscan_conv(hidden, dims));
    drop_ = register_module("drop", std::make_shared<Dropout>(drop));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto hidden = drop_->forward(act_->forward(dwconv_->forward(fc1_->forward(x))));
    return drop_->forward(fc2_->forward(hidden));
  }

 private:
  std::shared_ptr<Conv2d> fc1_, dwconv_, fc2_;
  std::shared_ptr<Activation> act_;
  std::shared_ptr<Dropout> drop_;
};

/// Depthwise strips of several lengths, whose sum weighs the input.
class MSCAAttention final : public Layer {
 public:
  explicit MSCAAttention(const MSCANParams& p, int64_t dims) {
    const auto& kernels = p.attention_kernel_sizes;
    const auto& paddings = p.attention_kernel_paddings;
    conv0_ = register_module("conv0", mscan_conv(dims, dims, kernels[0], paddings[0], dims));
    for (size_t i = 1; i < kernels.size(); ++i) {
      const Size2 k = kernels[i], pad = paddings[i];
      auto first = register_module(text("conv", i - 1, "_1"), mscan_conv(dims, dims, k, pad, dims));
      auto second = register_module(text("conv", i - 1, "_2"),
                                    mscan_conv(dims, dims, {k.w, k.h}, {pad.w, pad.h}, dims));
      strips_.emplace_back(first, second);
    }
    conv3_ = register_module("conv3", mscan_conv(dims, dims));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto local = conv0_->forward(x);
    auto sum = local;
    for (const auto& [first, second] : strips_) {
      sum = sum + second->forward(first->forward(local));
    }
    return conv3_->forward(sum) * x;
  }

 private:
  std::shared_ptr<Conv2d> conv0_, conv3_;
  std::vector<std::pair<std::shared_ptr<Conv2d>, std::shared_ptr<Conv2d>>> strips_;
};

class MSCASpatialAttention final : public Layer {
 public:
  MSCASpatialAttention(const MSCANParams& p, int64_t dims) {
    proj_1_ = register_module("proj_1", mscan_conv(dims, dims));
    activation_ = register_module("activation", p.act_cfg.build(false));
    gate_ = register_module("spatial_gating_unit", std::make_shared<MSCAAttention>(p, dims));
    proj_2_ = register_module("proj_2", mscan_conv(dims, dims));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return x + proj_2_->forward(gate_->forward(activation_->forward(proj_1_->forward(x))));
  }

 private:
  std::shared_ptr<Conv2d> proj_1_, proj_2_;
  std::shared_ptr<Activation> activation_;
  std::shared_ptr<MSCAAttention> gate_;
};

class MSCABlock final : public Layer {
 public:
  MSCABlock(const MSCANParams& p, size_t stage, double drop_path) {
    const int64_t dims = p.embed_dims[stage];
    scale1_ = register_parameter("layer_scale_1", torch::full({dims}, 1e-2));
    scale2_ = register_parameter("layer_scale_2", torch::full({dims}, 1e-2));
    norm1_ = register_module("norm1", p.norm_cfg.build(dims));
    attn_ = register_module("attn", std::make_shared<MSCASpatialAttention>(p, dims));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
    norm2_ = register_module("norm2", p.norm_cfg.build(dims));
    const auto hidden = static_cast<int64_t>(static_cast<double>(dims) * p.mlp_ratios[stage]);
    mlp_ = register_module("mlp", std::make_shared<MSCANMlp>(dims, hidden, p.act_cfg, p.drop_rate));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto scaled = [this](const torch::Tensor& scale, const torch::Tensor& branch) {
      return drop_path_->forward(scale.view({-1, 1, 1}) * branch);
    };
    const auto y = x + scaled(scale1_, attn_->forward(norm1_->forward(x)));
    return y + scaled(scale2_, mlp_->forward(norm2_->forward(y)));
  }

 private:
  torch::Tensor scale1_, scale2_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<MSCASpatialAttention> attn_;
  std::shared_ptr<DropPath> drop_path_;
  std::shared_ptr<MSCANMlp> mlp_;
};

/// Strided convolution and norm: `proj`, `norm`.
class MSCANPatchEmbed final : public Layer {
 public:
  MSCANPatchEmbed(int64_t in, int64_t out, const Spec<Norm>& norm) {
    proj_ = register_module("proj", mscan_conv(in, out, 3, 1, 1, 2));
    norm_ = register_module("norm", norm.build(out));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return norm_->forward(proj_->forward(x));
  }

 private:
  std::shared_ptr<Conv2d> proj_;
  std::shared_ptr<Norm> norm_;
};

/// Two strided convolutions: `proj.0` to `proj.4`.
class MSCANStem final : public Layer {
 public:
  MSCANStem(int64_t in, int64_t out, const Spec<Norm>& norm) {
    const auto gelu = Spec<Activation>::of("{type: GELU}");
    proj_ = std::make_shared<Sequential>();
    proj_->push_back(mscan_conv(in, out / 2, 3, 1, 1, 2));
    proj_->push_back(norm.build(out / 2));
    proj_->push_back(gelu.build(false));
    proj_->push_back(mscan_conv(out / 2, out, 3, 1, 1, 2));
    proj_->push_back(norm.build(out));
    register_module("proj", proj_);
  }
  torch::Tensor forward(const torch::Tensor& x) override { return proj_->forward(x); }

 private:
  std::shared_ptr<Sequential> proj_;
};

}  // namespace

/// A pyramid of convolutional attention with strips of several lengths.
///
/// SegNeXt, Guo et al. 2022, arXiv:2209.08575, section 3.1.
class MSCAN final : public Backbone {
 public:
  using Params = MSCANParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("A pyramid of convolutional attention with strips of several lengths.")
        .source("SegNeXt, Guo et al. 2022, arXiv:2209.08575")
        .optional("in_channels", &P::in_channels, "bands of the image", at_least(1))
        .optional("embed_dims", &P::embed_dims, "width of each stage", at_least(2))
        .optional("mlp_ratios", &P::mlp_ratios, "width of feed-forward blocks over that of a stage",
                  above(0))
        .optional("drop_rate", &P::drop_rate, "dropout in feed-forward blocks", in_range(0, 1))
        .optional("drop_path_rate", &P::drop_path_rate,
                  "stochastic depth of the last block; rises from 0", in_range(0, 1))
        .optional("depths", &P::depths, "blocks of each stage", at_least(0))
        .optional("num_stages", &P::num_stages, "stages", at_least(1))
        .optional("attention_kernel_sizes", &P::attention_kernel_sizes,
                  "kernel of the local convolution, then of each strip")
        .optional("attention_kernel_paddings", &P::attention_kernel_paddings, "their padding")
        .optional("act_cfg", &P::act_cfg, "activation")
        .optional("norm_cfg", &P::norm_cfg, "norms")
        .optional("pretrained", &P::pretrained, "checkpoint; older form of init_cfg")
        .optional("init_cfg", &P::init_cfg, "initialisation; null: as the authors'")
        .validate([](const P& p, Problems& problems) {
          const auto stages = static_cast<size_t>(p.num_stages);
          const auto check = [&](const char* name, size_t size) {
            if (size < stages) {
              problems.error(name, text("has ", size, " entries for ", stages, " stages"));
            }
          };
          check("embed_dims", p.embed_dims.size());
          check("mlp_ratios", p.mlp_ratios.size());
          check("depths", p.depths.size());
          if (p.attention_kernel_sizes.empty() ||
              p.attention_kernel_sizes.size() != p.attention_kernel_paddings.size()) {
            problems.error("attention_kernel_paddings",
                           text("has ", p.attention_kernel_paddings.size(), " entries for ",
                                p.attention_kernel_sizes.size(), " kernels"));
          }
        });
  }

  explicit MSCAN(const Params& p) : Backbone(with_pretrained(p.init_cfg, p.pretrained)) {
    const auto count = static_cast<size_t>(p.num_stages);
    int64_t total = 0;
    for (const int64_t n : p.depths) total += n;
    const auto rates = drop_path_rates(p.drop_path_rate, total);
    size_t block = 0;
    int64_t stride = 2;
    for (size_t i = 0; i < count; ++i) {
      Stage stage;
      const int64_t dims = p.embed_dims[i];
      if (i == 0) {
        stage.embed = std::make_shared<MSCANStem>(p.in_channels, dims, p.norm_cfg);
      } else {
        stage.embed = std::make_shared<MSCANPatchEmbed>(p.embed_dims[i - 1], dims, p.norm_cfg);
      }
      register_module(text("patch_embed", i + 1), stage.embed);
      stage.blocks = register_module(text("block", i + 1), std::make_shared<ListOf<MSCABlock>>());
      for (int64_t k = 0; k < p.depths[i]; ++k) {
        stage.blocks->push_back(std::make_shared<MSCABlock>(p, i, rates[block++]));
      }
      stage.norm = register_module(text("norm", i + 1), Spec<Norm>::of("{type: LN}").build(dims));
      stride *= 2;
      features_.push_back({dims, stride});
      stages_.push_back(std::move(stage));
    }
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out;
    auto x = images;
    for (const auto& stage : stages_) {
      x = forward_block(*stage.embed, x);
      for (const auto& block : *stage.blocks) x = forward_block(*block, x);
      const Size2 size{x.size(2), x.size(3)};
      x = nlc_to_nchw(stage.norm->forward(nchw_to_nlc(x)), size).contiguous();
      out.push_back(x);
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  LayerOrder layer_order() const override {
    std::vector<StageNames> stages;
    for (size_t i = 0; i < stages_.size(); ++i) {
      stages.push_back({.embedding = {text("patch_embed", i + 1, ".")},
                        .blocks = text("block", i + 1, "."),
                        .num_blocks = static_cast<int64_t>(stages_[i].blocks->size()),
                        .after = {text("norm", i + 1, ".")}});
    }
    return LayerOrder(std::move(stages));
  }

  void init_weights() override {
    if (init_cfg_) return Backbone::init_weights();
    for_each_module(*this, [](torch::nn::Module& m) {
      if (auto* norm = dynamic_cast<Norm*>(&m); norm && !norm->is_batch_norm()) {
        constant_init(m, 1, 0);
      } else if (auto* conv = dynamic_cast<Conv2d*>(&m)) {
        group_fan_out_init(*conv);
      }
    });
  }

 private:
  struct Stage {
    std::shared_ptr<Layer> embed;
    std::shared_ptr<ListOf<MSCABlock>> blocks;
    std::shared_ptr<Norm> norm;
  };
  std::vector<Stage> stages_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, MSCAN);

}  // namespace seg
