#include <algorithm>
#include <utility>

#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/mlp.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/window_attention.hpp"
#include "segcore/models/blocks/windows.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct SeMaskSwinTransformerParams {
  Size2 pretrain_img_size = 224;
  int64_t patch_size = 4, in_chans = 3, embed_dim = 96;
  int64_t num_cls = 150, sem_window_size = 7;
  std::vector<int64_t> num_sem_blocks{1, 1, 1, 1};
  std::vector<int64_t> depths{2, 2, 6, 2}, num_heads{3, 6, 12, 24};
  int64_t window_size = 7;
  double mlp_ratio = 4;
  bool qkv_bias = true;
  std::optional<double> qk_scale;
  double drop_rate = 0, attn_drop_rate = 0, drop_path_rate = 0.2;
  bool ape = false, patch_norm = true;
  std::vector<int64_t> out_indices{0, 1, 2, 3};
  int64_t frozen_stages = -1;
  bool use_checkpoint = false;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;

  /// Whether tokens of a stage find those of their class in their window alone; else in the map.
  bool windowed(size_t stage) const {
    const bool known_width = embed_dim == 96 || embed_dim == 192;
    return !known_width || num_cls <= 19 || stage < 2;
  }
};

namespace {

std::shared_ptr<Norm> semask_norm(int64_t dims) { return Spec<Norm>::of("{type: LN}").build(dims); }

/// Window attention and a feed-forward layer, each after a norm: children `norm1`, `attn`,
/// `norm2`, `mlp`.
class SeMaskSwinBlock final : public BaseModule {
 public:
  SeMaskSwinBlock(const SeMaskSwinTransformerParams& p, int64_t dims, int64_t heads, bool shift,
                  double drop_path)
      : with_cp_(p.use_checkpoint), windows_(p.window_size, shift) {
    norm1_ = register_module("norm1", semask_norm(dims));
    attn_ = register_module("attn", std::make_shared<WindowAttention>(
                                        WindowAttentionOptions{.dims = dims,
                                                               .heads = heads,
                                                               .side = p.window_size,
                                                               .qkv_bias = p.qkv_bias,
                                                               .scale = p.qk_scale,
                                                               .attn_drop = p.attn_drop_rate,
                                                               .proj_drop = p.drop_rate}));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
    norm2_ = register_module("norm2", semask_norm(dims));
    const auto hidden = static_cast<int64_t>(static_cast<double>(dims) * p.mlp_ratio);
    mlp_ = register_module("mlp", std::make_shared<Mlp>(MlpOptions{
                                      .dims = dims, .hidden = hidden, .drop = p.drop_rate}));
  }
  torch::Tensor forward(const torch::Tensor& tokens, Size2 size) {
    const auto block = [this, size](const torch::Tensor& x) {
      const auto y = x + drop_path_->forward(windows_.forward(norm1_->forward(x), size, *attn_));
      return y + drop_path_->forward(mlp_->forward(norm2_->forward(y)));
    };
    return run_block(with_cp_, block, tokens);
  }

 private:
  bool with_cp_;
  ShiftedWindows windows_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<WindowAttention> attn_;
  std::shared_ptr<DropPath> drop_path_;
  std::shared_ptr<Mlp> mlp_;
};

/// Tokens, and the scores of the classes at each.
struct ScoredTokens {
  torch::Tensor scores, tokens;
};

/// Attention between tokens that seem to be of one class: parameter `gamma`, children `mlp_cls_q`,
/// `mlp_cls_k`, `mlp_v`, `mlp_res`.
class SemanticAttention final : public BaseModule {
 public:
  SemanticAttention(int64_t dims, int64_t classes) {
    gamma_ = register_parameter("gamma", torch::zeros({1}));
    const auto layer = [&](const char* name, int64_t out) {
      return register_module(name, std::make_shared<Linear>(dims, out));
    };
    query_ = layer("mlp_cls_q", classes);
    key_ = layer("mlp_cls_k", classes);
    value_ = layer("mlp_v", dims);
    out_ = layer("mlp_res", dims);
    drop_ = register_module("proj_drop", std::make_shared<Dropout>(0.1));
  }
  /// x [N, L, C]
  ScoredTokens forward(const torch::Tensor& x) {
    const auto scores = query_->forward(x);
    const auto weights = at::bmm(scores, key_->forward(x).transpose(1, 2)).softmax(-1);
    const auto joined = out_->forward(at::bmm(weights, value_->forward(x)));
    return {scores, gamma_ * drop_->forward(joined) + x};
  }

