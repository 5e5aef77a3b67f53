#include <cmath>
#include <utility>

#include "segcore/models/blocks/mlp.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/resampled_grid.hpp"
#include "segcore/models/blocks/rotary_embedding.hpp"
#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/blocks/whole_squares.hpp"
#include "segcore/models/encoders/block_outputs.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/encoders/vision_transformer_variants.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/ops/linear/linear.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Children `qkv`, `proj`; in DINOv3 parameters `q_bias`, `v_bias`.
class TimmAttention final : public BaseModule {
 public:
  explicit TimmAttention(const VitVariant& v) : heads_(v.heads) {
    if (v.rotary() && v.qkv_bias) {
      q_bias_ = register_parameter("q_bias", torch::zeros({v.dims}));
      v_bias_ = register_parameter("v_bias", torch::zeros({v.dims}));
    }
    qkv_ = register_module("qkv", std::make_shared<Linear>(v.dims, 3 * v.dims, !v.rotary()));
    proj_ = register_module("proj", std::make_shared<Linear>(v.dims, v.dims));
  }
  /// \param x       [N, L, C]
  /// \param rotary  null: no rotation.
  torch::Tensor forward(const torch::Tensor& x, const RotaryEmbedding* rotary) {
    const int64_t n = x.size(0), length = x.size(1), c = x.size(2);
    const auto bias =
        q_bias_.defined() ? at::cat({q_bias_, at::zeros_like(q_bias_), v_bias_}) : qkv_->bias;
    const auto [q, k, v] = split_heads(linear_rows(x, qkv_->weight, bias), heads_);
    const auto turned = [&](const torch::Tensor& t) { return rotary ? rotated(t, *rotary) : t; };
    const auto out = attention(turned(q), turned(k), v);
    return proj_->forward(out.transpose(1, 2).reshape({n, length, c}));
  }
  Linear& proj() { return *proj_; }

 private:
  int64_t heads_;
  torch::Tensor q_bias_, v_bias_;  ///< undefined but in DINOv3 with biases
  std::shared_ptr<Linear> qkv_, proj_;
};

/// Attention and a feed-forward layer, each after a norm and scaled by channel: children `norm1`,
/// `attn`, `ls1`, `norm2`, `mlp`, `ls2`; in DINOv3 parameters `gamma_1`, `gamma_2`.
class TimmVitBlock final : public BaseModule {
 public:
  TimmVitBlock(const VitVariant& v, double drop_path) {
    const auto scale = [&](const std::string& child) {
      auto layer =
          std::make_shared<LayerScale>(v.dims, v.scale(), /*channels_first=*/false, "gamma");
      register_module(child, layer);
      return layer->parameters()[0];
    };
    const auto own_scale = [&](const std::string& name) {
      return register_parameter(name, torch::full({v.dims}, v.scale()));
    };
    if (v.rotary()) {
      scale1_ = own_scale("gamma_1");
      scale2_ = own_scale("gamma_2");
    }
    norm1_ = register_module("norm1", v.norm());
    attn_ = register_module("attn", std::make_shared<TimmAttention>(v));
    if (!v.rotary() && v.scale() > 0) scale1_ = scale("ls1");
    norm2_ = register_module("norm2", v.norm());
    mlp_ =
        register_module("mlp", std::make_shared<Mlp>(MlpOptions{
                                   .dims = v.dims,
                                   .hidden = v.hidden,
                                   .kind = v.mlp,
                                   .silu = v.mlp != MlpOptions::Kind::kPlain,
                                   .first = v.mlp == MlpOptions::Kind::kGated ? "fc1_x" : "fc1"}));
    if (!v.rotary() && v.scale() > 0) scale2_ = scale("ls2");
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
  }
  torch::Tensor forward(const torch::Tensor& x, const RotaryEmbedding* rotary) {
    const auto scaled = [](const torch::Tensor& t, const torch::Tensor& scale) {
      return scale.defined() ? t * scale : t;
    };
    const auto y =
        x + drop_path_->forward(scaled(attn_->forward(norm1_->forward(x), rotary), scale1_));
    return y + drop_path_->forward(scaled(mlp_->forward(norm2_->forward(y)), scale2_));
  }
  /// The deeper a block, the less it adds at first.
  void shrink(int64_t index) {
    const double by = std::sqrt(2.0 * static_cast<double>(index + 1));
    attn_->proj().weight.div_(by);
    mlp_->last().weight.div_(by);
  }

