#include <torch/nn/modules/embedding.h>

#include <algorithm>
#include <limits>

#include "segcore/models/assigners/assigner.hpp"
#include "segcore/models/blocks/detr_layers.hpp"
#include "segcore/models/blocks/point_sample.hpp"
#include "segcore/models/blocks/positional_encoding.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/decode_heads/pixel_decoder.hpp"
#include "segcore/models/nn/communicates.hpp"
#include "segcore/ops/random.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// A loss of these heads, with mmdet's options and defaults: `loss_cls`, `loss_mask`, `loss_dice`.
struct MaskLossCfg {
  std::string type;
  bool use_sigmoid = false;
  double loss_weight = 1;
  std::string reduction = "mean";
  std::optional<std::vector<double>> class_weight;
  double gamma = 2;
  double alpha = 0.25;
  bool activate = true;
  bool naive_dice = false;
  double eps = 1e-3;

  bool is(std::string_view name) const { return type == name || type.ends_with(text(".", name)); }

  static Schema<MaskLossCfg> schema() {
    using P = MaskLossCfg;
    return Schema<P>("A loss of classes or masks.")
        .required("type", &P::type, "CrossEntropyLoss, FocalLoss or DiceLoss")
        .optional("use_sigmoid", &P::use_sigmoid, "one binary problem a value")
        .optional("loss_weight", &P::loss_weight, "factor")
        .optional("reduction", &P::reduction, "must be mean", one_of({"mean"}))
        .optional("class_weight", &P::class_weight,
                  "weight of each class and, last, of queries that match nothing")
        .optional("gamma", &P::gamma, "of a FocalLoss", at_least(0))
        .optional("alpha", &P::alpha, "of a FocalLoss", in_range(0, 1))
        .optional("activate", &P::activate, "of a DiceLoss: masks are logits")
        .optional("naive_dice", &P::naive_dice,
                  "of a DiceLoss: the denominator sums probabilities instead of their squares")
        .optional("eps", &P::eps, "of a DiceLoss", at_least(0))
        .accepted("avg_non_ignore", "no query is ignored")
        .accepted("ignore_index", "no query is ignored")
        .accepted("loss_name", "the head names its losses")
        .validate([](const P& p, Problems& problems) {
          if (!p.is("CrossEntropyLoss") && !p.is("FocalLoss") && !p.is("DiceLoss")) {
            problems.error("type", text("must be CrossEntropyLoss, FocalLoss or DiceLoss, got '",
                                        p.type, "'"));
          }
        });
  }
};

/// The head's own `train_cfg`.
struct MaskTrainCfg {
  Spec<Assigner> assigner;
  int64_t num_points = 12544;
  double oversample_ratio = 3;
  double importance_sample_ratio = 0.75;
  static Schema<MaskTrainCfg> schema() {
    using P = MaskTrainCfg;
    return Schema<P>("How queries are matched and masks compared.")
        .required("assigner", &P::assigner, "pairs queries with the classes of the image")
        .optional("num_points", &P::num_points, "points at which masks are compared", at_least(1))
        .optional("oversample_ratio", &P::oversample_ratio,
                  "candidates for each point that is chosen by its uncertainty", at_least(1))
        .optional("importance_sample_ratio", &P::importance_sample_ratio,
                  "share of the points that are chosen by their uncertainty", in_range(0, 1))
        .accepted("sampler", "all queries take part, as with MaskPseudoSampler");
  }
};

struct MaskFormerHeadParams {
  std::optional<std::vector<int64_t>> in_channels;
  int64_t feat_channels = 0;
  int64_t out_channels = 0;
  int64_t num_classes = 150;
  int64_t num_queries = 100;
  Spec<MaskPixelDecoder> pixel_decoder;
  bool enforce_decoder_input_project = false;
  DetrDecoderCfg transformer_decoder;
  SinePositionalEncoding positional_encoding{.num_feats = 128, .normalize = true};
  MaskLossCfg loss_cls{.type = "CrossEntropyLoss"};
  MaskLossCfg loss_mask{.type = "FocalLoss", .use_sigmoid = true, .loss_weight = 20};
  MaskLossCfg loss_dice{.type = "DiceLoss", .use_sigmoid = true, .naive_dice = true};
  std::optional<MaskTrainCfg> train_cfg;
  bool align_corners = false;
  std::optional<int64_t> ignore_index = 255;