 private:
  torch::Tensor gamma_;
  std::shared_ptr<Linear> query_, key_, value_, out_;
  std::shared_ptr<Dropout> drop_;
};

/// Semantic attention behind a norm, inside windows or over the map: children `norm1`,
/// `class_injection`.
class SemanticLayer final : public BaseModule {
 public:
  /// \param side  of the windows; 0: over the map.
  SemanticLayer(int64_t dims, int64_t classes, int64_t blocks, int64_t side) : side_(side) {
    norm1_ = register_module("norm1", semask_norm(dims));
    blocks_ = register_module("class_injection", std::make_shared<ListOf<SemanticAttention>>());
    for (int64_t i = 0; i < blocks; ++i) {
      blocks_->push_back(std::make_shared<SemanticAttention>(dims, classes));
    }
  }
  ScoredTokens forward(const torch::Tensor& x, Size2 size) {
    const auto normed = norm1_->forward(x);
    if (side_ == 0) return through_blocks(normed);
    const int64_t n = x.size(0);
    const int64_t right = (side_ - size.w % side_) % side_;
    const int64_t bottom = (side_ - size.h % side_) % side_;
    const auto map = at::constant_pad_nd(normed.view({n, size.h, size.w, x.size(2)}),
                                         {0, 0, 0, right, 0, bottom});
    const auto out = through_blocks(split_windows(map.contiguous(), side_));
    const auto joined = [&](const torch::Tensor& windows) {
      return join_windows(windows, side_, size.h + bottom, size.w + right)
          .narrow(1, 0, size.h)
          .narrow(2, 0, size.w)
          .reshape({n, size.h * size.w, windows.size(2)});
    };
    return {joined(out.scores), joined(out.tokens)};
  }

 private:
  ScoredTokens through_blocks(const torch::Tensor& x) {
    ScoredTokens out{.scores = {}, .tokens = x};
    for (const auto& block : *blocks_) out = block->forward(out.tokens);
    return out;
  }

  int64_t side_;
  std::shared_ptr<Norm> norm1_;
  std::shared_ptr<ListOf<SemanticAttention>> blocks_;
};

/// Joins four neighbours to one token: children `reduction`, `norm`.
class SeMaskMerging final : public BaseModule {
 public:
  explicit SeMaskMerging(int64_t dims) {
    reduction_ =
        register_module("reduction", std::make_shared<Linear>(4 * dims, 2 * dims, /*bias=*/false));
    norm_ = register_module("norm", semask_norm(4 * dims));
  }
  torch::Tensor forward(const torch::Tensor& x, Size2 size) {
    const int64_t n = x.size(0), c = x.size(2), right = size.w % 2, bottom = size.h % 2;
    const auto map =
        at::constant_pad_nd(x.view({n, size.h, size.w, c}), {0, 0, 0, right, 0, bottom});
    const auto fours = map.view({n, (size.h + bottom) / 2, 2, (size.w + right) / 2, 2, c})
                           .permute({0, 1, 3, 4, 2, 5})  // down first, then right
                           .reshape({n, -1, 4 * c});
    return reduction_->forward(norm_->forward(fours));
  }

 private:
  std::shared_ptr<Linear> reduction_;
  std::shared_ptr<Norm> norm_;
};

}  // namespace