 private:
  torch::Tensor scale1_, scale2_;  ///< undefined in ViT and DeiT
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<TimmAttention> attn_;
  std::shared_ptr<Mlp> mlp_;
  std::shared_ptr<DropPath> drop_path_;
};

/// Plain transformers with timm's names. Their maps, one of each block, have the stride of a patch.
///
/// The norm behind the blocks is not applied to maps, as in timm.
class TimmVisionTransformer final : public Encoder {
 public:
  TimmVisionTransformer(const VitVariant& v, const EncoderOptions& options)
      : Encoder({.name = "tu-" + v.name,
                 .channels = std::vector<int64_t>(static_cast<size_t>(v.blocks), v.dims),
                 .published = timm_weights(v.name, v.tags),
                 .classifier = {"fc_norm.", "head.", "head_dist.", "attn_pool."},
                 .dilates = false,
                 .drops_paths = true},
                options),
        v_(v) {
    const Size2 image = options.img_size.value_or(v.image);
    grid_ = {image.h / v.patch, image.w / v.patch};
    cls_token_ = register_parameter("cls_token", torch::zeros({1, 1, v.dims}));
    if (v.front() > 1) {
      reg_token_ = register_parameter("reg_token", torch::zeros({1, v.front() - 1, v.dims}));
    }
    if (!v.rotary()) {
      if (grid_.h < 1 || grid_.w < 1) {
        throw OptionError("img_size", text("must be at least the side of a patch, ", v.patch,
                                           ", got ", Convert<Size2>::show(image)));
      }
      pos_embed_ = register_parameter(
          "pos_embed", torch::zeros({1, v.embedded_front() + grid_.h * grid_.w, v.dims}));
    }
    patches_ = std::make_shared<Conv2d>(ConvOptions{.in_channels = in_channels(),
                                                    .out_channels = v.dims,
                                                    .kernel_size = v.patch,
                                                    .stride = v.patch});
    auto patch_embed = std::make_shared<Sequential>();
    patch_embed->push_back("proj", patches_);
    register_module("patch_embed", patch_embed);
    set_first_conv("patch_embed.proj.weight", patches_);
    blocks_ = register_module("blocks", std::make_shared<ListOf<TimmVitBlock>>());
    for (const double rate : drop_path_rates(drop_path_rate(), v.blocks)) {
      const auto block = blocks_->push_back(std::make_shared<TimmVitBlock>(v, rate));
      if (static_cast<int64_t>(blocks_->size()) > depth()) leave_untrained(*block);
    }
    leave_untrained(*register_module("norm", v.norm()));
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const Size2 grid = grid_of(images);
    std::vector<torch::Tensor> out{images};
    for (const auto& x : tokens(images, depth())) {
      const auto patches = x.narrow(1, v_.front(), grid.h * grid.w);
      out.push_back(nlc_to_nchw(patches, grid).contiguous());
    }
    return out;
  }
  /// Tokens of blocks, [N, L, C].
  std::vector<torch::Tensor> outputs_of(const std::vector<std::string>& names,
                                        const torch::Tensor& images) override {
    return chosen_blocks(facts().name, names, tokens(images, v_.blocks));
  }

  std::vector<FeatureInfo> maps() const override {
    std::vector<FeatureInfo> out{{.channels = in_channels(), .stride = 1}};
    for (int64_t i = 0; i < depth(); ++i) out.push_back({v_.dims, v_.patch});
    return out;
  }

  std::vector<StageNames> layers() const override {
    return {StageNames{.embedding = {"cls_token", "reg_token", "pos_embed", "patch_embed."},
                       .blocks = "blocks.",
                       .num_blocks = v_.blocks}};
  }

