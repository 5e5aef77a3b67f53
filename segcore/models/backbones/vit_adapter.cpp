#include <cmath>
#include <utility>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/spatial_prior.hpp"
#include "segcore/models/backbones/vit_adapter_interaction.hpp"
#include "segcore/models/backbones/vit_adapter_params.hpp"
#include "segcore/models/blocks/beit_attention.hpp"
#include "segcore/models/blocks/mlp.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/position_embedding.hpp"
#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/blocks/whole_squares.hpp"
#include "segcore/models/blocks/windows.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ViTAdapterParams : AdapterParams {
  bool qkv_bias = true, layer_scale = true, use_extra_extractor = true;
  std::variant<bool, std::vector<bool>> window_attn = false;
  std::variant<int64_t, std::vector<std::optional<int64_t>>> window_size = int64_t{14};

  /// Side of the windows of a block, in patches; 0: it attends to the whole image.
  int64_t window_of(int64_t block) const {
    const auto i = static_cast<size_t>(block);
    const auto* all = std::get_if<bool>(&window_attn);
    if (!(all ? *all : std::get<std::vector<bool>>(window_attn).at(i))) return 0;
    const auto* side = std::get_if<int64_t>(&window_size);
    return side ? *side
                : std::get<std::vector<std::optional<int64_t>>>(window_size).at(i).value_or(14);
  }
};

struct BEiTAdapterParams : AdapterParams {
  BEiTAdapterParams() { img_size = 512; }
  bool qkv_bias = false, use_abs_pos_emb = false;
};

namespace {

/// A block of a plain transformer.
class AdapterBlock : public BaseModule {
 public:
  /// x [N, L, C]; the patches of a map of this size come last.
  virtual torch::Tensor forward(const torch::Tensor& x, Size2 size) = 0;
};

/// Attention over the image or inside windows, padded with nothing that is masked: children `qkv`,
/// `proj`.
class AdapterAttention final : public BaseModule, public DropsValues {
 public:
  AdapterAttention(const ViTAdapterParams& p, int64_t window)
      : heads_(p.num_heads), window_(window), attn_drop_(p.attn_drop_rate) {
    qkv_ =
        register_module("qkv", std::make_shared<Linear>(p.embed_dim, 3 * p.embed_dim, p.qkv_bias));
    proj_ = register_module("proj", std::make_shared<Linear>(p.embed_dim, p.embed_dim));
    drop_ = register_module("proj_drop", std::make_shared<Dropout>(p.drop_rate));
  }
  torch::Tensor forward(const torch::Tensor& x, Size2 size) {
    const int64_t n = x.size(0), c = x.size(2);
    auto qkv = qkv_->forward(x);  // [N, h * w, 3 C]
    Size2 padded = size;
    if (window_ > 0) {
      const auto missing = [&](int64_t side) { return (window_ - side % window_) % window_; };
      padded = {size.h + missing(size.h), size.w + missing(size.w)};
      const auto map = at::constant_pad_nd(qkv.view({n, size.h, size.w, 3 * c}),
                                           {0, 0, 0, missing(size.w), 0, missing(size.h)});
      qkv = split_windows(map.contiguous(), window_);
    }
    const int64_t length = qkv.size(1);
    const auto [q, k, v] = split_heads(qkv, heads_);
    auto out = attention(q, k, v, {}, {.dropout = is_training() ? attn_drop_ : 0.0})
                   .transpose(1, 2)
                   .reshape({-1, length, c});
    if (window_ > 0) {
      out = join_windows(out, window_, padded.h, padded.w)
                .narrow(1, 0, size.h)
                .narrow(2, 0, size.w)
                .reshape({n, size.h * size.w, c});
    }
    return drop_->forward(proj_->forward(out));
  }
  void set_drop_probability(double p) override { attn_drop_ = p; }