/// A Swin Transformer each of whose stages ends in attention among tokens of one class.
///
/// SeMask, Jain et al. 2021, arXiv:2112.12782, with the names of its repository. Behind the maps it
/// gives the scores of the classes that each stage finds.
class SeMaskSwinTransformer final : public Backbone, public AdaptsPretrained {
 public:
  using Params = SeMaskSwinTransformerParams;
  static Schema<Params> schema();

  explicit SeMaskSwinTransformer(const Params& p)
      : Backbone(with_pretrained(p.init_cfg, p.pretrained)), p_(p) {
    patch_embed_ = std::make_shared<Sequential>();
    patches_ = std::make_shared<Conv2d>(ConvOptions{.in_channels = p.in_chans,
                                                    .out_channels = p.embed_dim,
                                                    .kernel_size = p.patch_size,
                                                    .stride = p.patch_size});
    patch_embed_->push_back("proj", patches_);
    if (p.patch_norm) {
      patch_norm_ = semask_norm(p.embed_dim);
      patch_embed_->push_back("norm", patch_norm_);
    }
    register_module("patch_embed", patch_embed_);
    if (p.ape) {
      const Size2 image = p.pretrain_img_size;
      positions_ = register_parameter(
          "absolute_pos_embed",
          torch::zeros({1, p.embed_dim, image.h / p.patch_size, image.w / p.patch_size}));
    }
    pos_drop_ = register_module("pos_drop", std::make_shared<Dropout>(p.drop_rate));
    add_stages();
    freeze();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const AdaptivePadding padding{.kernel_size = p_.patch_size, .stride = p_.patch_size};
    const auto map = patches_->forward(padding(images));
    Size2 size = map_size(map);
    auto x = nchw_to_nlc(map);
    if (patch_norm_) x = patch_norm_->forward(x);
    if (positions_.defined()) {
      x = x + nchw_to_nlc(resize(positions_, size, /*align_corners=*/false, "bicubic"));
    }
    x = pos_drop_->forward(x);
    std::vector<torch::Tensor> out, scores;
    for (size_t i = 0; i < stages_.size(); ++i) {
      for (const auto& block : *stages_[i].blocks) x = block->forward(x, size);
      const auto scored = stages_[i].semantic->forward(x, size);
      if (norms_[i]) {
        out.push_back(nlc_to_nchw(norms_[i]->forward(scored.tokens), size).contiguous());
        scores.push_back(nlc_to_nchw(scored.scores, size).contiguous());
      }
      x = scored.tokens;
      if (!stages_[i].downsample) continue;
      x = stages_[i].downsample->forward(x, size);
      size = {(size.h + 1) / 2, (size.w + 1) / 2};
    }
    out.insert(out.end(), scores.begin(), scores.end());
    return out;
  }

  std::vector<FeatureInfo> features() const override {
    std::vector<FeatureInfo> out, scores;
    for (size_t i = 0; i < stages_.size(); ++i) {
      if (!norms_[i]) continue;
      const int64_t stride = p_.patch_size << i;
      out.push_back({p_.embed_dim << i, stride});
      scores.push_back({p_.num_cls, stride});
    }
    out.insert(out.end(), scores.begin(), scores.end());
    return out;
  }

  LayerOrder layer_order() const override {
    std::vector<StageNames> stages;
    for (size_t i = 0; i < stages_.size(); ++i) {
      stages.push_back(
          {.blocks = text("layers.", i, ".blocks."),
           .num_blocks = p_.depths[i],
           .after = {text("layers.", i, ".semantic_layer."), text("layers.", i, ".downsample.")}});
    }
    if (!stages.empty()) stages[0].embedding = {"absolute_pos_embed", "patch_embed."};
    return LayerOrder(std::move(stages));
  }

  void train(bool on = true) override {
    Backbone::train(on);
    freeze();
  }

