#include <cmath>
#include <utility>

#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/whole_squares.hpp"
#include "segcore/models/decode_heads/mask_set_losses.hpp"
#include "segcore/models/nn/follows_progress.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/nn/uses_communicator.hpp"
#include "segcore/models/orders_layers.hpp"
#include "segcore/models/segmentors/eomt_layers.hpp"
#include "segcore/models/segmentors/eomt_weights.hpp"
#include "segcore/models/segmentors/logit_segmentor.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct EoMTParams {
  std::string encoder = "dinov2";
  int64_t hidden_size = 1024, num_hidden_layers = 24, num_attention_heads = 16;
  std::optional<int64_t> intermediate_size;
  int64_t mlp_ratio = 4;
  bool use_swiglu_ffn = false;
  std::string hidden_act = "gelu";
  double layer_norm_eps = 1e-6, layerscale_value = 1, drop_path_rate = 0, attention_dropout = 0;
  Size2 image_size = 640;
  int64_t patch_size = 16, num_channels = 3, num_register_tokens = 4;
  int64_t num_labels = 0, num_queries = 200, num_blocks = 4, num_upscale_blocks = 2;
  double class_weight = 2, mask_weight = 5, dice_weight = 5, no_object_weight = 0.1;
  int64_t train_num_points = 12544;
  double oversample_ratio = 3, importance_sample_ratio = 0.75;
  std::optional<double> pos_embed_rescale = 2;
  bool attn_mask_annealing_enabled = false;
  std::optional<std::vector<int64_t>> attn_mask_annealing_start_steps,
      attn_mask_annealing_end_steps;
  double poly_power = 0.9;
  std::optional<int64_t> ignore_index = 255;
  std::optional<TestCfg> test_cfg;
  std::optional<Spec<DataPreProcessor>> data_preprocessor;
  InitCfg init_cfg;

  bool dinov3() const { return encoder == "dinov3"; }
  Size2 grid() const { return {image_size.h / patch_size, image_size.w / patch_size}; }
  EomtSizes sizes() const;
};

EomtSizes EoMTParams::sizes() const {
  EomtSizes s{.dinov3 = dinov3(),
              .dims = hidden_size,
              .heads = num_attention_heads,
              .registers = num_register_tokens,
              .patch = patch_size,
              .bands = num_channels,
              .hidden = intermediate_size.value_or(hidden_size * mlp_ratio),
              .silu = hidden_act == "silu",
              .scale = layerscale_value,
              .eps = layer_norm_eps,
              .attention_dropout = attention_dropout,
              .drop_path_rate = drop_path_rate,
              .grid = grid()};
  if (use_swiglu_ffn) {
    s.mlp = MlpOptions::Kind::kGated;
    // Two thirds of the width, in whole eights: as many weights as without gates.
    if (!intermediate_size && !s.dinov3) s.hidden = (s.hidden * 2 / 3 + 7) / 8 * 8;
  }
  return s;
}

namespace {

MaskSetLosses eomt_losses(const EoMTParams& p) {
  const MaskTrainCfg cfg{
      .assigner = Spec<Assigner>::of(
          text("{type: HungarianAssigner, match_costs: [{type: ClassificationCost, weight: ",
               p.class_weight, "}, {type: CrossEntropyLossCost, weight: ", p.mask_weight,
               ", use_sigmoid: true}, {type: DiceCost, weight: ", p.dice_weight,
               ", pred_act: true, eps: 1.0}]}")),
      .num_points = p.train_num_points,
      .oversample_ratio = p.oversample_ratio,
      .importance_sample_ratio = p.importance_sample_ratio};
  std::vector<std::string> weights(static_cast<size_t>(p.num_labels), "1");
  weights.push_back(text(p.no_object_weight));
  std::vector<MaskSetTerm> terms;
  const auto add = [&](const char* name, const std::string& classes, const std::string& masks) {
    MaskSetTerm term{.name = name, .classes = nullptr, .masks = nullptr};
    if (!classes.empty()) term.classes = Spec<QueryClassLoss>::of(classes).build();
    if (!masks.empty()) term.masks = Spec<MaskLoss>::of(masks).build();
    terms.push_back(std::move(term));
  };
  add("loss_cross_entropy",
      text("{type: CrossEntropyLoss, loss_weight: ", p.class_weight, ", class_weight: [",
           join(weights, ", "), "]}"),
      "");
  add("loss_mask", "",
      text("{type: CrossEntropyLoss, use_sigmoid: true, loss_weight: ", p.mask_weight, "}"));
  add("loss_dice", "",
      text("{type: DiceLoss, naive_dice: true, eps: 1, loss_weight: ", p.dice_weight, "}"));
  return {{.num_classes = p.num_labels,
           .ignore_index = p.ignore_index.value_or(-100),
           .count_of_empty = 0},
          cfg.assigner.build(),
          compare_at_points(cfg),
          std::move(terms)};
}

}  // namespace

