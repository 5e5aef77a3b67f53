#include "segcore/models/backbones/vit_adapter_interaction.hpp"

#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Centres of the tokens, x and y from 0 to 1, [L, 2].
torch::Tensor centres(const Pyramid& p) {
  const auto options = p.tokens.options().dtype(
      p.tokens.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32);
  std::vector<torch::Tensor> all;
  for (const Size2& size : p.sizes) {
    const auto x = (at::arange(size.w, options) + 0.5) / static_cast<double>(size.w);
    const auto y = (at::arange(size.h, options) + 0.5) / static_cast<double>(size.h);
    all.push_back(at::stack({x.repeat({size.h}), y.repeat_interleave(size.w)}, 1));  // [h * w, 2]
  }
  return at::cat(all);
}

}  // namespace

std::shared_ptr<Norm> adapter_norm(int64_t dims) {
  return Spec<Norm>::of("{type: LN, eps: 1e-6}").build(dims);
}

/// Two layers over channels with a depthwise convolution of each map between them: children `fc1`,
/// `dwconv.dwconv`, `fc2`.
class PyramidFFN final : public BaseModule {
 public:
  PyramidFFN(int64_t dims, int64_t hidden, double drop) {
    fc1_ = register_module("fc1", std::make_shared<Linear>(dims, hidden));
    auto folder = std::make_shared<Sequential>();
    conv_ = std::make_shared<Conv2d>(ConvOptions{.in_channels = hidden,
                                                 .out_channels = hidden,
                                                 .kernel_size = 3,
                                                 .padding = 1,
                                                 .groups = hidden});
    folder->push_back("dwconv", conv_);
    register_module("dwconv", folder);
    fc2_ = register_module("fc2", std::make_shared<Linear>(hidden, dims));
    drop_ = register_module("drop", std::make_shared<Dropout>(drop));
  }
  torch::Tensor forward(const Pyramid& in) {
    const auto x = fc1_->forward(in.tokens);
    std::vector<torch::Tensor> maps;
    int64_t first = 0;
    for (const Size2& size : in.sizes) {
      const auto map = nlc_to_nchw(x.narrow(1, first, size.h * size.w), size);
      maps.push_back(nchw_to_nlc(conv_->forward(map.contiguous())));
      first += size.h * size.w;
    }
    return drop_->forward(fc2_->forward(drop_->forward(at::gelu(at::cat(maps, 1)))));
  }

 private:
  std::shared_ptr<Linear> fc1_, fc2_;
  std::shared_ptr<Conv2d> conv_;
  std::shared_ptr<Dropout> drop_;
};

CrossLayer::CrossLayer(const AdapterParams& p, int64_t levels) {
  query_norm_ = register_module("query_norm", adapter_norm(p.embed_dim));
  feat_norm_ = register_module("feat_norm", adapter_norm(p.embed_dim));
  attn_ =
      register_module("attn", std::make_shared<MultiScaleDeformableAttention>(
                                  DeformableAttentionOptions{.embed_dims = p.embed_dim,
                                                             .num_heads = p.deform_num_heads,
                                                             .num_levels = levels,
                                                             .num_points = p.n_points,
                                                             .dropout = 0,
                                                             .value_proj_ratio = p.deform_ratio}));
}

torch::Tensor CrossLayer::attend(const Pyramid& query, const Pyramid& values) {
  return attn_->attend(query_norm_->forward(query.tokens), feat_norm_->forward(values.tokens),
                       centres(query), values.sizes);
}

Injector::Injector(const AdapterParams& p) : CrossLayer(p, /*levels=*/3) {
  gamma_ = register_parameter("gamma", torch::full({p.embed_dim}, p.init_values));
}

torch::Tensor Injector::forward(const Pyramid& patches, const Pyramid& pyramid) {
  return patches.tokens + gamma_ * attend(patches, pyramid);
}

Extractor::Extractor(const AdapterParams& p) : CrossLayer(p, /*levels=*/1) {
  if (!p.with_cffn) return;
  const auto hidden = static_cast<int64_t>(static_cast<double>(p.embed_dim) * p.cffn_ratio);
  ffn_ = register_module("ffn", std::make_shared<PyramidFFN>(p.embed_dim, hidden, /*drop=*/0));
  ffn_norm_ = register_module("ffn_norm", adapter_norm(p.embed_dim));
  drop_path_ = register_module("drop_path", std::make_shared<DropPath>(p.drop_path_rate));
}

Pyramid Extractor::forward(const Pyramid& pyramid, const Pyramid& patches) {
  Pyramid out{pyramid.tokens + attend(pyramid, patches), pyramid.sizes};
  if (!ffn_) return out;
  const auto more = ffn_->forward({ffn_norm_->forward(out.tokens), out.sizes});
  out.tokens = out.tokens + drop_path_->forward(more);
  return out;
}

Interaction::Interaction(const AdapterParams& p, int64_t extra) {
  injector = register_module("injector", std::make_shared<Injector>(p));
  extractors.push_back(register_module("extractor", std::make_shared<Extractor>(p)));
  if (extra == 0) return;
  auto more = register_module("extra_extractors", std::make_shared<ListOf<Extractor>>());
  for (int64_t i = 0; i < extra; ++i) {
    extractors.push_back(more->push_back(std::make_shared<Extractor>(p)));
  }
}

}  // namespace seg
