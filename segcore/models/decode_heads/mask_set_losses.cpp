#include "segcore/models/decode_heads/mask_set_losses.hpp"

#include <ATen/record_function.h>

#include <algorithm>
#include <utility>

#include "segcore/models/blocks/point_sample.hpp"
#include "segcore/models/label_error.hpp"
#include "segcore/models/nn/precision.hpp"
#include "segcore/models/nn/resize.hpp"
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

torch::Tensor semantic_scores(const QueryOutput& output) {
  // Half precision would lose the order of near classes.
  const Autocast off(output.masks.device().type(), std::nullopt);
  const auto scores = full_precision(output.classes)
                          .softmax(-1)
                          .narrow(2, 0, output.classes.size(2) - 1);  // [N, Q, classes]
  return at::einsum("bqc,bqhw->bchw", {scores, full_precision(output.masks).sigmoid()});
}

// --- Where masks are compared -------------------------------------------------------------------

namespace {

class AllPixels final : public MaskComparison {
 public:
  MatchInputs match_inputs(const torch::Tensor& classes, const torch::Tensor& masks,
                           const ImageMasks& truth, const RandomSource&) const override {
    auto small = truth.masks;
    if (small.size(0) > 0) {
      small = resize(small.unsqueeze(0), map_size(masks), false, "nearest").squeeze(0);
    }
    return {classes, masks.flatten(1), truth.labels, small.flatten(1)};
  }

  MaskPairs pairs_of(const torch::Tensor& masks, const torch::Tensor& truth,
                     const RandomSource&) const override {
    const auto large = resize(full_precision(masks).unsqueeze(0), map_size(truth)).squeeze(0);
    return {large.flatten(1), truth.flatten(1)};
  }
};

class RandomPoints final : public MaskComparison {
 public:
  explicit RandomPoints(const MaskTrainCfg& cfg)
      : options_{.num_points = cfg.num_points,
                 .oversample_ratio = cfg.oversample_ratio,
                 .importance_sample_ratio = cfg.importance_sample_ratio} {}

  MatchInputs match_inputs(const torch::Tensor& classes, const torch::Tensor& masks,
                           const ImageMasks& truth, const RandomSource& random) const override {
    const auto points =
        random({1, options_.num_points, 2}, masks.options().dtype(wide_type(masks)));
    const auto at_points = [&](const torch::Tensor& x) {
      if (x.size(0) == 0) return x.flatten(1).narrow(1, 0, 0);
      return point_sample(x.unsqueeze(0), points).squeeze(0);  // [count, P]
    };
    return {classes, at_points(masks), truth.labels, at_points(truth.masks)};
  }

  MaskPairs pairs_of(const torch::Tensor& masks, const torch::Tensor& truth,
                     const RandomSource& random) const override {
    const auto logits = masks.unsqueeze(1);  // [M, 1, h, w]
    MaskPairs out;
    torch::Tensor points;
    {
      const torch::NoGradGuard no_grad;
      points = uncertain_points(
          logits, [](const torch::Tensor& x) { return -x.squeeze(1).abs(); }, options_, random);
      out.truth = point_sample(truth.unsqueeze(1), points).squeeze(1);
    }
    out.logits = point_sample(logits, points).squeeze(1);
    return out;
  }

 private:
  UncertainPointsOptions options_;
};

}  // namespace

std::unique_ptr<MaskComparison> compare_all_pixels() { return std::make_unique<AllPixels>(); }

std::unique_ptr<MaskComparison> compare_at_points(const MaskTrainCfg& cfg) {
  return std::make_unique<RandomPoints>(cfg);
}

// --- Losses -------------------------------------------------------------------------------------

MaskSetLosses::MaskSetLosses(const Options& options, std::unique_ptr<Assigner> assigner,
                             std::unique_ptr<MaskComparison> comparison,
                             std::vector<MaskSetTerm> terms)
    : options_(options),
      assigner_(std::move(assigner)),
      comparison_(std::move(comparison)),
      terms_(std::move(terms)) {}

