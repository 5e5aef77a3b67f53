#include <algorithm>
#include <cmath>
#include <functional>

#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/efficient_attention.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/blocks/windows.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct PCPVTParams {
  int64_t in_channels = 3;
  std::vector<int64_t> embed_dims{64, 128, 256, 512};
  std::vector<int64_t> patch_sizes{4, 2, 2, 2};
  std::vector<int64_t> strides{4, 2, 2, 2};
  std::vector<int64_t> num_heads{1, 2, 4, 8};
  std::vector<int64_t> mlp_ratios{4, 4, 4, 4};
  std::vector<int64_t> out_indices{0, 1, 2, 3};
  bool qkv_bias = false;
  double drop_rate = 0;
  double attn_drop_rate = 0;
  double drop_path_rate = 0;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: LN}");
  std::vector<int64_t> depths{3, 4, 6, 3};
  std::vector<int64_t> sr_ratios{8, 4, 2, 1};
  bool norm_after_stage = false;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;

  static Schema<PCPVTParams> schema();
};

struct SVTParams : PCPVTParams {
  SVTParams() {
    embed_dims = {64, 128, 256};
    num_heads = {1, 2, 4};
    mlp_ratios = {4, 4, 4};
    out_indices = {0, 1, 2};
    drop_path_rate = 0.2;
    depths = {4, 4, 4};
    sr_ratios = {4, 2, 1};
    norm_after_stage = true;
  }
  std::vector<int64_t> windiow_sizes{7, 7, 7};
};

namespace {

/// Attention inside windows of a map: children `qkv`, `proj`.
class LocallyGroupedSelfAttention final : public BaseModule, public DropsValues {
 public:
  LocallyGroupedSelfAttention(const PCPVTParams& p, size_t stage, int64_t window)
      : heads_(p.num_heads[stage]), window_(window), attn_drop_(p.attn_drop_rate) {
    const int64_t dims = p.embed_dims[stage];
    qkv_ = register_module("qkv", std::make_shared<Linear>(dims, 3 * dims, p.qkv_bias));
    proj_ = register_module("proj", std::make_shared<Linear>(dims, dims));
    proj_drop_ = register_module("proj_drop", std::make_shared<Dropout>(p.drop_rate));
  }

  /// tokens [N, h * w, C]
  torch::Tensor forward(const torch::Tensor& tokens, Size2 size) {
    const int64_t n = tokens.size(0), c = tokens.size(2), length = window_ * window_;
    const int64_t right = (window_ - size.w % window_) % window_;
    const int64_t bottom = (window_ - size.h % window_) % window_;
    auto x = tokens.view({n, size.h, size.w, c});
    x = at::constant_pad_nd(x, {0, 0, 0, right, 0, bottom});
    const int64_t h = size.h + bottom, w = size.w + right;
    const auto [q, k, v] = split_heads(qkv_->forward(split_windows(x, window_)), heads_);
    torch::Tensor mask;
    // As in MMSegmentation, padding at one side alone is attended to.
    if (right > 0 && bottom > 0) {
      mask = padding_mask(size, h, w, x.options()).unsqueeze(1).repeat({n, 1, 1, 1});
    }
    x = attention(q, k, v, mask, {.dropout = is_training() ? attn_drop_ : 0.0});
    x = join_windows(x.transpose(1, 2).reshape({-1, length, c}), window_, h, w);
    x = x.narrow(1, 0, size.h).narrow(2, 0, size.w).reshape({n, size.h * size.w, c});
    return proj_drop_->forward(proj_->forward(x));
  }
  void set_drop_probability(double p) override { attn_drop_ = p; }

 private:
  /// Added to the scores: -1000 between pixels and padding, [windows, L, L].
  torch::Tensor padding_mask(Size2 size, int64_t h, int64_t w,
                             const torch::TensorOptions& options) const {
    auto padding = torch::ones({1, h, w, 1}, options);
    padding.narrow(1, 0, size.h).narrow(2, 0, size.w).zero_();
    const auto windows = split_windows(padding, window_).squeeze(2);  // [windows, L]
    const auto differs = windows.unsqueeze(1) != windows.unsqueeze(2);
    return torch::zeros(differs.sizes(), options).masked_fill_(differs, -1000.0);
  }

