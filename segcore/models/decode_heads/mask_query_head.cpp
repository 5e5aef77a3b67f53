#include "segcore/models/decode_heads/mask_query_head.hpp"
#include "segcore/models/label_error.hpp"

#include <algorithm>

#include "segcore/models/nn/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<MaskTrainCfg> MaskTrainCfg::schema() {
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

Schema<MaskQueryHeadParams> MaskQueryHeadParams::schema() {
  using P = MaskQueryHeadParams;
  return Schema<P>("")
      .optional("in_channels", &P::in_channels,
                "width of each map; null: that of the backbone or neck")
      .required("feat_channels", &P::feat_channels, "width of maps and queries", at_least(1))
      .required("out_channels", &P::out_channels, "width of the masks' features", at_least(1))
      .optional("num_classes", &P::num_classes, "classes, without the ignored one", at_least(1))
      .optional("num_queries", &P::num_queries, "masks predicted", at_least(1))
      .required("pixel_decoder", &P::pixel_decoder, "makes the maps that queries attend to")
      .optional("enforce_decoder_input_project", &P::enforce_decoder_input_project,
                "project the memory even where it has the width of the queries")
      .required("transformer_decoder", &P::transformer_decoder, "updates the queries")
      .optional("positional_encoding", &P::positional_encoding, "encoding of positions in maps")
      .optional("loss_cls", &P::loss_cls, "loss of the queries' classes")
      .optional("loss_mask", &P::loss_mask, "loss of the masks' pixels")
      .optional("loss_dice", &P::loss_dice, "loss of the masks' overlap")
      .optional("train_cfg", &P::train_cfg, "matching; null: only prediction")
      .optional("align_corners", &P::align_corners, "how the model resizes logits")
      .optional("ignore_index", &P::ignore_index, "label without loss; null: none")
      .accepted("init_cfg", "has no effect, as in MMDetection: weights are filled as in the paper")
      .accepted("test_cfg", "the model's test_cfg is used")
      .accepted("in_index", "all maps are used")
      .accepted("strides", "the pixel decoder knows them")
      .accepted("num_things_classes", "all classes are stuff; num_classes counts them")
      .accepted("num_stuff_classes", "all classes are stuff; num_classes counts them")
      .validate([](const P& p, Problems& problems) {
        const auto problem = p.loss_cls.build()->problem_with(p.num_classes);
        if (!problem.empty()) problems.error("loss_cls", problem);
        if (p.loss_mask.build()->measures_overlap()) {
          problems.error("loss_mask",
                         "must be a FocalLoss, or a CrossEntropyLoss with use_sigmoid");
        }
        if (!p.loss_dice.build()->measures_overlap()) {
          problems.error("loss_dice", "must be a DiceLoss");
        }
      });
}