  void init_weights() override {
    if (init_cfg_ && pretrained_rules().empty()) {
      Backbone::init_weights();
      return;
    }
    for_each_module(*this, [](torch::nn::Module& m) {
      if (dynamic_cast<Linear*>(&m)) {
        trunc_normal_init(m, 0, 0.02);
      } else if (auto* attention = dynamic_cast<WindowAttention*>(&m)) {
        attention->init_weights();
      }
    });
    if (positions_.defined()) trunc_normal_(positions_, 0, 0.02);
  }

  /// Which place of a table belongs to which pair of tokens depends only on the window.
  void adapt_pretrained(Value& state) const override {
    for (const auto& item : named_buffers()) {
      const bool index = item.key().ends_with("relative_position_index");
      if (index && state.find(item.key())) state.set(item.key(), item.value());
    }
  }

 private:
  struct Stage {
    std::shared_ptr<BaseModule> module;
    std::shared_ptr<ListOf<SeMaskSwinBlock>> blocks;
    std::shared_ptr<SemanticLayer> semantic;
    std::shared_ptr<SeMaskMerging> downsample;  ///< null in the last
  };

  void add_stages() {
    int64_t total = 0;
    for (const int64_t n : p_.depths) total += n;
    const auto rates = drop_path_rates(p_.drop_path_rate, total);
    size_t block = 0;
    auto layers = register_module("layers", std::make_shared<ListOf<BaseModule>>());
    for (size_t i = 0; i < p_.depths.size(); ++i) {
      const int64_t dims = p_.embed_dim << i;
      Stage stage;
      stage.module = layers->push_back(std::make_shared<ListOf<BaseModule>>());
      stage.blocks =
          stage.module->register_module("blocks", std::make_shared<ListOf<SeMaskSwinBlock>>());
      for (int64_t k = 0; k < p_.depths[i]; ++k) {
        stage.blocks->push_back(std::make_shared<SeMaskSwinBlock>(p_, dims, p_.num_heads[i],
                                                                  k % 2 == 1, rates[block++]));
      }
      stage.semantic = stage.module->register_module(
          "semantic_layer",
          std::make_shared<SemanticLayer>(dims, p_.num_cls, p_.num_sem_blocks[i],
                                          p_.windowed(i) ? p_.sem_window_size : 0));
      if (i + 1 < p_.depths.size()) {
        stage.downsample =
            stage.module->register_module("downsample", std::make_shared<SeMaskMerging>(dims));
      }
      stages_.push_back(std::move(stage));
    }
    for (size_t i = 0; i < stages_.size(); ++i) {
      norms_.push_back(nullptr);
      if (!gives_stage(p_.out_indices, i)) continue;
      norms_.back() = register_module(text("norm", i), semask_norm(p_.embed_dim << i));
    }
  }

  /// As in the repository: 0 freezes the patch embedding, 2 the first stage as well.
  void freeze() {
    const auto stop = [](torch::nn::Module& m) {
      m.eval();
      for (auto& parameter : m.parameters()) parameter.set_requires_grad(false);
    };
    if (p_.frozen_stages >= 0) stop(*patch_embed_);
    if (p_.frozen_stages >= 1 && positions_.defined()) positions_.set_requires_grad(false);
    if (p_.frozen_stages >= 2) pos_drop_->eval();
    for (int64_t i = 0; i + 1 < p_.frozen_stages; ++i) {
      stop(*stages_[static_cast<size_t>(i)].module);
    }
  }

  Params p_;
  std::shared_ptr<Sequential> patch_embed_;
  std::shared_ptr<Conv2d> patches_;
  std::shared_ptr<Norm> patch_norm_;  ///< may be null
  torch::Tensor positions_;           ///< undefined without `ape`
  std::shared_ptr<Dropout> pos_drop_;
  std::vector<Stage> stages_;
  std::vector<std::shared_ptr<Norm>> norms_;  ///< null where a stage is not given
};