  int64_t heads_, window_;
  double attn_drop_;
  std::shared_ptr<Linear> qkv_, proj_;
  std::shared_ptr<Dropout> proj_drop_;
};

/// Attention and a feed-forward block, each after a norm.
class TwinsBlock final : public BaseModule {
 public:
  /// \param window  side of the windows of attention; 0: attention to the whole map, reduced.
  TwinsBlock(const PCPVTParams& p, size_t stage, double drop_path, int64_t window) {
    const int64_t dims = p.embed_dims[stage];
    // Norms inside blocks are fixed in MMSegmentation, whatever norm_cfg says.
    const auto norm = Spec<Norm>::of("{type: LN}");
    norm1_ = register_module("norm1", norm.build(dims));
    if (window > 0) {
      local_ =
          register_module("attn", std::make_shared<LocallyGroupedSelfAttention>(p, stage, window));
    } else {
      global_ =
          register_module("attn", std::make_shared<EfficientMultiheadAttention>(
                                      EfficientAttentionOptions{.embed_dims = dims,
                                                                .num_heads = p.num_heads[stage],
                                                                .sr_ratio = p.sr_ratios[stage],
                                                                .attn_drop = p.attn_drop_rate,
                                                                .proj_drop = p.drop_rate,
                                                                .drop_path = drop_path,
                                                                .qkv_bias = p.qkv_bias,
                                                                .norm_cfg = norm}));
    }
    norm2_ = register_module("norm2", norm.build(dims));
    ffn_ = register_module("ffn", std::make_shared<FFN>(FFNOptions{
                                      .embed_dims = dims,
                                      .feedforward_channels = p.mlp_ratios[stage] * dims,
                                      .act_cfg = act_cfg_of("{type: GELU}"),
                                      .ffn_drop = p.drop_rate,
                                      .dropout_layer = Spec<DropLayer>::of(
                                          text("{type: DropPath, drop_prob: ", drop_path, "}")),
                                      .add_identity = false}));
    // A branch is dropped twice over, here and inside, as in MMSegmentation.
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
  }
  torch::Tensor forward(const torch::Tensor& x, Size2 size) {
    const auto normed = norm1_->forward(x);
    const auto attended = local_ ? local_->forward(normed, size) : global_->forward(normed, size);
    const auto y = x + drop_path_->forward(attended);
    return y + drop_path_->forward(ffn_->forward(norm2_->forward(y)));
  }

 private:
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<LocallyGroupedSelfAttention> local_;   ///< this or
  std::shared_ptr<EfficientMultiheadAttention> global_;  ///< that
  std::shared_ptr<FFN> ffn_;
  std::shared_ptr<DropPath> drop_path_;
};

/// Encodes positions by a depthwise convolution: child `proj`.
///
/// Conditional positional encodings, Chu et al. 2021, arXiv:2102.10882.
class ConditionalPositionEncoding final : public BaseModule {
 public:
  explicit ConditionalPositionEncoding(int64_t dims) {
    proj_ = register_module("proj", std::make_shared<Conv2d>(ConvOptions{.in_channels = dims,
                                                                         .out_channels = dims,
                                                                         .kernel_size = 3,
                                                                         .padding = 1,
                                                                         .groups = dims}));
  }
  /// tokens [N, h * w, C]
  torch::Tensor forward(const torch::Tensor& tokens, Size2 size) {
    const auto map = nlc_to_nchw(tokens, size);
    return nchw_to_nlc(proj_->forward(map) + map);
  }

 private:
  std::shared_ptr<Conv2d> proj_;
};

}  // namespace

