#include <algorithm>
#include <cmath>

#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/blocks/window_attention.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct SwinTransformerParams {
  Size2 pretrain_img_size = 224;
  int64_t in_channels = 3;
  int64_t embed_dims = 96;
  Size2 patch_size = 4;
  int64_t window_size = 7;
  double mlp_ratio = 4;
  std::vector<int64_t> depths{2, 2, 6, 2};
  std::vector<int64_t> num_heads{3, 6, 12, 24};
  std::vector<Size2> strides{4, 2, 2, 2};
  std::vector<int64_t> out_indices{0, 1, 2, 3};
  bool qkv_bias = true;
  std::optional<double> qk_scale;
  bool patch_norm = true;
  double drop_rate = 0;
  double attn_drop_rate = 0;
  double drop_path_rate = 0.1;
  bool use_abs_pos_embed = false;
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: GELU}");
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  bool with_cp = false;
  std::optional<std::string> pretrained;
  int64_t frozen_stages = -1;
  InitCfg init_cfg;
};

namespace {

/// Window attention on a map, every other time shifted by half a window: children `w_msa`, `drop`.
class ShiftWindowMSA final : public BaseModule {
 public:
  ShiftWindowMSA(const SwinTransformerParams& p, int64_t dims, int64_t heads, bool shift,
                 double drop_path)
      : windows_(p.window_size, shift) {
    w_msa_ = register_module("w_msa", std::make_shared<WindowAttention>(
                                          WindowAttentionOptions{.dims = dims,
                                                                 .heads = heads,
                                                                 .side = p.window_size,
                                                                 .qkv_bias = p.qkv_bias,
                                                                 .scale = p.qk_scale,
                                                                 .attn_drop = p.attn_drop_rate,
                                                                 .proj_drop = p.drop_rate}));
    drop_ = register_module("drop", std::make_shared<DropPath>(drop_path));
  }
  torch::Tensor forward(const torch::Tensor& tokens, Size2 size) {
    return drop_->forward(windows_.forward(tokens, size, *w_msa_));
  }

 private:
  ShiftedWindows windows_;
  std::shared_ptr<WindowAttention> w_msa_;
  std::shared_ptr<DropPath> drop_;
};

class SwinBlock final : public BaseModule {
 public:
  SwinBlock(const SwinTransformerParams& p, int64_t dims, int64_t heads, bool shift,
            double drop_path)
      : with_cp_(p.with_cp) {
    norm1_ = register_module("norm1", p.norm_cfg.build(dims));
    attn_ =
        register_module("attn", std::make_shared<ShiftWindowMSA>(p, dims, heads, shift, drop_path));
    norm2_ = register_module("norm2", p.norm_cfg.build(dims));
    ffn_ = register_module(
        "ffn",
        std::make_shared<FFN>(FFNOptions{
            .embed_dims = dims,
            .feedforward_channels = static_cast<int64_t>(p.mlp_ratio * static_cast<double>(dims)),
            .act_cfg = p.act_cfg,
            .ffn_drop = p.drop_rate,
            .dropout_layer =
                Spec<DropLayer>::of(text("{type: DropPath, drop_prob: ", drop_path, "}"))}));
  }
  torch::Tensor forward(const torch::Tensor& tokens, Size2 size) {
    const auto block = [this, size](const torch::Tensor& x) {
      const auto y = x + attn_->forward(norm1_->forward(x), size);
      return ffn_->forward(norm2_->forward(y), y);
    };
    return run_block(with_cp_, block, tokens);
  }

 private:
  bool with_cp_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<ShiftWindowMSA> attn_;
  std::shared_ptr<FFN> ffn_;
};

/// The side of a square of `count` places.
int64_t swin_side(int64_t count) {
  return static_cast<int64_t>(std::sqrt(static_cast<double>(count)) + 1e-6);
}

/// A table of biases, [(2 * side - 1)^2, heads], for another window size.
torch::Tensor swin_resized_table(const torch::Tensor& table, int64_t length) {
  const int64_t heads = table.size(1), from = swin_side(table.size(0)), to = swin_side(length);
  if (from * from != table.size(0)) return table;
  return resize(table.t().reshape({1, heads, from, from}).to(torch::kFloat32), to, false, "bicubic")
      .reshape({heads, length})
      .t()
      .contiguous();
}

}  // namespace