  void init_weights() override {
    const torch::NoGradGuard no_grad;
    for_each_module(*this, [](torch::nn::Module& m) {
      if (dynamic_cast<Linear*>(&m)) trunc_normal_init(m, 0, 0.02);
    });
    patches_->reset_parameters();
    if (pos_embed_.defined()) trunc_normal_(pos_embed_, 0, 0.02);
    if (!v_.rotary()) {
      cls_token_.normal_(0, 1e-6);
      if (reg_token_.defined()) reg_token_.normal_(0, 1e-6);
      return;
    }
    trunc_normal_(cls_token_, 0, 0.02);
    trunc_normal_(reg_token_, 0, 0.02);
    for (size_t i = 0; i < blocks_->size(); ++i) (*blocks_)[i].shrink(static_cast<int64_t>(i));
  }

  void adapt_pretrained(Value& state) const override {
    Encoder::adapt_pretrained(state);
    const Value* found = state.find("pos_embed");
    if (!pos_embed_.defined() || !found || !found->is_tensor()) return;
    const auto fitted =
        resampled_position_embedding(found->as_tensor(), pos_embed_, v_.embedded_front(), grid_);
    if (fitted.defined()) state.set("pos_embed", fitted);
  }

 private:
  Size2 grid_of(const torch::Tensor& images) const {
    return whole_squares(images, v_.patch, facts().name);
  }
  /// What the first blocks give, [N, L, C].
  std::vector<torch::Tensor> tokens(const torch::Tensor& images, int64_t blocks) {
    const Size2 grid = grid_of(images);
    auto x = embedded(nchw_to_nlc(patches_->forward(images)), grid);
    std::optional<RotaryEmbedding> rotary;
    if (v_.rotary()) rotary = dinov3_rotary_embedding(grid, v_.dims / v_.heads, x);
    std::vector<torch::Tensor> out;
    for (int64_t i = 0; i < blocks; ++i) {
      auto& block = (*blocks_)[static_cast<size_t>(i)];
      const auto run = [&block, rotary](const torch::Tensor& in) {
        return block.forward(in, rotary ? &*rotary : nullptr);
      };
      x = run_block(block, run, x);
      out.push_back(x);
    }
    return out;
  }
  /// Patches [N, h * w, C] with their positions, behind the class token and registers.
  torch::Tensor embedded(const torch::Tensor& patches, Size2 grid) const {
    const auto with_front = [&](const torch::Tensor& x) {
      std::vector<torch::Tensor> all{cls_token_.expand({x.size(0), -1, -1})};
      if (reg_token_.defined()) all.push_back(reg_token_.expand({x.size(0), -1, -1}));
      all.push_back(x);
      return at::cat(all, 1);
    };
    if (!pos_embed_.defined()) return with_front(patches);
    const int64_t front = v_.embedded_front();
    const auto positions =
        resampled_grid(pos_embed_.narrow(1, front, grid_.h * grid_.w), grid_, grid);
    if (front == 0) return with_front(patches + positions);
    return with_front(patches) + at::cat({pos_embed_.narrow(1, 0, front), positions}, 1);
  }

  VitVariant v_;
  Size2 grid_ = 0;  ///< of the position embeddings
  torch::Tensor cls_token_;
  torch::Tensor reg_token_;  ///< undefined without registers
  torch::Tensor pos_embed_;  ///< undefined in DINOv3
  std::shared_ptr<Conv2d> patches_;
  std::shared_ptr<ListOf<TimmVitBlock>> blocks_;
};

std::vector<EncoderEntry> vit_encoders() {
  std::vector<EncoderEntry> out;
  for (const auto& v : vit_variants()) {
    out.push_back({.name = "tu-" + v.name,
                   .summary = v.summary,
                   .source = source_of(v.family),
                   .build =
                       [v](const EncoderOptions& options) {
                         return std::make_shared<TimmVisionTransformer>(v, options);
                       },
                   .depth = v.blocks,
                   .huge = v.dims > 2048});
  }
  return out;
}
SEG_REGISTER_ENCODERS(vit_encoders);

}  // namespace
}  // namespace seg