 private:
  int64_t heads_, window_;
  double attn_drop_;
  std::shared_ptr<Linear> qkv_, proj_;
  std::shared_ptr<Dropout> drop_;
};

/// Parts that the blocks of both have: children `norm1`, `attn`, `norm2`, `mlp`.
template <class Attention>
class ScaledBlock final : public AdapterBlock {
 public:
  /// \param scales  names and first value of the scales by channel; no names: none.
  ScaledBlock(const AdapterParams& p, std::shared_ptr<Attention> attention,
              const std::vector<std::string>& scales, double scale, double drop_path)
      : with_cp_(p.with_cp) {
    for (const auto& name : scales) {
      scales_.push_back(register_parameter(name, torch::full({p.embed_dim}, scale)));
    }
    norm1_ = register_module("norm1", adapter_norm(p.embed_dim));
    attn_ = register_module("attn", std::move(attention));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
    norm2_ = register_module("norm2", adapter_norm(p.embed_dim));
    const auto hidden = static_cast<int64_t>(static_cast<double>(p.embed_dim) * p.mlp_ratio);
    mlp_ = register_module("mlp", std::make_shared<Mlp>(MlpOptions{
                                      .dims = p.embed_dim, .hidden = hidden, .drop = p.drop_rate}));
  }
  torch::Tensor forward(const torch::Tensor& tokens, Size2 size) override {
    const auto block = [this, size](const torch::Tensor& x) {
      const auto y = x + drop_path_->forward(scaled(attend(norm1_->forward(x), size), 0));
      return y + drop_path_->forward(scaled(mlp_->forward(norm2_->forward(y)), 1));
    };
    return run_block(with_cp_, block, tokens);
  }

 private:
  torch::Tensor attend(const torch::Tensor& x, Size2 size) {
    if constexpr (std::is_same_v<Attention, BEiTAttention>) {
      return attn_->forward(x);
    } else {
      return attn_->forward(x, size);
    }
  }
  torch::Tensor scaled(const torch::Tensor& x, size_t which) const {
    return scales_.empty() ? x : scales_[which] * x;
  }

  bool with_cp_;
  std::vector<torch::Tensor> scales_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Attention> attn_;
  std::shared_ptr<DropPath> drop_path_;
  std::shared_ptr<Mlp> mlp_;
};

}  // namespace