  static Schema<MaskFormerHeadParams> schema() {
    using P = MaskFormerHeadParams;
    return Schema<P>("")
        .optional("in_channels", &P::in_channels,
                  "width of each map; null: what the backbone or neck gives")
        .required("feat_channels", &P::feat_channels, "width of maps and queries", at_least(1))
        .required("out_channels", &P::out_channels, "width of the masks' features", at_least(1))
        .optional("num_classes", &P::num_classes, "classes, without the ignored one", at_least(1))
        .optional("num_queries", &P::num_queries, "masks predicted", at_least(1))
        .required("pixel_decoder", &P::pixel_decoder, "what makes maps for the queries")
        .optional("enforce_decoder_input_project", &P::enforce_decoder_input_project,
                  "project the memory even where it has the width of the queries")
        .required("transformer_decoder", &P::transformer_decoder, "what updates the queries")
        .optional("positional_encoding", &P::positional_encoding, "how positions are told")
        .optional("loss_cls", &P::loss_cls, "loss of the queries' classes")
        .optional("loss_mask", &P::loss_mask, "loss of the masks' pixels")
        .optional("loss_dice", &P::loss_dice, "loss of the masks' overlap")
        .optional("train_cfg", &P::train_cfg, "matching; null: only prediction")
        .optional("align_corners", &P::align_corners, "how the model resizes logits")
        .optional("ignore_index", &P::ignore_index, "label without loss; null: none")
        .accepted("init_cfg", "has no effect, as in MMDetection: weights are filled as the paper's")
        .accepted("test_cfg", "the model's test_cfg is used")
        .accepted("in_index", "all maps are used")
        .accepted("strides", "the pixel decoder knows them")
        .accepted("num_things_classes", "all classes are stuff; num_classes counts them")
        .accepted("num_stuff_classes", "all classes are stuff; num_classes counts them")
        .validate([](const P& p, Problems& problems) {
          if (!p.loss_cls.is("CrossEntropyLoss") || p.loss_cls.use_sigmoid) {
            problems.error("loss_cls", "must be a CrossEntropyLoss without use_sigmoid");
          }
          const auto wanted = static_cast<size_t>(p.num_classes) + 1;
          if (p.loss_cls.class_weight && p.loss_cls.class_weight->size() != wanted) {
            problems.error("loss_cls", text("class_weight has ", p.loss_cls.class_weight->size(),
                                            " values, but there are ", p.num_classes,
                                            " classes and one for nothing"));
          }
          if (!p.loss_dice.is("DiceLoss")) problems.error("loss_dice", "must be a DiceLoss");
          if (p.loss_mask.is("DiceLoss") ||
              (p.loss_mask.is("CrossEntropyLoss") && !p.loss_mask.use_sigmoid)) {
            problems.error("loss_mask",
                           "must be a FocalLoss, or a CrossEntropyLoss with use_sigmoid");
          }
        });
  }
};

namespace {

/// What queries say after one layer.
struct QueryOutput {
  torch::Tensor classes;  ///< [N, Q, classes + 1]
  torch::Tensor masks;    ///< [N, Q, h, w], before sigmoid
};

/// The classes of one image as masks.
struct ImageTruth {
  torch::Tensor labels;  ///< int64 [G]
  torch::Tensor masks;   ///< floating [G, H, W]
};

/// What every loss divides by is kept away from zero by this, as in mmdet.
constexpr double kMaskLossEps = std::numeric_limits<float>::epsilon();

}  // namespace