/// A plain transformer that is the whole model: queries join the tokens of its last blocks, and
/// predict a class and a mask each.
///
/// EoMT, Kerssies et al. 2025, arXiv:2503.19108, with the names and options of transformers'
/// EomtForUniversalSegmentation and EomtDinov3ForUniversalSegmentation. Masked attention can be
/// annealed block by block, after which it costs nothing.
class EoMT final : public LogitSegmentor,
                   public OrdersLayers,
                   public AdaptsPretrained,
                   public UsesCommunicator,
                   public DrawsRandomNumbers,
                   public FollowsProgress {
 public:
  using Params = EoMTParams;
  static Schema<Params> schema();
  static SegmentorFacts facts(const Params& p) { return {.heads = {{p.num_labels, "num_labels"}}}; }

  explicit EoMT(const Params& p)
      : LogitSegmentor(p.init_cfg, p.test_cfg, p.data_preprocessor),
        p_(p),
        sizes_(p.sizes()),
        losses_(eomt_losses(p)) {
    mask_probs_ = register_buffer("attn_mask_probs", torch::ones({p.num_blocks}));
    embeddings_ = register_module("embeddings", std::make_shared<EomtEmbeddings>(sizes_));
    norm_ = register_module("layernorm", sizes_.norm());
    queries_ = register_module("query", std::make_shared<QueryTable>())
                   ->register_parameter("weight", torch::randn({p.num_queries, p.hidden_size}));
    layers_ = register_module("layers", std::make_shared<ListOf<EomtBlock>>());
    for (int64_t i = 0; i < p.num_hidden_layers; ++i) {
      layers_->push_back(std::make_shared<EomtBlock>(sizes_));
    }
    upscale_ = eomt_upscaling(sizes_, p.num_upscale_blocks);
    register_module("upscale_block", std::static_pointer_cast<BaseModule>(upscale_));
    mask_head_ = eomt_mask_head(sizes_);
    register_module("mask_head", std::static_pointer_cast<BaseModule>(mask_head_));
    class_predictor_ = register_module("class_predictor",
                                       std::make_shared<Linear>(p.hidden_size, p.num_labels + 1));
  }

  /// Class logits of the queries, [N, Q, classes + 1], and their mask logits, [N, Q, h, w].
  std::vector<torch::Tensor> extract_feat(const torch::Tensor& images) override {
    const auto last = outputs(images).back();
    return {last.classes, last.masks};
  }
  LossMap compute_loss(const torch::Tensor& images, const Targets& targets) override {
    check_targets(targets, /*learns_depth=*/false);
    const auto layers = losses_(
        outputs(images), targets.labels,
        [this](at::Tensor& counts) { average_over_processes_(counts); }, random_source());
    LossMap out = layers.back();
    for (size_t i = 0; i + 1 < layers.size(); ++i) {
      for (const auto& [name, value] : layers[i]) out.emplace_back(text("d", i, ".", name), value);
    }
    return out;
  }
  int64_t num_classes() const override { return p_.num_labels; }
  int64_t ignore_index() const override { return p_.ignore_index.value_or(-100); }
  std::vector<std::string> python_names() const override {
    return {p_.dinov3() ? "EomtDinov3ForUniversalSegmentation" : "EomtForUniversalSegmentation"};
  }
  LayerOrder layer_order() const override {
    return LayerOrder({StageNames{.embedding = {"embeddings."},
                                  .blocks = "layers.",
                                  .num_blocks = p_.num_hidden_layers,
                                  .after = {"layernorm."}}});
  }
  void adapt_pretrained(Value& state) const override { state = eomt_weights(state, sizes_); }

  void set_progress(int64_t iter, int64_t max_iters) override {
    if (!p_.attn_mask_annealing_enabled) return;
    const torch::NoGradGuard no_grad;
    for (int64_t i = 0; i < p_.num_blocks; ++i) {
      mask_probs_[i].fill_(mask_probability(i, iter, max_iters));
    }
  }

 protected:
  torch::Tensor logits(const torch::Tensor& images, const std::vector<int64_t>&) override {
    auto last = outputs(images).back();
    last.masks = resize(full_precision(last.masks), map_size(images));
    return semantic_scores(last);
  }
  bool align_corners() const override { return false; }
  double threshold() const override { return 0.5; }

 private:
  /// torch.nn.Embedding.
  class QueryTable final : public BaseModule {};

  /// The share of the queries whose attention is masked in a block. Blocks are annealed one after
  /// another: as published, all phases, and two more, are equally long.
  double mask_probability(int64_t block, int64_t iter, int64_t max_iters) const {
    const auto i = static_cast<size_t>(block);
    const int64_t phases = p_.num_blocks + 2;
    const int64_t start = p_.attn_mask_annealing_start_steps
                              ? p_.attn_mask_annealing_start_steps->at(i)
                              : max_iters * (block + 1) / phases;
    const int64_t end = p_.attn_mask_annealing_end_steps ? p_.attn_mask_annealing_end_steps->at(i)
                                                         : max_iters * (block + 2) / phases;
    if (iter < start) return 1;
    if (iter >= end) return 0;
    const double done = static_cast<double>(iter - start) / static_cast<double>(end - start);
    return std::pow(1 - done, p_.poly_power);
  }

  /// What the queries predict before each block they are in, as far as it is learned from or masks
  /// attention, and at the end.
  std::vector<QueryOutput> outputs(const torch::Tensor& images) {
    const Size2 grid = whole_squares(images, p_.patch_size, "this EoMT");
    auto x = embeddings_->forward(images, grid);
    std::optional<RotaryEmbedding> rotary;
    if (p_.dinov3()) {
      rotary = dinov3_rotary_embedding(grid, p_.hidden_size / p_.num_attention_heads, x, rescale());
    }
    const auto probabilities = mask_probs_.to(at::kCPU, at::kDouble);
    const int64_t first = p_.num_hidden_layers - p_.num_blocks;
    std::vector<QueryOutput> out;
    for (int64_t i = 0; i < p_.num_hidden_layers; ++i) {
      if (i == first) x = at::cat({queries_.unsqueeze(0).expand({x.size(0), -1, -1}), x}, 1);
      torch::Tensor mask;
      if (i >= first) {
        const double masked = probabilities.const_data_ptr<double>()[i - first];
        if (is_training() || masked > 0) out.push_back(predict(x, grid));
        if (masked > 0) mask = allowed_attention(out.back().masks, x.size(1), grid, masked);
      }
      auto& layer = (*layers_)[static_cast<size_t>(i)];
      const auto run = [&layer, mask, rotary](const torch::Tensor& in) {
        return layer.forward(in, mask, rotary ? &*rotary : nullptr);
      };
      x = run_block(layer, run, x);
    }
    out.push_back(predict(x, grid));
    return out;
  }

  /// The factor of the coordinates of patches: in training a random one, uniform in its logarithm.
  double rescale() const {
    if (!is_training() || !p_.pos_embed_rescale) return 1;
    const auto u = uniform({1}, at::TensorOptions(at::kDouble));
    return std::exp((2 * *u.const_data_ptr<double>() - 1) * std::log(*p_.pos_embed_rescale));
  }

  QueryOutput predict(const torch::Tensor& x, Size2 grid) {
    const auto tokens = norm_->forward(x);
    const auto queries = tokens.narrow(1, 0, p_.num_queries);
    const auto patches = tokens.narrow(1, p_.num_queries + sizes_.front(), grid.h * grid.w);
    const auto map = upscale_->forward(nlc_to_nchw(patches, grid));
    QueryOutput out;
    out.classes = class_predictor_->forward(queries);
    out.masks = at::bmm(mask_head_->forward(queries), map.flatten(2))
                    .view({map.size(0), -1, map.size(2), map.size(3)});
    return out;
  }

  /// Queries attend to the patches inside their masks alone, but for a random share of them; all
  /// else attends to everything. \return bool [N, 1, L, L]
  torch::Tensor allowed_attention(const torch::Tensor& masks, int64_t length, Size2 grid,
                                  double masked) const {
    const torch::NoGradGuard no_grad;
    auto inside = resize(full_precision(masks), grid).flatten(2) > 0;  // [N, Q, h * w]
    const int64_t n = inside.size(0), q = inside.size(1), patches = inside.size(2);
    if (masked < 1) {
      const auto freed = uniform({n, q}, masks.options().dtype(at::kFloat)) > masked;
      inside = inside | freed.unsqueeze(2);
    }
    auto allowed = at::ones({n, length, length}, masks.options().dtype(at::kBool));
    allowed.narrow(1, 0, q).narrow(2, length - patches, patches).copy_(inside);
    return allowed.unsqueeze(1);
  }

  Params p_;
  EomtSizes sizes_;
  MaskSetLosses losses_;
  torch::Tensor mask_probs_;  ///< of each block with queries
  std::shared_ptr<EomtEmbeddings> embeddings_;
  std::shared_ptr<Norm> norm_;
  torch::Tensor queries_;
  std::shared_ptr<ListOf<EomtBlock>> layers_;
  std::shared_ptr<Layer> upscale_, mask_head_;
  std::shared_ptr<Linear> class_predictor_;
};