/// A plain transformer, and convolutions that learn from its patches and give it theirs.
///
/// ViT-Adapter, Chen et al. 2022, arXiv:2205.08534, with the names of its repository.
class AdapterBase : public Backbone, public AdaptsPretrained {
 public:
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    constexpr int64_t kCoarsest = 32;
    const Size2 coarsest = whole_squares(images, kCoarsest, "this " + python_names().front());
    const Size2 size{2 * coarsest.h, 2 * coarsest.w};
    const auto prior = spm_->forward(images);
    Pyramid pyramid;
    std::vector<torch::Tensor> levels;
    for (size_t i = 1; i < 4; ++i) {
      levels.push_back(nchw_to_nlc(prior[i]) + level_embed_[static_cast<int64_t>(i) - 1]);
      pyramid.sizes.push_back(map_size(prior[i]));
    }
    pyramid.tokens = at::cat(levels, 1);
    auto x = pos_drop_->forward(with_positions(nchw_to_nlc(patches_->forward(images)), size));
    auto cls = cls_token_.defined() ? cls_token_.expand({x.size(0), -1, -1}) : torch::Tensor();
    std::vector<torch::Tensor> seen;  // the patches after each interaction
    for (size_t i = 0; i < interactions_->size(); ++i) {
      const auto& span = p_.interaction_indexes[i];
      x = (*interactions_)[i].injector->forward({x, {size}}, pyramid);
      if (cls.defined()) x = at::cat({cls, x}, 1);
      for (int64_t k = span.front(); k <= span.back(); ++k) {
        x = (*blocks_)[static_cast<size_t>(k)].forward(x, size);
      }
      if (cls.defined()) {
        cls = x.narrow(1, 0, 1);
        x = x.narrow(1, 1, x.size(1) - 1);
      }
      for (const auto& extractor : (*interactions_)[i].extractors) {
        pyramid = extractor->forward(pyramid, {x, {size}});
      }
      seen.push_back(nlc_to_nchw(x, size).contiguous());
    }
    return maps(prior[0], pyramid, seen);
  }

  std::vector<FeatureInfo> features() const override {
    return {{p_.embed_dim, 4}, {p_.embed_dim, 8}, {p_.embed_dim, 16}, {p_.embed_dim, 32}};
  }

  LayerOrder layer_order() const override {
    return LayerOrder({StageNames{.embedding = {"cls_token", "pos_embed", "patch_embed."},
                                  .blocks = "blocks.",
                                  .num_blocks = p_.depth}});
  }

  void init_weights() override {
    if (init_cfg_ && pretrained_rules().empty()) {
      Backbone::init_weights();
      return;
    }
    for_each_module(*this, [](torch::nn::Module& m) {
      if (dynamic_cast<Linear*>(&m)) {
        trunc_normal_init(m, 0, 0.02);
      } else if (auto* conv = dynamic_cast<Conv2d*>(&m)) {
        group_fan_out_init(*conv);
      } else if (dynamic_cast<ConvTranspose2d*>(&m)) {
        // By the fan out: the weight's second dimension are the channels of the output.
        kaiming_init(m, {.fan_out = false});
      }
    });
    for_each_module(*this, [](torch::nn::Module& m) {
      if (auto* attention = dynamic_cast<MultiScaleDeformableAttention*>(&m)) {
        attention->init_weights();
      }
    });
    const torch::NoGradGuard no_grad;
    patches_->reset_parameters();
    level_embed_.normal_();
    if (cls_token_.defined()) trunc_normal_(cls_token_, 0, 0.02);
  }

  /// Tables of relative positions and absolute positions fit other images.
  void adapt_pretrained(Value& state) const override {
    for (const auto& item : named_parameters()) {
      const Value* found = state.find(item.key());
      if (!found || !found->is_tensor()) continue;
      torch::Tensor fitted;
      if (item.key().ends_with("relative_position_bias_table")) {
        fitted = beit_resized_table(found->as_tensor(), item.value(), p_.grid(p_.img_size));
      } else if (item.key() == "pos_embed") {
        fitted = fitted_position_embedding(found->as_tensor(), item.value(), p_.grid(p_.img_size),
                                           "bicubic");
      }
      if (fitted.defined()) state.set(item.key(), fitted);
    }
    for (const auto& item : named_buffers()) {
      const bool index = item.key().ends_with("relative_position_index");
      if (index && state.find(item.key())) state.set(item.key(), item.value());
    }
  }

 protected:
  explicit AdapterBase(const AdapterParams& p)
      : Backbone(with_pretrained(p.init_cfg, p.pretrained)), p_(p) {}
  /// Registered first, in Python's order.
  void add_cls_token() {
    cls_token_ = register_parameter("cls_token", torch::zeros({1, 1, p_.embed_dim}));
  }
  void add_positions() {
    const Size2 grid = p_.grid(p_.img_size);
    pos_embed_ =
        register_parameter("pos_embed", torch::zeros({1, 1 + grid.h * grid.w, p_.embed_dim}));
  }
  /// Registers the rest.
  /// \param extra  further extractors of the last interaction.
  void add_parts(const std::vector<std::shared_ptr<AdapterBlock>>& blocks, int64_t extra) {
    level_embed_ = register_parameter("level_embed", torch::zeros({3, p_.embed_dim}));
    patches_ = std::make_shared<Conv2d>(ConvOptions{.in_channels = p_.in_chans,
                                                    .out_channels = p_.embed_dim,
                                                    .kernel_size = p_.patch_size,
                                                    .stride = p_.patch_size});
    auto patch_embed = std::make_shared<Sequential>();
    patch_embed->push_back("proj", patches_);
    register_module("patch_embed", patch_embed);
    pos_drop_ = register_module("pos_drop", std::make_shared<Dropout>(p_.drop_rate));
    blocks_ = register_module("blocks", std::make_shared<ListOf<AdapterBlock>>());
    for (const auto& block : blocks) blocks_->push_back(block);
    spm_ = register_module("spm", std::make_shared<SpatialPrior>(p_));
    interactions_ = register_module("interactions", std::make_shared<ListOf<Interaction>>());
    for (size_t i = 0; i < p_.interaction_indexes.size(); ++i) {
      const bool last = i + 1 == p_.interaction_indexes.size();
      interactions_->push_back(std::make_shared<Interaction>(p_, last ? extra : 0));
    }
    up_ = register_module("up", std::make_shared<ConvTranspose2d>(p_.embed_dim, p_.embed_dim,
                                                                  /*kernel_size=*/2, /*stride=*/2,
                                                                  /*padding=*/0));
    for (int64_t i = 1; i <= 4; ++i) {
      norms_.push_back(
          register_module(text("norm", i), Spec<Norm>::of("{type: SyncBN}").build(p_.embed_dim)));
    }
  }
  const AdapterParams& params() const { return p_; }

 private:
  torch::Tensor with_positions(const torch::Tensor& x, Size2 size) const {
    if (!pos_embed_.defined()) return x;
    const auto patches = pos_embed_.narrow(1, 1, pos_embed_.size(1) - 1);
    return x + resized_grid(patches, p_.grid(p_.pretrain_size), size, "bicubic");
  }

  std::vector<torch::Tensor> maps(const torch::Tensor& finest, const Pyramid& pyramid,
                                  const std::vector<torch::Tensor>& seen) {
    std::vector<torch::Tensor> out{finest};
    int64_t first = 0;
    for (const Size2& size : pyramid.sizes) {
      const auto tokens = pyramid.tokens.narrow(1, first, size.h * size.w);
      out.push_back(nlc_to_nchw(tokens, size).contiguous());
      first += size.h * size.w;
    }
    out[0] = up_->forward(out[1]) + out[0];
    for (size_t i = 0; i < out.size(); ++i) {
      if (p_.add_vit_feature) out[i] = out[i] + resize(seen[i], map_size(out[i]));
      out[i] = norms_[i]->forward(out[i]);
    }
    return out;
  }

  AdapterParams p_;
  torch::Tensor cls_token_, pos_embed_;  ///< may be undefined
  torch::Tensor level_embed_;
  std::shared_ptr<Conv2d> patches_;
  std::shared_ptr<Dropout> pos_drop_;
  std::shared_ptr<ListOf<AdapterBlock>> blocks_;
  std::shared_ptr<SpatialPrior> spm_;
  std::shared_ptr<ListOf<Interaction>> interactions_;
  std::shared_ptr<ConvTranspose2d> up_;
  std::vector<std::shared_ptr<Norm>> norms_;
};