/// What MaskFormer and Mask2Former share: queries are matched with the classes of an image, and
/// logits are sums over queries of class probability times mask probability.
class MaskQueryHead : public DecodeHead, public Communicates {
 public:
  MaskQueryHead(const MaskFormerHeadParams& p, const std::vector<FeatureInfo>& inputs)
      : DecodeHead(base_params(p, inputs), inputs), p_(p) {}

  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto last = outputs(features, {}, /*all=*/false).back();
    return semantic(last.classes, last.masks);
  }
  torch::Tensor predict(const std::vector<torch::Tensor>& features, Size2 image) override {
    const auto last = outputs(features, {}, /*all=*/false).back();
    return semantic(last.classes, resize(last.masks, image));
  }

  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    if (!assigner_) {
      throw Error("a head without train_cfg cannot be trained: give it train_cfg.assigner");
    }
    const auto padding = padding_of(targets.img_shapes, features.back());
    const auto all = outputs(features, padding, /*all=*/true);
    const auto truths = truths_of(targets.labels, all[0].masks.scalar_type());
    // All layers are matched first, so that processes exchange what they found but once.
    std::vector<std::vector<torch::Tensor>> matched;
    auto counts = at::zeros({static_cast<int64_t>(all.size())}, at::TensorOptions(at::kDouble));
    for (const auto& output : all) {
      auto& layer = matched.emplace_back();
      int64_t count = 0;
      for (size_t i = 0; i < truths.size(); ++i) {
        const auto n = static_cast<int64_t>(i);
        layer.push_back(match(output.classes[n].detach(), output.masks[n].detach(), truths[i]));
        count += std::max<int64_t>((layer[i] >= 0).sum().item<int64_t>(), 1);
      }
      counts[static_cast<int64_t>(matched.size()) - 1] = count;
    }
    average_over_processes_(counts);
    std::vector<std::array<torch::Tensor, 3>> losses;
    for (size_t i = 0; i < all.size(); ++i) {
      const double count = std::max(counts[static_cast<int64_t>(i)].item<double>(), 1.0);
      losses.push_back(layer_loss(all[i], truths, matched[i], count));
    }
    LossMap out;
    const auto add = [&](const std::string& prefix, const std::array<torch::Tensor, 3>& values) {
      const char* names[] = {"loss_cls", "loss_mask", "loss_dice"};
      for (size_t k = 0; k < 3; ++k) out.emplace_back(prefix + names[k], values[k]);
    };
    add("", losses.back());
    for (size_t i = 0; i + 1 < losses.size(); ++i) add(text("d", i, "."), losses[i]);
    return out;
  }

 protected:
  /// Registers what both heads have after their decoders.
  void make_embeds(int64_t classes_in) {
    cls_embed_ =
        register_module("cls_embed", std::make_shared<Linear>(classes_in, p_.num_classes + 1));
    mask_embed_ = std::make_shared<Sequential>();
    const auto relu = [] {
      return std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); });
    };
    mask_embed_->push_back(std::make_shared<Linear>(p_.feat_channels, p_.feat_channels));
    mask_embed_->push_back(relu());
    mask_embed_->push_back(std::make_shared<Linear>(p_.feat_channels, p_.feat_channels));
    mask_embed_->push_back(relu());
    mask_embed_->push_back(std::make_shared<Linear>(p_.feat_channels, p_.out_channels));
    register_module("mask_embed", mask_embed_);
    if (p_.train_cfg) assigner_ = p_.train_cfg->assigner.build();
  }

  /// What the queries say after each layer that is supervised, or after the last.
  /// \param padding  bool [N, h, w] of the last map's size, true where it shows padding; undefined:
  ///                 nowhere.
  virtual std::vector<QueryOutput> outputs(const std::vector<torch::Tensor>& features,
                                           const torch::Tensor& padding, bool all) = 0;
  /// The class of an image that each query stands for, or -1; int64 [Q] on the CPU.
  virtual torch::Tensor match(const torch::Tensor& classes, const torch::Tensor& masks,
                              const ImageTruth& truth) const = 0;
  /// Losses of matched masks: pixels and overlap.
  /// \param masks  logits [M, h, w]; \param truth  [M, H, W]; \param count  what to divide by.
  virtual std::array<torch::Tensor, 2> mask_losses(const torch::Tensor& masks,
                                                   const torch::Tensor& truth,
                                                   double count) const = 0;

  /// The classes and masks of normed queries [N, Q, C] over a map [N, out_channels, h, w].
  QueryOutput read(const torch::Tensor& queries, const torch::Tensor& mask_feature) {
    QueryOutput out;
    out.classes = cls_embed_->forward(queries);
    out.masks = at::bmm(mask_embed_->forward(queries), mask_feature.flatten(2))
                    .view({queries.size(0), -1, mask_feature.size(2), mask_feature.size(3)});
    return out;
  }

  /// Dice loss of [M, P] against [M, P].
  torch::Tensor dice_loss(const torch::Tensor& logits, const torch::Tensor& truth,
                          double count) const {
    const auto& cfg = p_.loss_dice;
    const auto p = cfg.activate ? logits.sigmoid() : logits;
    const auto overlap = 2 * (p * truth).sum(1);
    const auto dice = cfg.naive_dice
                          ? (overlap + cfg.eps) / (p.sum(1) + truth.sum(1) + cfg.eps)
                          : overlap / (p.square().sum(1) + truth.square().sum(1) + 2 * cfg.eps);
    return (1 - dice).sum() / (count + kMaskLossEps) * cfg.loss_weight;
  }

  /// Focal loss or binary cross entropy, summed over pixels and divided by `count`.
  torch::Tensor pixel_loss(const torch::Tensor& logits, const torch::Tensor& truth,
                           double count) const {
    const auto& cfg = p_.loss_mask;
    auto loss = at::binary_cross_entropy_with_logits(logits, truth, {}, {}, at::Reduction::None);
    if (cfg.is("FocalLoss")) {
      const auto p = logits.sigmoid();
      const auto wrong = (1 - p) * truth + p * (1 - truth);
      loss = loss * (cfg.alpha * truth + (1 - cfg.alpha) * (1 - truth)) * wrong.pow(cfg.gamma);
    }
    return loss.sum() / (count + kMaskLossEps) * cfg.loss_weight;
  }

  MaskFormerHeadParams p_;
  std::unique_ptr<Assigner> assigner_;  ///< null without train_cfg
  std::shared_ptr<Linear> cls_embed_;
  std::shared_ptr<Sequential> mask_embed_;

 private:
  static DecodeHeadParams base_params(const MaskFormerHeadParams& p,
                                      const std::vector<FeatureInfo>& inputs) {
    DecodeHeadParams out;
    std::vector<int64_t> all(inputs.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    out.in_index = all;
    out.input_transform = "multiple_select";
    if (p.in_channels) out.in_channels = *p.in_channels;
    out.num_classes = p.num_classes;
    out.align_corners = p.align_corners;
    out.ignore_index = p.ignore_index;
    out.dropout_ratio = 0;
    out.init_cfg = std::nullopt;
    return out;
  }

  /// Where a map [N, C, h, w] shows padding, bool [N, h, w]; undefined where it does nowhere.
  ///
  /// As in MMSegmentation, the first image as it was before padding is taken for the size of the
  /// whole batch: the padding of images that are smaller is seen, its own is not.
  static torch::Tensor padding_of(const std::vector<std::array<int64_t, 2>>& shapes,
                                  const torch::Tensor& map) {
    const auto kept = [&](size_t side, int64_t length) {
      // The row (or column) of the whole that each of the map shows.
      const auto whole =
          at::arange(shapes[0][side], at::TensorOptions(at::kFloat)).view({1, 1, -1});
      const auto shown = at::upsample_nearest1d(whole, {length}).flatten();
      std::vector<double> ends;
      for (const auto& shape : shapes) ends.push_back(static_cast<double>(shape[side]));
      return shown < at::tensor(ends, at::kFloat).unsqueeze(1);  // [N, length]
    };
    if (shapes.empty()) return {};
    const auto padding =
        (kept(0, map.size(2)).unsqueeze(2) & kept(1, map.size(3)).unsqueeze(1)).logical_not();
    return padding.any().item<bool>() ? padding.to(map.device()) : torch::Tensor();
  }

  static torch::Tensor semantic(const torch::Tensor& classes, const torch::Tensor& masks) {
    const auto scores = classes.softmax(-1).narrow(2, 0, classes.size(2) - 1);  // [N, Q, classes]
    return at::einsum("bqc,bqhw->bchw", {scores, masks.sigmoid()});
  }

  std::vector<ImageTruth> truths_of(const torch::Tensor& labels, at::ScalarType type) const {
    std::vector<ImageTruth> out;
    for (int64_t i = 0; i < labels.size(0); ++i) {
      const auto found = std::get<0>(at::_unique(labels[i]));
      ImageTruth truth;
      truth.labels = found.masked_select(found != ignore_index());
      const auto wrong = (truth.labels < 0) | (truth.labels >= p_.num_classes);
      if (wrong.any().item<bool>()) {
        throw DataError(text("label ", truth.labels.masked_select(wrong)[0].item<int64_t>(),
                             " in image ", i, " of the batch is neither in [0, ",
                             p_.num_classes - 1, "] nor ignored (", ignore_index(),
                             "). Check num_classes, reduce_zero_label and the annotations"));
      }
      truth.masks = (labels[i].unsqueeze(0) == truth.labels.view({-1, 1, 1})).to(type);
      out.push_back(std::move(truth));
    }
    return out;
  }

  /// Losses of classes, pixels and overlap of one layer.
  /// \param matched  what match() says of each image.
  /// \param count  pairs of a query and a class, a mean over processes.
  std::array<torch::Tensor, 3> layer_loss(const QueryOutput& output,
                                          const std::vector<ImageTruth>& truths,
                                          const std::vector<torch::Tensor>& matched,
                                          double count) const {
    std::vector<torch::Tensor> labels, masks, truth_masks;
    for (size_t i = 0; i < truths.size(); ++i) {
      const auto device = truths[i].labels.device();
      const auto found = (matched[i] >= 0).nonzero().squeeze(1);
      const auto queries = found.to(device);
      const auto chosen = matched[i].index_select(0, found).to(device);
      labels.push_back(at::full({matched[i].size(0)}, p_.num_classes, truths[i].labels.options())
                           .index_copy(0, queries, truths[i].labels.index_select(0, chosen)));
      masks.push_back(output.masks[static_cast<int64_t>(i)].index_select(0, queries));
      truth_masks.push_back(truths[i].masks.index_select(0, chosen));
    }
    const auto label = at::cat(labels);  // [N * Q]
    const auto scores = output.classes.flatten(0, 1);
    auto weight = at::ones({p_.num_classes + 1}, scores.options());
    if (p_.loss_cls.class_weight) {
      weight = at::tensor(*p_.loss_cls.class_weight, at::kDouble)
                   .to(scores.device(), scores.scalar_type());
    }
    const auto loss_cls = at::cross_entropy_loss(scores, label, weight, at::Reduction::Sum) /
                          (weight.index_select(0, label).sum() + kMaskLossEps) *
                          p_.loss_cls.loss_weight;
    const auto mask = at::cat(masks);  // [M, h, w]
    if (mask.size(0) == 0) return {loss_cls, mask.sum(), mask.sum()};
    const auto [loss_mask, loss_dice] = mask_losses(mask, at::cat(truth_masks), count);
    return {loss_cls, loss_mask, loss_dice};
  }
};