namespace {

DecodeHeadParams query_head_base(const MaskQueryHeadParams& p,
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

/// Where a map [N, C, h, w] shows padding, bool [N, h, w]; undefined if nowhere.
///
/// As in MMSegmentation, the size of the first image before padding stands for that of the whole
/// batch: the padding of smaller images is marked, that of the first is not.
torch::Tensor padding_of(const std::vector<std::array<int64_t, 2>>& shapes,
                         const torch::Tensor& map) {
  if (shapes.empty()) return {};
  const auto inside = [&](size_t side, int64_t length) {
    // The row (or column) of the first image that each row of the map shows.
    const auto rows = at::arange(shapes[0][side], at::TensorOptions(at::kFloat)).view({1, 1, -1});
    const auto shown = at::upsample_nearest1d(rows, {length}).flatten();
    std::vector<double> ends;
    for (const auto& shape : shapes) ends.push_back(static_cast<double>(shape[side]));
    return shown < at::tensor(ends, at::kFloat).unsqueeze(1);  // [N, length]
  };
  const auto padding =
      (inside(0, map.size(2)).unsqueeze(2) & inside(1, map.size(3)).unsqueeze(1)).logical_not();
  return padding.any().item<bool>() ? padding.to(map.device()) : torch::Tensor();
}

/// Scores of pixels, [N, classes, h, w].
torch::Tensor semantic_scores(const torch::Tensor& classes, const torch::Tensor& masks) {
  // Half precision would lose the order of near classes.
  const Autocast off(masks.device().type(), std::nullopt);
  const auto scores =
      full_precision(classes).softmax(-1).narrow(2, 0, classes.size(2) - 1);  // [N, Q, classes]
  return at::einsum("bqc,bqhw->bchw", {scores, full_precision(masks).sigmoid()});
}

}  // namespace

MaskQueryHead::MaskQueryHead(const MaskQueryHeadParams& p, const std::vector<FeatureInfo>& inputs)
    : DecodeHead(query_head_base(p, inputs), inputs),
      p_(p),
      loss_cls_(p.loss_cls.build()),
      loss_mask_(p.loss_mask.build()),
      loss_dice_(p.loss_dice.build()) {
  pixel_decoder_ = register_module("pixel_decoder", p.pixel_decoder.build(PixelDecoderInputs{
                                                        inputs, p.feat_channels, p.out_channels}));
  decoder_ =
      register_module("transformer_decoder", std::make_shared<DetrDecoder>(p.transformer_decoder));
  if (p.train_cfg) assigner_ = p.train_cfg->assigner.build();
}

void MaskQueryHead::register_embeds() {
  const int64_t width = p_.feat_channels;
  cls_embed_ = register_module("cls_embed", std::make_shared<Linear>(width, p_.num_classes + 1));
  mask_embed_ = std::make_shared<Sequential>();
  const auto relu = [] {
    return std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); });
  };
  mask_embed_->push_back(std::make_shared<Linear>(width, width));
  mask_embed_->push_back(relu());
  mask_embed_->push_back(std::make_shared<Linear>(width, width));
  mask_embed_->push_back(relu());
  mask_embed_->push_back(std::make_shared<Linear>(width, p_.out_channels));
  register_module("mask_embed", mask_embed_);
}

QueryOutput MaskQueryHead::predict_queries(const torch::Tensor& queries,
                                           const torch::Tensor& mask_feature) {
  QueryOutput out;
  out.classes = cls_embed_->forward(queries);
  out.masks = at::bmm(mask_embed_->forward(queries), mask_feature.flatten(2))
                  .view({queries.size(0), -1, mask_feature.size(2), mask_feature.size(3)});
  return out;
}

torch::Tensor MaskQueryHead::forward(const std::vector<torch::Tensor>& features) {
  const auto last = outputs(features, {}, /*all=*/false).back();
  return semantic_scores(last.classes, last.masks);
}

torch::Tensor MaskQueryHead::predict(const std::vector<torch::Tensor>& features, Size2 image) {
  const auto last = outputs(features, {}, /*all=*/false).back();
  return semantic_scores(last.classes, resize(full_precision(last.masks), image));
}

// --- Losses -------------------------------------------------------------------------------------

LossMap MaskQueryHead::loss(const std::vector<torch::Tensor>& features, const Targets& targets) {
  if (!assigner_) {
    throw Error("a head without train_cfg cannot be trained: give it train_cfg.assigner");
  }
  const auto padding = padding_of(targets.img_shapes, features.back());
  const auto layers = outputs(features, padding, /*all=*/true);
  const auto truths = masks_of(targets.labels, wide_type(layers[0].masks));
  // All layers are matched before the first loss, so that processes exchange their counts once.
  std::vector<std::vector<torch::Tensor>> matched;
  std::vector<double> counts;
  for (const auto& layer : layers) {
    matched.push_back(match_images(layer, truths));
    int64_t count = 0;
    for (const auto& image : matched.back()) {
      count += std::max<int64_t>((image >= 0).sum().item<int64_t>(), 1);
    }
    counts.push_back(static_cast<double>(count));
  }
  auto mean_counts = at::tensor(counts, at::kDouble);
  average_over_processes_(mean_counts);

  std::vector<std::array<torch::Tensor, 3>> losses;
  for (size_t i = 0; i < layers.size(); ++i) {
    const double count = std::max(mean_counts[static_cast<int64_t>(i)].item<double>(), 1.0);
    losses.push_back(layer_losses(layers[i], truths, matched[i], count));
  }
  LossMap out;
  const auto add = [&](const std::string& prefix, const std::array<torch::Tensor, 3>& values) {
    const char* names[] = {"loss_cls", "loss_mask", "loss_dice"};
    for (size_t k = 0; k < values.size(); ++k) out.emplace_back(prefix + names[k], values[k]);
  };
  add("", losses.back());
  for (size_t i = 0; i + 1 < losses.size(); ++i) add(text("d", i, "."), losses[i]);
  return out;
}