/// The adapter of ViT and DeiT.
class ViTAdapter final : public AdapterBase {
 public:
  using Params = ViTAdapterParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("A plain transformer beside convolutions, with maps of strides 4 to 32.")
        .source("ViT-Adapter, Chen et al. 2022, arXiv:2205.08534")
        .include(AdapterParams::schema())
        .optional("qkv_bias", &P::qkv_bias, "biases of query, key and value")
        .optional("layer_scale", &P::layer_scale, "scale what blocks add, by channel")
        .optional("use_extra_extractor", &P::use_extra_extractor,
                  "two more extractors in the last interaction")
        .optional("window_attn", &P::window_attn, "blocks attend inside windows: all, or each")
        .optional("window_size", &P::window_size, "side of the windows, in patches; of all or each")
        .validate([](const P& p, Problems& problems) {
          const auto check = [&](const char* name, size_t entries) {
            if (static_cast<int64_t>(entries) == p.depth) return;
            problems.error(name, text("has ", entries, " entries for ", p.depth, " blocks"));
          };
          const auto* windows = std::get_if<std::vector<bool>>(&p.window_attn);
          if (windows) check("window_attn", windows->size());
          const auto* sides = std::get_if<std::vector<std::optional<int64_t>>>(&p.window_size);
          if (sides) check("window_size", sides->size());
        });
  }
  explicit ViTAdapter(const Params& p) : AdapterBase(p) {
    add_positions();
    std::vector<std::shared_ptr<AdapterBlock>> blocks;
    const auto rates = drop_path_rates(p.drop_path_rate, p.depth);
    const std::vector<std::string> scales{"gamma1", "gamma2"};
    for (int64_t i = 0; i < p.depth; ++i) {
      blocks.push_back(std::make_shared<ScaledBlock<AdapterAttention>>(
          p, std::make_shared<AdapterAttention>(p, p.window_of(i)),
          p.layer_scale ? scales : std::vector<std::string>(), 1, rates[static_cast<size_t>(i)]));
    }
    add_parts(blocks, p.use_extra_extractor ? 2 : 0);
  }
  std::vector<std::string> python_names() const override { return {"ViTAdapter"}; }
};