// --- MaskFormer ---------------------------------------------------------------------------------

/// Masks of queries that attend to one map.
class MaskFormerHead final : public MaskQueryHead {
 public:
  using Params = MaskFormerHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Queries that predict a class and a mask each.")
        .source("MaskFormer, Cheng et al. 2021, arXiv:2107.06278")
        .include(MaskFormerHeadParams::schema());
  }
  MaskFormerHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : MaskQueryHead(p, inputs) {
    pixel_decoder_ = register_module(
        "pixel_decoder",
        p.pixel_decoder.build(PixelDecoderInputs{inputs, p.feat_channels, p.out_channels}));
    decoder_ = register_module("transformer_decoder",
                               std::make_shared<DetrDecoder>(p.transformer_decoder));
    const int64_t width = p.transformer_decoder.layer_cfg.self_attn_cfg.embed_dims;
    if (width != p.out_channels || width != p.feat_channels) {
      throw OptionError("transformer_decoder",
                        text("embed_dims is ", width, "; feat_channels (", p.feat_channels,
                             ") and out_channels (", p.out_channels, ") must be the same"));
    }
    const int64_t last = inputs.back().channels;
    if (pixel_decoder_->passes_backbone_memory() &&
        (width != last || p.enforce_decoder_input_project)) {
      input_proj_ = register_module(
          "decoder_input_proj",
          std::make_shared<Conv2d>(ConvOptions{.in_channels = last, .out_channels = width}));
    }
    query_embed_ = register_module(
        "query_embed", std::make_shared<torch::nn::EmbeddingImpl>(p.num_queries, p.out_channels));
    make_embeds(p.feat_channels);
  }

  void init_weights() override {
    pixel_decoder_->init_weights();
    if (input_proj_) {
      kaiming_init(*input_proj_,
                   {.a = 1, .fan_out = false, .leaky_relu = true, .uniform_distribution = true});
    }
    for (auto& parameter : decoder_->parameters()) {
      if (parameter.dim() > 1) torch::nn::init::xavier_uniform_(parameter);
    }
  }

 private:
  std::vector<QueryOutput> outputs(const std::vector<torch::Tensor>& features,
                                   const torch::Tensor& padding, bool all) override {
    const auto pixels = pixel_decoder_->forward(features, padding);
    const auto map = input_proj_ ? input_proj_->forward(pixels.memories[0]) : pixels.memories[0];
    const auto memory = map.flatten(2).transpose(1, 2);           // [N, h*w, C]
    const auto positions = p_.positional_encoding(map, padding);  // [N or 1, h*w, C]
    const auto allowed = allowed_keys(padding);
    const auto query_pos = query_embed_->weight.unsqueeze(0).expand({memory.size(0), -1, -1});
    auto query = at::zeros_like(query_pos);
    std::vector<QueryOutput> out;
    auto& layers = decoder_->layers();
    for (size_t i = 0; i < layers.size(); ++i) {
      query = layers[i].forward({.query = query,
                                 .query_pos = query_pos,
                                 .memory = memory,
                                 .memory_pos = positions,
                                 .allowed = allowed});
      const bool last = i + 1 == layers.size();
      if (last || (all && p_.transformer_decoder.return_intermediate)) {
        out.push_back(read(decoder_->post_norm().forward(query), pixels.mask_feature));
      }
    }
    return out;
  }

  torch::Tensor match(const torch::Tensor& classes, const torch::Tensor& masks,
                      const ImageTruth& truth) const override {
    auto small = truth.masks;
    if (small.size(0) > 0) {
      small = resize(small.unsqueeze(0), map_size(masks), false, "nearest").squeeze(0);
    }
    return assigner_->assign({classes, masks.flatten(1), truth.labels, small.flatten(1)});
  }

  std::array<torch::Tensor, 2> mask_losses(const torch::Tensor& masks, const torch::Tensor& truth,
                                           double count) const override {
    const auto large = resize(masks.unsqueeze(0), map_size(truth)).squeeze(0).flatten(1);
    const auto flat = truth.flatten(1);
    const auto pixels = static_cast<double>(flat.size(1));
    return {pixel_loss(large, flat, count * pixels), dice_loss(large, flat, count)};
  }

  std::shared_ptr<MaskPixelDecoder> pixel_decoder_;
  std::shared_ptr<DetrDecoder> decoder_;
  std::shared_ptr<Conv2d> input_proj_;  ///< null where the memory fits as it is
  std::shared_ptr<torch::nn::EmbeddingImpl> query_embed_;
};

