#include "segcore/models/backbones/vit_adapter_params.hpp"

#include "segcore/torch.hpp"

namespace seg {

Schema<AdapterParams> AdapterParams::schema() {
  using P = AdapterParams;
  return Schema<P>("")
      .optional("img_size", &P::img_size, "image size of the position embeddings",
                sides_at_least(1))
      .optional("pretrain_size", &P::pretrain_size,
                "image size of absolute position embeddings, which are resized for others",
                sides_at_least(1))
      .optional("patch_size", &P::patch_size, "side of a patch; must be 16")
      .optional("in_chans", &P::in_chans, "bands of the image", at_least(1))
      .optional("embed_dim", &P::embed_dim, "width of tokens", at_least(1))
      .optional("depth", &P::depth, "blocks", at_least(1))
      .optional("num_heads", &P::num_heads, "attention heads of blocks", at_least(1))
      .optional("mlp_ratio", &P::mlp_ratio, "width of feed-forward blocks over that of tokens",
                above(0))
      .optional("drop_rate", &P::drop_rate, "dropout after projections", in_range(0, 1))
      .optional("attn_drop_rate", &P::attn_drop_rate, "dropout of attention weights",
                in_range(0, 1))
      .optional("drop_path_rate", &P::drop_path_rate,
                "stochastic depth of the last block, rising from 0, and of the extractors",
                in_range(0, 1))
      .optional("conv_inplane", &P::conv_inplane, "width of the convolutions of the image",
                at_least(1))
      .optional("n_points", &P::n_points, "points of deformable attention", at_least(1))
      .optional("deform_num_heads", &P::deform_num_heads, "heads of deformable attention",
                at_least(1))
      .optional("init_values", &P::init_values,
                "first value of what is added to patches, and of BEiT's scales of blocks")
      .required("interaction_indexes", &P::interaction_indexes,
                "first and last block of each of the four interactions")
      .optional("with_cffn", &P::with_cffn, "feed-forward layers with convolutions in extractors")
      .optional("cffn_ratio", &P::cffn_ratio, "their width over that of tokens", above(0))
      .optional("deform_ratio", &P::deform_ratio,
                "width of values of deformable attention over that of tokens", above(0))
      .optional("add_vit_feature", &P::add_vit_feature, "add the patches to the maps")
      .optional("with_cp", &P::with_cp, "recompute blocks in the backward pass to save memory")
      .optional("pretrained", &P::pretrained, "checkpoint; older form of init_cfg")
      .optional("init_cfg", &P::init_cfg, "initialisation; null: as the authors'")
      .validate([](const P& p, Problems& problems) {
        if (p.patch_size != 16) problems.error("patch_size", "must be 16");
        if (p.embed_dim % p.num_heads != 0) {
          problems.error("num_heads", text("does not divide embed_dim, ", p.embed_dim));
        }
        if (p.embed_dim % p.deform_num_heads != 0) {
          problems.error("deform_num_heads", text("does not divide embed_dim, ", p.embed_dim));
        }
        if (p.interaction_indexes.size() != 4) {
          problems.error("interaction_indexes", text("must have 4 entries, one for each map, got ",
                                                     p.interaction_indexes.size()));
        }
        for (const auto& span : p.interaction_indexes) {
          if (!span.empty() && span.front() >= 0 && span.front() <= span.back() &&
              span.back() < p.depth) {
            continue;
          }
          problems.error("interaction_indexes",
                         text("each entry must be two blocks of 0 to ", p.depth - 1));
        }
      });
}

}  // namespace seg