Schema<PCPVTParams> PCPVTParams::schema() {
  using P = PCPVTParams;
  return Schema<P>("")
      .optional("in_channels", &P::in_channels, "bands of the image", at_least(1))
      .optional("embed_dims", &P::embed_dims, "width of each stage", at_least(1))
      .optional("patch_sizes", &P::patch_sizes, "kernel of each stage's patch embedding",
                at_least(1))
      .optional("strides", &P::strides, "stride of each stage's patch embedding", at_least(1))
      .optional("num_heads", &P::num_heads, "attention heads of each stage", at_least(1))
      .optional("mlp_ratios", &P::mlp_ratios,
                "width of each stage's feed-forward blocks over that of tokens", at_least(1))
      .optional("out_indices", &P::out_indices, "stages whose maps are returned", at_least(0))
      .optional("qkv_bias", &P::qkv_bias, "biases of query, key and value")
      .optional("drop_rate", &P::drop_rate, "dropout after embeddings and projections",
                in_range(0, 1))
      .optional("attn_drop_rate", &P::attn_drop_rate, "dropout of attention weights",
                in_range(0, 1))
      .optional("drop_path_rate", &P::drop_path_rate,
                "stochastic depth of the last block; rises from 0", in_range(0, 1))
      .optional("norm_cfg", &P::norm_cfg, "norms outside blocks")
      .optional("depths", &P::depths, "blocks of each stage", at_least(1))
      .optional("sr_ratios", &P::sr_ratios, "reduction of keys and values in each stage",
                at_least(1))
      .optional("norm_after_stage", &P::norm_after_stage, "a norm after each stage")
      .optional("pretrained", &P::pretrained, "checkpoint; older form of init_cfg")
      .optional("init_cfg", &P::init_cfg, "initialisation; null: as the authors'")
      .validate([](const P& p, Problems& problems) {
        const size_t stages = p.depths.size();
        const auto wrong = [&](const char* name, size_t entries) {
          problems.error(name, text("has ", entries, " entries for ", stages, " stages"));
        };
        const auto check = [&](const char* name, const std::vector<int64_t>& list) {
          if (list.size() < stages) wrong(name, list.size());
        };
        if (stages == 0) problems.error("depths", "must have a value for each stage");
        if (p.embed_dims.size() != stages) wrong("embed_dims", p.embed_dims.size());
        check("patch_sizes", p.patch_sizes);
        check("strides", p.strides);
        check("num_heads", p.num_heads);
        check("mlp_ratios", p.mlp_ratios);
        check("sr_ratios", p.sr_ratios);
        for (const int64_t i : p.out_indices) {
          if (i >= static_cast<int64_t>(stages)) {
            problems.error("out_indices", text("there is no stage ", i, " among ", stages));
          }
        }
        for (size_t i = 0; i < std::min(p.embed_dims.size(), p.num_heads.size()); ++i) {
          if (p.embed_dims[i] % p.num_heads[i] == 0) continue;
          problems.error("num_heads", text("stage ", i, ": ", p.num_heads[i],
                                           " does not divide its width ", p.embed_dims[i]));
        }
      });
}