SEG_REGISTER(DecodeHead, MaskFormerHead);

// --- Mask2Former --------------------------------------------------------------------------------

struct Mask2FormerHeadParams : MaskFormerHeadParams {
  Mask2FormerHeadParams() {
    loss_cls = {.type = "CrossEntropyLoss", .loss_weight = 2};
    loss_mask = {.type = "CrossEntropyLoss", .use_sigmoid = true, .loss_weight = 5};
    loss_dice = {
        .type = "DiceLoss", .use_sigmoid = true, .loss_weight = 5, .naive_dice = true, .eps = 1};
  }
  int64_t num_transformer_feat_level = 3;
};

/// Masks of queries that attend, map after map, to where their last masks were.
class Mask2FormerHead final : public MaskQueryHead {
 public:
  using Params = Mask2FormerHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Queries with masked attention that predict a class and a mask each.")
        .source("Mask2Former, Cheng et al. 2021, arXiv:2112.01527")
        .include(MaskFormerHeadParams::schema())
        .optional("num_transformer_feat_level", &Params::num_transformer_feat_level,
                  "maps that queries attend to in turn", at_least(1));
  }
  Mask2FormerHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : MaskQueryHead(p, inputs), levels_(static_cast<size_t>(p.num_transformer_feat_level)) {
    pixel_decoder_ = register_module(
        "pixel_decoder",
        p.pixel_decoder.build(PixelDecoderInputs{inputs, p.feat_channels, p.out_channels}));
    decoder_ = register_module("transformer_decoder",
                               std::make_shared<DetrDecoder>(p.transformer_decoder));
    const int64_t width = p.transformer_decoder.layer_cfg.self_attn_cfg.embed_dims;
    if (width != p.feat_channels) {
      throw OptionError("transformer_decoder",
                        text("embed_dims is ", width, ", but feat_channels ", p.feat_channels));
    }
    input_projs_ = register_module("decoder_input_projs", std::make_shared<ListOf<Layer>>());
    for (size_t i = 0; i < levels_; ++i) {
      if (p.enforce_decoder_input_project) {
        input_projs_->push_back(std::make_shared<Conv2d>(
            ConvOptions{.in_channels = p.feat_channels, .out_channels = width}));
      } else {
        input_projs_->push_back(std::make_shared<Identity>());
      }
    }
    const auto embedding = [&](const char* name, int64_t count) {
      return register_module(name,
                             std::make_shared<torch::nn::EmbeddingImpl>(count, p.feat_channels));
    };
    query_embed_ = embedding("query_embed", p.num_queries);
    query_feat_ = embedding("query_feat", p.num_queries);
    level_embed_ = embedding("level_embed", p.num_transformer_feat_level);
    make_embeds(p.feat_channels);
  }

  void init_weights() override {
    pixel_decoder_->init_weights();
    for (const auto& layer : *input_projs_) {
      if (auto* conv = dynamic_cast<Conv2d*>(layer.get())) {
        kaiming_init(*conv,
                     {.a = 1, .fan_out = false, .leaky_relu = true, .uniform_distribution = true});
      }
    }
    for (auto& parameter : decoder_->parameters()) {
      if (parameter.dim() > 1) torch::nn::init::xavier_normal_(parameter);
    }
  }

 private:
  std::vector<QueryOutput> outputs(const std::vector<torch::Tensor>& features,
                                   const torch::Tensor& padding, bool all) override {
    const auto pixels = pixel_decoder_->forward(features, padding);
    SEG_CHECK(pixels.memories.size() >= levels_, "the pixel decoder gives ", pixels.memories.size(),
              " maps, but queries attend to ", levels_);
    std::vector<torch::Tensor> memories, positions;
    for (size_t i = 0; i < levels_; ++i) {
      const auto& map = pixels.memories[i];
      memories.push_back((*input_projs_)[i].forward(map).flatten(2).transpose(1, 2) +
                         level_embed_->weight[static_cast<int64_t>(i)]);
      positions.push_back(p_.positional_encoding(map));
    }
    const int64_t images = pixels.mask_feature.size(0);
    const auto query_pos = query_embed_->weight.unsqueeze(0).expand({images, -1, -1});
    auto query = query_feat_->weight.unsqueeze(0).expand({images, -1, -1});
    auto& layers = decoder_->layers();
    std::vector<QueryOutput> out;
    for (size_t i = 0;; ++i) {
      auto said = read(decoder_->post_norm().forward(query), pixels.mask_feature);
      const bool last = i == layers.size();
      const size_t level = i % levels_;
      torch::Tensor allowed;
      if (!last) {
        const torch::NoGradGuard no_grad;
        allowed = resize(said.masks, map_size(pixels.memories[level])).flatten(2) >= 0;
        // A query that sees nothing looks everywhere.
        allowed = (allowed | ~allowed.any(-1, true)).unsqueeze(1);  // [N, 1, Q, h*w]
      }
      if (last || all) out.push_back(std::move(said));
      if (last) return out;
      query = layers[i].forward({.query = query,
                                 .query_pos = query_pos,
                                 .memory = memories[level],
                                 .memory_pos = positions[level],
                                 .allowed = allowed,
                                 .memory_first = true});
    }
  }

  torch::Tensor match(const torch::Tensor& classes, const torch::Tensor& masks,
                      const ImageTruth& truth) const override {
    const auto points = model_rand({1, p_.train_cfg->num_points, 2}, masks.options());
    const auto at_points = [&](const torch::Tensor& x) {
      if (x.size(0) == 0) return x.flatten(1).narrow(1, 0, 0);
      return point_sample(x.unsqueeze(0), points).squeeze(0);  // [count, P]
    };
    return assigner_->assign({classes, at_points(masks), truth.labels, at_points(truth.masks)});
  }

  std::array<torch::Tensor, 2> mask_losses(const torch::Tensor& masks, const torch::Tensor& truth,
                                           double count) const override {
    const auto& cfg = *p_.train_cfg;
    const auto logits = masks.unsqueeze(1);  // [M, 1, h, w]
    torch::Tensor points, wanted;
    {
      const torch::NoGradGuard no_grad;
      points = uncertain_points(
          logits, [](const torch::Tensor& x) { return -x.squeeze(1).abs(); }, cfg.num_points,
          cfg.oversample_ratio, cfg.importance_sample_ratio);
      wanted = point_sample(truth.unsqueeze(1), points).squeeze(1);  // [M, P]
    }
    const auto seen = point_sample(logits, points).squeeze(1);
    return {pixel_loss(seen, wanted, count * static_cast<double>(cfg.num_points)),
            dice_loss(seen, wanted, count)};
  }

  size_t levels_;
  std::shared_ptr<MaskPixelDecoder> pixel_decoder_;
  std::shared_ptr<DetrDecoder> decoder_;
  std::shared_ptr<ListOf<Layer>> input_projs_;
  std::shared_ptr<torch::nn::EmbeddingImpl> query_embed_, query_feat_, level_embed_;
};

SEG_REGISTER(DecodeHead, Mask2FormerHead);

}  // namespace seg