Schema<EoMTParams> EoMT::schema() {
  using P = Params;
  return Schema<P>("A plain transformer whose queries predict a class and a mask each.")
      .source("EoMT, Kerssies et al. 2025, arXiv:2503.19108")
      .optional("encoder", &P::encoder, "whose names, positions and biases the blocks have",
                one_of({"dinov2", "dinov3"}))
      .optional("hidden_size", &P::hidden_size, "width of tokens", at_least(1))
      .optional("num_hidden_layers", &P::num_hidden_layers, "blocks", at_least(1))
      .optional("num_attention_heads", &P::num_attention_heads, "attention heads", at_least(1))
      .optional("intermediate_size", &P::intermediate_size,
                "width of feed-forward layers; null: mlp_ratio times hidden_size", at_least(1))
      .optional("mlp_ratio", &P::mlp_ratio, "width of feed-forward layers over that of tokens",
                at_least(1))
      .optional("use_swiglu_ffn", &P::use_swiglu_ffn,
                "gated feed-forward layers (use_gated_mlp of DINOv3)")
      .optional("hidden_act", &P::hidden_act, "activation", one_of({"gelu", "silu"}))
      .optional("layer_norm_eps", &P::layer_norm_eps, "eps of the norms", above(0))
      .optional("layerscale_value", &P::layerscale_value, "first value of the scales of blocks")
      .optional("drop_path_rate", &P::drop_path_rate, "stochastic depth of all blocks",
                in_range(0, 1))
      .optional("attention_dropout", &P::attention_dropout, "dropout of attention weights",
                in_range(0, 1))
      .optional("image_size", &P::image_size,
                "image size of the position embeddings; they are resized for others",
                sides_at_least(1))
      .optional("patch_size", &P::patch_size, "side of a patch, in pixels", at_least(1))
      .optional("num_channels", &P::num_channels, "bands of the images", at_least(1))
      .optional("num_register_tokens", &P::num_register_tokens, "register tokens", at_least(0))
      .required("num_labels", &P::num_labels, "classes, without the ignored one", at_least(1))
      .optional("num_queries", &P::num_queries, "masks predicted", at_least(1))
      .optional("num_blocks", &P::num_blocks, "last blocks, which the queries are in", at_least(1))
      .optional("num_upscale_blocks", &P::num_upscale_blocks,
                "how often the map of patches is doubled for the masks", at_least(0))
      .optional("class_weight", &P::class_weight, "weight of the classes' loss and cost")
      .optional("mask_weight", &P::mask_weight, "weight of the pixels' loss and cost")
      .optional("dice_weight", &P::dice_weight, "weight of the overlaps' loss and cost")
      .optional("no_object_weight", &P::no_object_weight,
                "weight of queries that match nothing, in the classes' loss")
      .optional("train_num_points", &P::train_num_points, "points at which masks are compared",
                at_least(1))
      .optional("oversample_ratio", &P::oversample_ratio,
                "candidates for each point that is chosen by its uncertainty", at_least(1))
      .optional("importance_sample_ratio", &P::importance_sample_ratio,
                "share of the points that are chosen by their uncertainty", in_range(0, 1))
      .optional("pos_embed_rescale", &P::pos_embed_rescale,
                "in training, coordinates of patches of DINOv3 are stretched by up to this, or "
                "shrunk; null: neither",
                above(0))
      .optional("attn_mask_annealing_enabled", &P::attn_mask_annealing_enabled,
                "let ever fewer queries have masked attention, block by block, so that none has "
                "in the end")
      .optional("attn_mask_annealing_start_steps", &P::attn_mask_annealing_start_steps,
                "iteration at which each block of num_blocks begins; null: spread over the "
                "training as published",
                at_least(0))
      .optional("attn_mask_annealing_end_steps", &P::attn_mask_annealing_end_steps,
                "iteration at which no query of the block is masked; null: as published",
                at_least(0))
      .optional("poly_power", &P::poly_power, "power of the annealing", above(0))
      .optional("ignore_index", &P::ignore_index, "label without loss; null: none")
      .optional("test_cfg", &P::test_cfg, "prediction of whole images or by a sliding window")
      .optional("data_preprocessor", &P::data_preprocessor, "normalises and pads; null: neither")
      .optional("init_cfg", &P::init_cfg,
                "initialisation; files may hold transformers' weights, or an encoder of timm")
      .accepted("train_cfg", "has no effect: the model has options for points and weights")
      .validate([](const P& p, Problems& problems) {
        if (p.hidden_size % p.num_attention_heads != 0) {
          problems.error("num_attention_heads", text("must divide hidden_size, ", p.hidden_size));
        } else if (p.dinov3() && p.hidden_size / p.num_attention_heads % 4 != 0) {
          problems.error("num_attention_heads",
                         text("gives heads a width of ", p.hidden_size / p.num_attention_heads,
                              ", which must be a multiple of 4 for positions as rotations"));
        }
        if (p.num_blocks > p.num_hidden_layers) {
          problems.error("num_blocks", text("there are only ", p.num_hidden_layers, " blocks"));
        }
        if (p.image_size.h < p.patch_size || p.image_size.w < p.patch_size) {
          problems.error("image_size", text("must be at least patch_size, ", p.patch_size));
        }
        const auto check = [&](const char* name, const auto& steps) {
          if (!steps) return;
          if (static_cast<int64_t>(steps->size()) != p.num_blocks) {
            problems.error(
                name, text("needs ", p.num_blocks, " values (num_blocks), got ", steps->size()));
          }
          if (!p.attn_mask_annealing_enabled) {
            problems.warn(name, "is ignored without attn_mask_annealing_enabled");
          }
        };
        check("attn_mask_annealing_start_steps", p.attn_mask_annealing_start_steps);
        check("attn_mask_annealing_end_steps", p.attn_mask_annealing_end_steps);
      });
}

SEG_REGISTER(Segmentor, EoMT);

}  // namespace seg