/// A pyramid of transformer stages whose attention is to a reduced map, and whose positions a
/// convolution encodes.
///
/// Twins, Chu et al. 2021, arXiv:2104.13840.
class PCPVT : public Backbone {
 public:
  using Params = PCPVTParams;
  static Schema<Params> schema() {
    return Schema<Params>("Twins-PCPVT: transformer stages with attention to a reduced map.")
        .source("Twins, Chu et al. 2021, arXiv:2104.13840")
        .include(PCPVTParams::schema());
  }
  explicit PCPVT(const Params& p) : PCPVT(p, {}, "PCPVT") {}

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out;
    torch::Tensor x = images;
    for (size_t i = 0; i < params_.depths.size(); ++i) {
      auto [tokens, size] = (*patch_embeds_)[i].forward(x);
      if (reduces_[i]) check_reducible(name_, map_size(images), i, size, params_.sr_ratios[i]);
      tokens = (*drops_)[i].forward(tokens);
      auto& blocks = (*layers_)[i];
      for (size_t k = 0; k < blocks.size(); ++k) {
        tokens = forward_block(blocks[k], tokens, size);
        if (k == 0) tokens = (*positions_)[i].forward(tokens, size);
      }
      if (norms_) tokens = (*norms_)[i].forward(tokens);
      x = nlc_to_nchw(tokens, size).contiguous();
      if (gives_stage(params_.out_indices, i)) out.push_back(x);
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  LayerOrder layer_order() const override {
    std::vector<StageNames> stages;
    for (size_t i = 0; i < params_.depths.size(); ++i) {
      stages.push_back(
          {.embedding = {text("patch_embeds.", i, "."), text("position_encodings.", i, ".")},
           .blocks = text("layers.", i, "."),
           .num_blocks = params_.depths[i],
           .after = {text("norm_list.", i, ".")}});
    }
    return LayerOrder(std::move(stages));
  }

  void init_weights() override {
    if (init_cfg_) return Backbone::init_weights();
    efficient_transformer_init(*this);
  }

 protected:
  /// Side of the windows of a block, 0 for attention to the whole map.
  using WindowOf = std::function<int64_t(size_t stage, int64_t block)>;
  PCPVT(const Params& p, const WindowOf& window_of, const char* name)
      : Backbone(with_pretrained(p.init_cfg, p.pretrained)), params_(p), name_(name) {
    patch_embeds_ = register_module("patch_embeds", std::make_shared<ListOf<PatchEmbed>>());
    drops_ = register_module("position_encoding_drops", std::make_shared<ListOf<Dropout>>());
    layers_ = register_module("layers", std::make_shared<ListOf<ListOf<TwinsBlock>>>());
    positions_ = register_module("position_encodings",
                                 std::make_shared<ListOf<ConditionalPositionEncoding>>());
    if (p.norm_after_stage) {
      norms_ = register_module("norm_list", std::make_shared<ListOf<Norm>>());
    }
    int64_t total = 0;
    for (const int64_t depth : p.depths) total += depth;
    const auto rates = drop_path_rates(p.drop_path_rate, total);
    size_t block = 0;
    int64_t in_channels = p.in_channels, stride = 1;
    for (size_t i = 0; i < p.depths.size(); ++i) {
      const int64_t dims = p.embed_dims[i];
      patch_embeds_->push_back(
          std::make_shared<PatchEmbed>(PatchEmbedOptions{.in_channels = in_channels,
                                                         .embed_dims = dims,
                                                         .kernel_size = p.patch_sizes[i],
                                                         .stride = p.strides[i],
                                                         .norm_cfg = p.norm_cfg}));
      drops_->push_back(std::make_shared<Dropout>(p.drop_rate));
      auto blocks = layers_->push_back(std::make_shared<ListOf<TwinsBlock>>());
      bool reduces = false;
      for (int64_t k = 0; k < p.depths[i]; ++k) {
        const int64_t window = window_of ? window_of(i, k) : 0;
        blocks->push_back(std::make_shared<TwinsBlock>(p, i, rates[block++], window));
        reduces = reduces || window == 0;
      }
      reduces_.push_back(reduces);
      positions_->push_back(std::make_shared<ConditionalPositionEncoding>(dims));
      if (norms_) norms_->push_back(p.norm_cfg.build(dims));
      in_channels = dims;
      stride *= p.strides[i];
      if (gives_stage(p.out_indices, i)) features_.push_back({dims, stride});
    }
  }

 private:
  Params params_;
  const char* name_;
  std::shared_ptr<ListOf<PatchEmbed>> patch_embeds_;
  std::shared_ptr<ListOf<Dropout>> drops_;
  std::shared_ptr<ListOf<ListOf<TwinsBlock>>> layers_;
  std::shared_ptr<ListOf<ConditionalPositionEncoding>> positions_;
  std::shared_ptr<ListOf<Norm>> norms_;  ///< null without norm_after_stage
  std::vector<bool> reduces_;            ///< whether a stage has attention to a reduced map
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, PCPVT);

/// Twins-PCPVT every other block of which, from the first on, attends inside windows.
class SVT final : public PCPVT {
 public:
  using Params = SVTParams;
  static Schema<Params> schema() {
    return Schema<Params>("Twins-SVT: attention inside windows and to a reduced map in turn.")
        .source("Twins, Chu et al. 2021, arXiv:2104.13840")
        .include(PCPVTParams::schema())
        .optional("windiow_sizes", &Params::windiow_sizes,
                  "side of the windows of each stage, in tokens; spelt as in MMSegmentation",
                  at_least(1))
        .validate([](const Params& p, Problems& problems) {
          if (p.windiow_sizes.size() >= p.depths.size()) return;
          problems.error("windiow_sizes", text("has ", p.windiow_sizes.size(), " entries for ",
                                               p.depths.size(), " stages"));
        });
  }
  explicit SVT(const Params& p)
      : PCPVT(
            p,
            [&p](size_t stage, int64_t block) {
              return block % 2 == 0 ? p.windiow_sizes[stage] : int64_t{0};
            },
            "SVT") {}
};

SEG_REGISTER(Backbone, SVT);

}  // namespace seg
