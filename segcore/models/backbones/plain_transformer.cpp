#include "segcore/models/backbones/plain_transformer.hpp"

#include "segcore/torch.hpp"

namespace seg {

Schema<PlainTransformerParams> PlainTransformerParams::schema() {
  using P = PlainTransformerParams;
  return Schema<P>("")
      .optional("patch_size", &P::patch_size, "side of a patch", at_least(1))
      .optional("in_channels", &P::in_channels, "bands of the image", at_least(1))
      .optional("embed_dims", &P::embed_dims, "width of tokens", at_least(1))
      .optional("num_layers", &P::num_layers, "blocks", at_least(1))
      .optional("num_heads", &P::num_heads, "attention heads", at_least(1))
      .optional("mlp_ratio", &P::mlp_ratio, "width of feed-forward blocks over embed_dims",
                at_least(1))
      .optional("out_indices", &P::out_indices, "blocks whose maps are returned; -1: the last",
                at_least(-1))
      .optional("attn_drop_rate", &P::attn_drop_rate, "dropout of attention weights",
                in_range(0, 1))
      .optional("drop_path_rate", &P::drop_path_rate,
                "stochastic depth of the last block; rises from 0", in_range(0, 1))
      .optional("norm_cfg", &P::norm_cfg, "norms")
      .optional("act_cfg", &P::act_cfg, "activation of the feed-forward blocks")
      .optional("patch_norm", &P::patch_norm, "a norm after the patch embedding")
      .optional("final_norm", &P::final_norm, "a norm after the last block")
      .optional("num_fcs", &P::num_fcs, "layers of a feed-forward block", at_least(2))
      .optional("norm_eval", &P::norm_eval, "keep norms in evaluation mode")
      .optional("pretrained", &P::pretrained, "checkpoint; older form of init_cfg")
      .optional("init_cfg", &P::init_cfg, "initialisation; null: as timm's")
      .validate([](const P& p, Problems& problems) {
        if (p.embed_dims % p.num_heads != 0) {
          problems.error("num_heads", text("does not divide embed_dims ", p.embed_dims));
        }
        const auto check = [&](int64_t i) {
          if (i >= p.num_layers) {
            problems.error("out_indices", text("there is no block ", i, " among ", p.num_layers));
          }
        };
        if (const auto* one = std::get_if<int64_t>(&p.out_indices)) {
          check(*one);
        } else {
          for (const int64_t i : std::get<1>(p.out_indices)) {
            i < 0 ? problems.error("out_indices", "a list cannot have -1") : check(i);
          }
        }
      });
}

void freeze_norms(torch::nn::Module& root) {
  for_each_module(root, [](torch::nn::Module& m) {
    if (is_norm(m)) m.eval();
  });
}

}  // namespace seg
