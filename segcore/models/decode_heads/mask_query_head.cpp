#include "segcore/models/decode_heads/mask_query_head.hpp"

#include <algorithm>

#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

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
  return *padding.any().const_data_ptr<bool>() ? padding.to(map.device()) : torch::Tensor();
}

}  // namespace

MaskQueryHead::MaskQueryHead(const MaskQueryHeadParams& p, const std::vector<FeatureInfo>& inputs,
                             std::unique_ptr<MaskComparison> comparison)
    : DecodeHead(query_head_base(p, inputs), inputs), p_(p) {
  pixel_decoder_ = register_module("pixel_decoder", p.pixel_decoder.build(PixelDecoderInputs{
                                                        inputs, p.feat_channels, p.out_channels}));
  decoder_ =
      register_module("transformer_decoder", std::make_shared<DetrDecoder>(p.transformer_decoder));
  if (!p.train_cfg) return;
  std::vector<MaskSetTerm> terms;
  terms.push_back({.name = "loss_cls", .classes = p.loss_cls.build(), .masks = nullptr});
  terms.push_back({.name = "loss_mask", .classes = nullptr, .masks = p.loss_mask.build()});
  terms.push_back({.name = "loss_dice", .classes = nullptr, .masks = p.loss_dice.build()});
  mask_losses_.emplace(
      MaskSetLosses::Options{.num_classes = p.num_classes, .ignore_index = ignore_index()},
      p.train_cfg->assigner.build(), std::move(comparison), std::move(terms));
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
  return semantic_scores(outputs(features, {}, /*all=*/false).back());
}

torch::Tensor MaskQueryHead::predict(const std::vector<torch::Tensor>& features, Size2 image) {
  auto last = outputs(features, {}, /*all=*/false).back();
  last.masks = resize(full_precision(last.masks), image);
  return semantic_scores(last);
}

LossMap MaskQueryHead::loss(const std::vector<torch::Tensor>& features, const Targets& targets) {
  if (!mask_losses_) {
    throw Error("a head without train_cfg cannot be trained: give it train_cfg.assigner");
  }
  const auto padding = padding_of(targets.img_shapes, features.back());
  const auto layers = (*mask_losses_)(
      outputs(features, padding, /*all=*/true), targets.labels,
      [this](at::Tensor& counts) { average_over_processes_(counts); }, random_source());
  LossMap out = layers.back();
  for (size_t i = 0; i + 1 < layers.size(); ++i) {
    for (const auto& [name, value] : layers[i]) out.emplace_back(text("d", i, ".", name), value);
  }
  return out;
}

}  // namespace seg