std::vector<LossMap> MaskSetLosses::operator()(const std::vector<QueryOutput>& layers,
                                               const torch::Tensor& labels, const Average& average,
                                               const RandomSource& random) const {
  const auto truths = masks_of(labels, wide_type(layers.at(0).masks));
  // All layers are matched before the first loss, so that processes exchange their counts once.
  std::vector<std::vector<torch::Tensor>> matched;
  std::vector<double> counts;
  for (const auto& layer : layers) {
    matched.push_back(match_images(layer, truths, random));
    int64_t count = 0;
    for (const auto& image : matched.back()) {
      count += std::max((image >= 0).sum().item<int64_t>(), options_.count_of_empty);
    }
    counts.push_back(static_cast<double>(count));
  }
  auto mean_counts = at::tensor(counts, at::kDouble);
  average(mean_counts);
  std::vector<LossMap> out;
  for (size_t i = 0; i < layers.size(); ++i) {
    const double count = std::max(mean_counts[static_cast<int64_t>(i)].item<double>(), 1.0);
    out.push_back(layer_losses(layers[i], truths, matched[i], count, random));
  }
  return out;
}

/// The classes that the labels of each image hold, ignored ones apart.
/// \throws DataError for a label that is not a class.
std::vector<ImageMasks> MaskSetLosses::masks_of(const torch::Tensor& labels,
                                                at::ScalarType type) const {
  std::vector<ImageMasks> out;
  for (int64_t i = 0; i < labels.size(0); ++i) {
    const auto present = std::get<0>(at::_unique(labels[i]));
    ImageMasks truth;
    truth.labels = present.masked_select(present != options_.ignore_index);
    const auto wrong = (truth.labels < 0) | (truth.labels >= options_.num_classes);
    if (wrong.any().item<bool>()) {
      throw LabelError(i, text("label ", truth.labels.masked_select(wrong)[0].item<int64_t>(),
                               " in image ", i, " of the batch is neither in [0, ",
                               options_.num_classes - 1, "] nor ignored (", options_.ignore_index,
                               "). Check num_classes, reduce_zero_label and the annotations"));
    }
    truth.masks = (labels[i].unsqueeze(0) == truth.labels.view({-1, 1, 1})).to(type);
    out.push_back(std::move(truth));
  }
  return out;
}

/// For each image the class that each query stands for, or -1; int64 [Q] on the CPU.
std::vector<torch::Tensor> MaskSetLosses::match_images(const QueryOutput& output,
                                                       const std::vector<ImageMasks>& truths,
                                                       const RandomSource& random) const {
  std::vector<torch::Tensor> out;
  for (size_t i = 0; i < truths.size(); ++i) {
    const auto n = static_cast<int64_t>(i);
    out.push_back(assigner_->assign(comparison_->match_inputs(
        output.classes[n].detach(), output.masks[n].detach(), truths[i], random)));
  }
  return out;
}

/// \param matched  what match_images() returned.
/// \param count  pairs of a query and a class, a mean over processes.
LossMap MaskSetLosses::layer_losses(const QueryOutput& output,
                                    const std::vector<ImageMasks>& truths,
                                    const std::vector<torch::Tensor>& matched, double count,
                                    const RandomSource& random) const {
  RECORD_USER_SCOPE("loss");
  std::vector<torch::Tensor> labels, masks, truth_masks;
  for (size_t i = 0; i < truths.size(); ++i) {
    const auto device = truths[i].labels.device();
    const auto found = (matched[i] >= 0).nonzero().squeeze(1);
    const auto queries = found.to(device);
    const auto classes = matched[i].index_select(0, found).to(device);
    labels.push_back(
        at::full({matched[i].size(0)}, options_.num_classes, truths[i].labels.options())
            .index_copy(0, queries, truths[i].labels.index_select(0, classes)));
    masks.push_back(output.masks[static_cast<int64_t>(i)].index_select(0, queries));
    truth_masks.push_back(truths[i].masks.index_select(0, classes));
  }
  const auto mask = at::cat(masks);  // [M, h, w]
  const bool any = mask.size(0) > 0;
  const auto pairs = any ? comparison_->pairs_of(mask, at::cat(truth_masks), random) : MaskPairs();
  LossMap out;
  for (const auto& term : terms_) {
    if (term.classes) {
      out.emplace_back(term.name, (*term.classes)(output.classes.flatten(0, 1), at::cat(labels)));
    } else {
      out.emplace_back(term.name,
                       any ? (*term.masks)(pairs.logits, pairs.truth, count) : mask.sum());
    }
  }
  return out;
}

}  // namespace seg