/// A pyramid of transformer stages with attention in shifted windows.
///
/// Swin Transformer, Liu et al. 2021, arXiv:2103.14030.
class SwinTransformer final : public Backbone, public AdaptsPretrained {
 public:
  using Params = SwinTransformerParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("A pyramid of transformer stages with attention in shifted windows.")
        .source("Swin Transformer, Liu et al. 2021, arXiv:2103.14030")
        .optional("pretrain_img_size", &P::pretrain_img_size,
                  "image size of absolute position embeddings")
        .optional("in_channels", &P::in_channels, "bands of the image", at_least(1))
        .optional("embed_dims", &P::embed_dims, "width of the first stage; doubles with each",
                  at_least(1))
        .optional("patch_size", &P::patch_size, "sides of a patch", sides_at_least(1))
        .optional("window_size", &P::window_size, "side of a window, in tokens", at_least(1))
        .optional("mlp_ratio", &P::mlp_ratio, "width of feed-forward blocks over that of tokens",
                  above(0))
        .optional("depths", &P::depths, "blocks of each stage", at_least(0))
        .optional("num_heads", &P::num_heads, "attention heads of each stage", at_least(1))
        .optional("strides", &P::strides, "of the patch embedding and each merging",
                  sides_at_least(1))
        .optional("out_indices", &P::out_indices, "stages whose maps are returned", at_least(0))
        .optional("qkv_bias", &P::qkv_bias, "biases of query, key and value")
        .optional("qk_scale", &P::qk_scale, "factor of scores; null: 1 / sqrt(width of a head)")
        .optional("patch_norm", &P::patch_norm, "norms after patch embedding and before merging")
        .optional("drop_rate", &P::drop_rate, "dropout after projections", in_range(0, 1))
        .optional("attn_drop_rate", &P::attn_drop_rate, "dropout of attention weights",
                  in_range(0, 1))
        .optional("drop_path_rate", &P::drop_path_rate,
                  "stochastic depth of the last block; rises from 0", in_range(0, 1))
        .optional("use_abs_pos_embed", &P::use_abs_pos_embed, "add absolute position embeddings")
        .optional("act_cfg", &P::act_cfg, "activation of the feed-forward blocks")
        .optional("norm_cfg", &P::norm_cfg, "norms")
        .optional("with_cp", &P::with_cp, "recompute blocks in the backward pass to save memory")
        .optional("pretrained", &P::pretrained, "checkpoint; older form of init_cfg")
        .optional("frozen_stages", &P::frozen_stages,
                  "stages to freeze, with the patch embedding; -1: nothing")
        .optional("init_cfg", &P::init_cfg, "initialisation; null: as the authors'")
        .validate([](const P& p, Problems& problems) {
          const auto check = [&](const char* name, size_t entries) {
            if (entries != p.depths.size()) {
              problems.error(name,
                             text("has ", entries, " entries for ", p.depths.size(), " stages"));
            }
          };
          check("num_heads", p.num_heads.size());
          check("strides", p.strides.size());
          if (!p.strides.empty() && p.strides[0] != p.patch_size) {
            problems.error("strides", text("the first must be patch_size, ",
                                           Convert<Size2>::show(p.patch_size)));
          }
          for (const int64_t i : p.out_indices) {
            if (i >= static_cast<int64_t>(p.depths.size())) {
              problems.error("out_indices",
                             text("there is no stage ", i, " among ", p.depths.size()));
            }
          }
          for (size_t i = 0; i < std::min(p.depths.size(), p.num_heads.size()); ++i) {
            if (p.num_heads[i] > 0 && (p.embed_dims << i) % p.num_heads[i] != 0) {
              problems.error("num_heads", text("stage ", i, ": ", p.num_heads[i],
                                               " does not divide its width ", p.embed_dims << i));
            }
          }
          if (p.frozen_stages > static_cast<int64_t>(p.depths.size())) {
            problems.error("frozen_stages", text("there are only ", p.depths.size(), " stages"));
          }
        });
  }

  explicit SwinTransformer(const Params& p)
      : Backbone(with_pretrained(p.init_cfg, p.pretrained)), params_(p) {
    const NormCfg patch_norm = p.patch_norm ? NormCfg(p.norm_cfg) : NormCfg();
    if (p.use_abs_pos_embed) {
      grid_ = {p.pretrain_img_size.h / p.patch_size.h, p.pretrain_img_size.w / p.patch_size.w};
      position_ = register_parameter("absolute_pos_embed",
                                     torch::zeros({1, grid_.h * grid_.w, p.embed_dims}));
    }
    patch_embed_ = register_module(
        "patch_embed", std::make_shared<PatchEmbed>(PatchEmbedOptions{.in_channels = p.in_channels,
                                                                      .embed_dims = p.embed_dims,
                                                                      .kernel_size = p.patch_size,
                                                                      .stride = p.strides.at(0),
                                                                      .norm_cfg = patch_norm}));
    drop_after_pos_ = register_module("drop_after_pos", std::make_shared<Dropout>(p.drop_rate));
    int64_t total = 0;
    for (const int64_t n : p.depths) total += n;
    const auto rates = drop_path_rates(p.drop_path_rate, total);
    size_t block = 0;
    int64_t dims = p.embed_dims, stride = p.strides.at(0).h;
    auto stages = register_module("stages", std::make_shared<ListOf<BaseModule>>());
    for (size_t i = 0; i < p.depths.size(); ++i) {
      Stage stage;
      stage.module = stages->push_back(std::make_shared<ListOf<BaseModule>>());
      stage.blocks = stage.module->register_module("blocks", std::make_shared<ListOf<SwinBlock>>());
      for (int64_t k = 0; k < p.depths[i]; ++k) {
        stage.blocks->push_back(
            std::make_shared<SwinBlock>(p, dims, p.num_heads[i], k % 2 == 1, rates[block++]));
      }
      if (gives_stage(params_.out_indices, i)) features_.push_back({dims, stride});
      widths_.push_back(dims);
      if (i + 1 < p.depths.size()) {
        stage.downsample = stage.module->register_module(
            "downsample",
            std::make_shared<PatchMerging>(PatchMergingOptions{.in_channels = dims,
                                                               .out_channels = 2 * dims,
                                                               .stride = p.strides[i + 1],
                                                               .norm_cfg = patch_norm}));
        dims *= 2;
        stride *= p.strides[i + 1].h;
      }
      stages_.push_back(std::move(stage));
    }
    norms_.resize(stages_.size());
    for (const int64_t i : p.out_indices) {
      const auto k = static_cast<size_t>(i);
      norms_[k] = register_module(text("norm", i), p.norm_cfg.build(widths_[k]));
    }
    freeze();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    auto [x, size] = patch_embed_->forward(images);
    if (position_.defined()) {
      auto position = position_;
      if (size != grid_)
        position = nchw_to_nlc(resize(nlc_to_nchw(position_, grid_), size, false, "bicubic"));
      x = x + position;
    }
    x = drop_after_pos_->forward(x);
    std::vector<torch::Tensor> out;
    for (size_t i = 0; i < stages_.size(); ++i) {
      for (const auto& block : *stages_[i].blocks) x = block->forward(x, size);
      if (gives_stage(params_.out_indices, i))
        out.push_back(nlc_to_nchw(norms_[i]->forward(x), size));
      if (stages_[i].downsample) std::tie(x, size) = stages_[i].downsample->forward(x, size);
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  LayerOrder layer_order() const override {
    std::vector<StageNames> stages;
    for (size_t i = 0; i < stages_.size(); ++i) {
      stages.push_back({.blocks = text("stages.", i, ".blocks."),
                        .num_blocks = params_.depths[i],
                        .after = {text("stages.", i, ".downsample.")}});
    }
    if (!stages.empty()) stages[0].embedding = {"absolute_pos_embed", "patch_embed."};
    return LayerOrder(std::move(stages));
  }

  void train(bool on = true) override {
    Backbone::train(on);
    freeze();
  }

  void init_weights() override {
    if (init_cfg_) {
      apply_init_cfg();
      return;
    }
    if (position_.defined()) trunc_normal_(position_, 0, 0.02);
    for_each_module(*this, [](torch::nn::Module& m) {
      if (dynamic_cast<Linear*>(&m)) {
        trunc_normal_init(m, 0, 0.02);
      } else if (is_norm(m)) {
        constant_init(m, 1, 0);
      }
    });
  }

  void adapt_pretrained(Value& state) const override {
    for (const auto& item : named_parameters()) {
      const Value* found = state.find(item.key());
      if (!found || !found->is_tensor()) continue;
      const at::Tensor theirs = found->as_tensor(), mine = item.value();
      if (item.key().ends_with("relative_position_bias_table")) {
        const bool resizes =
            theirs.dim() == 2 && theirs.size(1) == mine.size(1) && theirs.size(0) != mine.size(0);
        if (resizes) state.set(item.key(), swin_resized_table(theirs, mine.size(0)));
      } else if (item.key() == "absolute_pos_embed" && theirs.dim() == 3) {
        const int64_t side = swin_side(theirs.size(1));
        if (theirs.size(2) != mine.size(2) || theirs.size(1) == mine.size(1) ||
            side * side != theirs.size(1)) {
          continue;
        }
        const auto map = nlc_to_nchw(theirs.to(torch::kFloat32), side);
        state.set(item.key(), nchw_to_nlc(resize(map, grid_, false, "bicubic")));
      }
    }
    // Which place of the table belongs to which pair depends only on the window.
    for (const auto& item : named_buffers()) {
      const bool index = item.key().ends_with("relative_position_index");
      if (index && state.find(item.key())) state.set(item.key(), item.value());
    }
  }

 private:
  struct Stage {
    std::shared_ptr<BaseModule> module;
    std::shared_ptr<ListOf<SwinBlock>> blocks;
    std::shared_ptr<PatchMerging> downsample;  ///< null in the last
  };
  void freeze() {
    const auto stop = [](torch::nn::Module& m) {
      m.eval();
      for (auto& parameter : m.parameters()) parameter.set_requires_grad(false);
    };
    if (params_.frozen_stages >= 0) {
      stop(*patch_embed_);
      if (position_.defined()) position_.set_requires_grad(false);
      drop_after_pos_->eval();
    }
    for (int64_t i = 0; i < params_.frozen_stages; ++i) {
      const auto k = static_cast<size_t>(i);
      if (norms_[k]) stop(*norms_[k]);
      stop(*stages_[k].module);
    }
  }

  Params params_;
  Size2 grid_ = 0;
  torch::Tensor position_;
  std::shared_ptr<PatchEmbed> patch_embed_;
  std::shared_ptr<Dropout> drop_after_pos_;
  std::vector<Stage> stages_;
  std::vector<std::shared_ptr<Norm>> norms_;  ///< null where a stage is not given
  std::vector<int64_t> widths_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, SwinTransformer);

}  // namespace seg