SEG_REGISTER(Backbone, ViTAdapter);

/// The adapter of BEiT.
class BEiTAdapter final : public AdapterBase {
 public:
  using Params = BEiTAdapterParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("BEiT beside convolutions, with maps of strides 4 to 32.")
        .source("ViT-Adapter, Chen et al. 2022, arXiv:2205.08534")
        .include(AdapterParams::schema())
        .optional("qkv_bias", &P::qkv_bias, "biases of query and value")
        .optional("use_abs_pos_emb", &P::use_abs_pos_emb, "add absolute position embeddings")
        .accepted("use_rel_pos_bias", "attention always learns a bias for each relative position")
        .accepted("use_shared_rel_pos_bias", "each block has biases of its own");
  }
  explicit BEiTAdapter(const Params& p) : AdapterBase(p) {
    add_cls_token();
    if (p.use_abs_pos_emb) add_positions();
    std::vector<std::shared_ptr<AdapterBlock>> blocks;
    const auto bias = p.qkv_bias ? BEiTAttention::Bias::kQueryValue : BEiTAttention::Bias::kNone;
    for (const double rate : drop_path_rates(p.drop_path_rate, p.depth)) {
      auto attention =
          std::make_shared<BEiTAttention>(BEiTAttentionOptions{.dims = p.embed_dim,
                                                               .heads = p.num_heads,
                                                               .grid = p.grid(p.img_size),
                                                               .bias = bias,
                                                               .attn_drop = p.attn_drop_rate});
      blocks.push_back(std::make_shared<ScaledBlock<BEiTAttention>>(
          p, attention, std::vector<std::string>{"gamma_1", "gamma_2"}, p.init_values, rate));
    }
    add_parts(blocks, /*extra=*/2);
  }
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const Size2 size = map_size(images), built = params().img_size;
    if (params().grid(size) != params().grid(built)) {
      throw DataError(text("images of ", size.h, "x", size.w,
                           " do not fit this BEiTAdapter, which "
                           "was built for ",
                           built.h, "x", built.w,
                           ". Train on crops of that size and predict by a sliding window, "
                           "test_cfg: {mode: slide, crop_size: [",
                           built.h, ", ", built.w,
                           "], stride: ...}, or set img_size of the "
                           "backbone"));
    }
    return AdapterBase::forward(images);
  }
  std::vector<std::string> python_names() const override { return {"BEiTAdapter"}; }
};

SEG_REGISTER(Backbone, BEiTAdapter);

}  // namespace seg