/// The classes that the labels of each image hold, ignored ones apart.
/// \throws DataError for a label that is not a class.
std::vector<ImageMasks> MaskQueryHead::masks_of(const torch::Tensor& labels,
                                                at::ScalarType type) const {
  std::vector<ImageMasks> out;
  for (int64_t i = 0; i < labels.size(0); ++i) {
    const auto present = std::get<0>(at::_unique(labels[i]));
    ImageMasks truth;
    truth.labels = present.masked_select(present != ignore_index());
    const auto wrong = (truth.labels < 0) | (truth.labels >= p_.num_classes);
    if (wrong.any().item<bool>()) {
      throw LabelError(
          i, text("label ", truth.labels.masked_select(wrong)[0].item<int64_t>(), " in image ", i,
                  " of the batch is neither in [0, ", p_.num_classes - 1, "] nor ignored (",
                  ignore_index(), "). Check num_classes, reduce_zero_label and the annotations"));
    }
    truth.masks = (labels[i].unsqueeze(0) == truth.labels.view({-1, 1, 1})).to(type);
    out.push_back(std::move(truth));
  }
  return out;
}

std::vector<torch::Tensor> MaskQueryHead::match_images(
    const QueryOutput& output, const std::vector<ImageMasks>& truths) const {
  std::vector<torch::Tensor> out;
  for (size_t i = 0; i < truths.size(); ++i) {
    const auto n = static_cast<int64_t>(i);
    out.push_back(match(output.classes[n].detach(), output.masks[n].detach(), truths[i]));
  }
  return out;
}

/// Losses of classes, pixels and overlap of one layer.
/// \param matched  what match() returned for each image.
/// \param count  pairs of a query and a class, a mean over processes.
std::array<torch::Tensor, 3> MaskQueryHead::layer_losses(const QueryOutput& output,
                                                         const std::vector<ImageMasks>& truths,
                                                         const std::vector<torch::Tensor>& matched,
                                                         double count) const {
  std::vector<torch::Tensor> labels, masks, truth_masks;
  for (size_t i = 0; i < truths.size(); ++i) {
    const auto device = truths[i].labels.device();
    const auto found = (matched[i] >= 0).nonzero().squeeze(1);
    const auto queries = found.to(device);
    const auto classes = matched[i].index_select(0, found).to(device);
    labels.push_back(at::full({matched[i].size(0)}, p_.num_classes, truths[i].labels.options())
                         .index_copy(0, queries, truths[i].labels.index_select(0, classes)));
    masks.push_back(output.masks[static_cast<int64_t>(i)].index_select(0, queries));
    truth_masks.push_back(truths[i].masks.index_select(0, classes));
  }
  const auto loss_cls = (*loss_cls_)(output.classes.flatten(0, 1), at::cat(labels));
  const auto mask = at::cat(masks);  // [M, h, w]
  if (mask.size(0) == 0) return {loss_cls, mask.sum(), mask.sum()};
  const auto pairs = pairs_of(mask, at::cat(truth_masks));
  return {loss_cls, (*loss_mask_)(pairs.logits, pairs.truth, count),
          (*loss_dice_)(pairs.logits, pairs.truth, count)};
}

}  // namespace seg
