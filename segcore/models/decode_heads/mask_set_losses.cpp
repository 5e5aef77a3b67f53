#include "segcore/models/decode_heads/mask_set_losses.hpp"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <utility>

#include "segcore/models/blocks/point_sample.hpp"
#include "segcore/models/label_error.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/precision.hpp"
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
  const auto matched = match(layers, truths, random);
  std::vector<double> counts;
  std::vector<int64_t> places;  // of all pairs, queries before classes in each image
  for (const auto& images : matched) {
    int64_t count = 0;
    for (const Pairs& pairs : images) {
      count += std::max(std::ssize(pairs.queries), options_.count_of_empty);
      places.insert(places.end(), pairs.queries.begin(), pairs.queries.end());
      places.insert(places.end(), pairs.classes.begin(), pairs.classes.end());
    }
    counts.push_back(static_cast<double>(count));
  }
  auto means = at::tensor(counts, at::kDouble);
  average(means);
  const auto on_device = at::tensor(places, at::kLong).to(labels.device());
  int64_t taken = 0;
  const auto next = [&](const std::vector<int64_t>& some) {
    taken += std::ssize(some);
    return on_device.narrow(0, taken - std::ssize(some), std::ssize(some));
  };
  std::vector<LossMap> out;
  for (size_t i = 0; i < layers.size(); ++i) {
    std::vector<DevicePairs> pairs;
    for (const Pairs& image : matched[i]) {
      auto& one = pairs.emplace_back();
      one.queries = next(image.queries);
      one.classes = next(image.classes);
    }
    const double count = std::max(means.const_data_ptr<double>()[i], 1.0);
    out.push_back(layer_losses(layers[i], truths, pairs, count, random));
  }
  return out;
}

/// The classes that the labels of each image hold, ignored ones apart.
/// \throws LabelError for a label that is not a class.
std::vector<ImageMasks> MaskSetLosses::masks_of(const torch::Tensor& labels,
                                                at::ScalarType type) const {
  const int64_t images = labels.size(0), classes = options_.num_classes;
  const auto ignored = labels == options_.ignore_index;
  const auto wrong = ((labels < 0) | (labels >= classes)) & ~ignored;
  // A column for each class, one for what is none, one for what is ignored.
  const auto column = labels.masked_fill(wrong, classes).masked_fill_(ignored, classes + 1);
  const auto found = at::zeros({images, classes + 2}, labels.options().dtype(at::kBool))
                         .scatter_(1, column.flatten(1), true)
                         .to(at::kCPU);
  std::vector<std::vector<int64_t>> present(static_cast<size_t>(images));
  std::vector<int64_t> all;
  for (int64_t i = 0; i < images; ++i) {
    const bool* row = found.const_data_ptr<bool>() + i * (classes + 2);
    if (row[classes]) {
      const auto least = labels[i].masked_select(wrong[i]).min().item<int64_t>();
      throw LabelError(i, text("label ", least, " in image ", i, " of the batch is neither in [0, ",
                               classes - 1, "] nor ignored (", options_.ignore_index,
                               "). Check num_classes, reduce_zero_label and the annotations"));
    }
    for (int64_t c = 0; c < classes; ++c) {
      if (!row[c]) continue;
      present[static_cast<size_t>(i)].push_back(c);
      all.push_back(c);
    }
  }
  const auto on_device = at::tensor(all, at::kLong).to(labels.device());
  std::vector<ImageMasks> out;
  int64_t taken = 0;
  for (int64_t i = 0; i < images; ++i) {
    const auto count = std::ssize(present[static_cast<size_t>(i)]);
    ImageMasks truth;
    truth.labels = on_device.narrow(0, taken, count);
    truth.masks = (labels[i].unsqueeze(0) == truth.labels.view({-1, 1, 1})).to(type);
    out.push_back(std::move(truth));
    taken += count;
  }
  return out;
}

/// The pairs of each layer and image, by query.
std::vector<std::vector<MaskSetLosses::Pairs>> MaskSetLosses::match(
    const std::vector<QueryOutput>& layers, const std::vector<ImageMasks>& truths,
    const RandomSource& random) const {
  std::vector<torch::Tensor> costs;
  std::vector<int64_t> sizes;
  for (const QueryOutput& layer : layers) {
    for (size_t i = 0; i < truths.size(); ++i) {
      const auto n = static_cast<int64_t>(i);
      costs.push_back(assigner_->costs(comparison_->match_inputs(
          layer.classes[n].detach(), layer.masks[n].detach(), truths[i], random)));
      sizes.push_back(costs.back().numel());
    }
  }
  std::vector<torch::Tensor> flat;
  for (const auto& cost : costs) flat.push_back(cost.flatten());
  const auto on_cpu = at::cat(flat).to(at::kCPU, at::kDouble).split_with_sizes(sizes);
  std::vector<std::vector<Pairs>> out(layers.size(), std::vector<Pairs>(truths.size()));
  at::parallel_for(0, std::ssize(costs), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const auto truth_of = assigner_->assign(on_cpu[i].view(costs[i].sizes()));
      Pairs& pairs = out[i / truths.size()][i % truths.size()];
      for (size_t query = 0; query < truth_of.size(); ++query) {
        if (truth_of[query] < 0) continue;
        pairs.queries.push_back(static_cast<int64_t>(query));
        pairs.classes.push_back(truth_of[query]);
      }
    }
  });
  return out;
}

/// \param pairs  of each image.
/// \param count  pairs of a query and a class, a mean over processes.
LossMap MaskSetLosses::layer_losses(const QueryOutput& output,
                                    const std::vector<ImageMasks>& truths,
                                    const std::vector<DevicePairs>& pairs, double count,
                                    const RandomSource& random) const {
  RECORD_USER_SCOPE("loss");
  std::vector<torch::Tensor> labels, masks, truth_masks;
  for (size_t i = 0; i < truths.size(); ++i) {
    const auto& [queries, classes] = pairs[i];
    labels.push_back(
        at::full({output.classes.size(1)}, options_.num_classes, truths[i].labels.options())
            .index_copy(0, queries, truths[i].labels.index_select(0, classes)));
    masks.push_back(output.masks[static_cast<int64_t>(i)].index_select(0, queries));
    truth_masks.push_back(truths[i].masks.index_select(0, classes));
  }
  const auto mask = at::cat(masks);  // [M, h, w]
  const bool any = mask.size(0) > 0;
  const auto compared =
      any ? comparison_->pairs_of(mask, at::cat(truth_masks), random) : MaskPairs();
  LossMap out;
  for (const auto& term : terms_) {
    if (term.classes) {
      out.emplace_back(term.name, (*term.classes)(output.classes.flatten(0, 1), at::cat(labels)));
    } else {
      out.emplace_back(term.name,
                       any ? (*term.masks)(compared.logits, compared.truth, count) : mask.sum());
    }
  }
  return out;
}

}  // namespace seg