Schema<SeMaskSwinTransformerParams> SeMaskSwinTransformer::schema() {
  using P = Params;
  return Schema<P>("Swin Transformer whose stages end in attention among tokens of one class.")
      .source("SeMask, Jain et al. 2021, arXiv:2112.12782")
      .optional("pretrain_img_size", &P::pretrain_img_size,
                "image size of absolute position embeddings")
      .optional("patch_size", &P::patch_size, "side of a patch", at_least(1))
      .optional("in_chans", &P::in_chans, "bands of the image", at_least(1))
      .optional("embed_dim", &P::embed_dim, "width of the first stage; doubles with each",
                at_least(1))
      .optional("num_cls", &P::num_cls, "classes that stages find, those of the head", at_least(1))
      .optional("sem_window_size", &P::sem_window_size, "side of windows of semantic attention",
                at_least(1))
      .optional("num_sem_blocks", &P::num_sem_blocks, "semantic attentions of each stage",
                at_least(1))
      .optional("depths", &P::depths, "blocks of each stage", at_least(1))
      .optional("num_heads", &P::num_heads, "attention heads of each stage", at_least(1))
      .optional("window_size", &P::window_size, "side of a window, in tokens", at_least(1))
      .optional("mlp_ratio", &P::mlp_ratio, "width of feed-forward blocks over that of tokens",
                above(0))
      .optional("qkv_bias", &P::qkv_bias, "biases of query, key and value")
      .optional("qk_scale", &P::qk_scale, "factor of scores; null: 1 / sqrt(width of a head)")
      .optional("drop_rate", &P::drop_rate, "dropout after projections", in_range(0, 1))
      .optional("attn_drop_rate", &P::attn_drop_rate, "dropout of attention weights",
                in_range(0, 1))
      .optional("drop_path_rate", &P::drop_path_rate,
                "stochastic depth of the last block; rises from 0", in_range(0, 1))
      .optional("ape", &P::ape, "add absolute position embeddings")
      .optional("patch_norm", &P::patch_norm, "a norm after the patch embedding")
      .optional("out_indices", &P::out_indices, "stages whose maps are returned", at_least(0))
      .optional("frozen_stages", &P::frozen_stages,
                "0: freeze the patch embedding, n: the first n - 1 stages as well; -1: nothing")
      .optional("use_checkpoint", &P::use_checkpoint,
                "recompute blocks in the backward pass to save memory")
      .optional("pretrained", &P::pretrained, "checkpoint; older form of init_cfg")
      .optional("init_cfg", &P::init_cfg, "initialisation; null: as the authors'")
      .validate([](const P& p, Problems& problems) {
        const auto check = [&](const char* name, size_t entries) {
          if (entries == p.depths.size()) return;
          problems.error(name, text("has ", entries, " entries for ", p.depths.size(), " stages"));
        };
        check("num_heads", p.num_heads.size());
        check("num_sem_blocks", p.num_sem_blocks.size());
        for (const int64_t i : p.out_indices) {
          if (i < static_cast<int64_t>(p.depths.size())) continue;
          problems.error("out_indices", text("there is no stage ", i, " among ", p.depths.size()));
        }
        for (size_t i = 0; i < std::min(p.depths.size(), p.num_heads.size()); ++i) {
          if (p.num_heads[i] < 1 || (p.embed_dim << i) % p.num_heads[i] == 0) continue;
          problems.error("num_heads", text("stage ", i, ": ", p.num_heads[i],
                                           " does not divide its width ", p.embed_dim << i));
        }
        if (p.frozen_stages > static_cast<int64_t>(p.depths.size()) + 1) {
          problems.error("frozen_stages", text("there are only ", p.depths.size(), " stages"));
        }
      });
}

SEG_REGISTER(Backbone, SeMaskSwinTransformer);

}  // namespace seg
