/// A data set whose samples are mixed with each other, as RandomMosaic does.
#include <algorithm>

#include "segcore/data/dataset.hpp"
#include "segcore/data/pipeline.hpp"

namespace seg {

struct MultiImageMixDatasetParams {
  Spec<Dataset> dataset;
  std::vector<Spec<Transform>> pipeline;
  std::optional<std::vector<std::string>> skip_type_keys;
  bool lazy_init = false;
};

namespace {

/// Sets the draws of the mixing apart from those of the data set, which have the same seed.
constexpr uint64_t kMixSeed = 0xD1B54A32D192ED03u;

std::vector<Spec<Transform>> steps_kept(const MultiImageMixDatasetParams& p) {
  std::vector<Spec<Transform>> out;
  for (const auto& step : p.pipeline) {
    const auto& skipped = p.skip_type_keys;
    if (skipped && std::find(skipped->begin(), skipped->end(), step.type()) != skipped->end()) {
      continue;
    }
    out.push_back(step);
  }
  return out;
}

}  // namespace

class MultiImageMixDataset final : public Dataset {
 public:
  using Params = MultiImageMixDatasetParams;
  static Schema<Params> schema() {
    return Schema<Params>("A data set whose samples go on through steps that mix several of them.")
        .source("MMSegmentation 1.2")
        .required("dataset", &Params::dataset, "where samples come from, with steps of its own")
        .required("pipeline", &Params::pipeline, "the steps that follow those of the data set")
        .optional("skip_type_keys", &Params::skip_type_keys, "types of steps to leave out")
        .optional("lazy_init", &Params::lazy_init,
                  "accepted: the data set has its own lazy_init, which counts");
  }
  static DatasetFacts facts(const Params& p) {
    return {.inner = {p.dataset}, .classes = p.dataset.facts().classes};
  }
  explicit MultiImageMixDataset(const Params& params)
      : inner_(params.dataset.build()), pipeline_(steps_kept(params), Mixing::kAllowed) {}

  size_t size() const override { return inner_->size(); }
  std::vector<Sample> unpacked(size_t index, uint64_t seed, uint64_t epoch,
                               Unusable unusable) const override {
    const auto other = [&](Rng& rng) {
      const auto drawn = static_cast<size_t>(rng.below(static_cast<int64_t>(size())));
      // A seed of its own: the other sample is augmented otherwise than in its own turn.
      const uint64_t own_seed = seed + rng.bits() * kMixSeed;
      return inner_->unpacked(drawn, own_seed, epoch, Unusable::kReplaced).at(0);
    };
    std::vector<Sample> out;
    for (Sample& sample : inner_->unpacked(index, seed, epoch, unusable)) {
      sample.meta.index = static_cast<int64_t>(index);
      for (Sample& mixed : pipeline_.run(std::move(sample), seed ^ kMixSeed, epoch, other)) {
        mixed.meta.variant = static_cast<int64_t>(out.size());
        out.push_back(std::move(mixed));
      }
    }
    return out;
  }
  const DatasetMeta& meta() const override { return inner_->meta(); }
  std::pair<std::string, std::string> paths(size_t index) const override {
    return inner_->paths(index);
  }
  Sample describe(size_t index) const override { return inner_->describe(index); }
  Sample with_image(size_t index) const override { return inner_->with_image(index); }
  Sample with_labels(size_t index) const override { return inner_->with_labels(index); }
  RawLabels raw_labels(size_t index) const override { return inner_->raw_labels(index); }
  std::string output_name(size_t index) const override { return inner_->output_name(index); }
  bool in_memory(size_t index) const override { return inner_->in_memory(index); }
  std::vector<size_t> corrupt_samples() const override { return inner_->corrupt_samples(); }
  bool skips_corrupt() const override { return inner_->skips_corrupt(); }
  std::vector<std::string> annotations_without_image() const override {
    return inner_->annotations_without_image();
  }

 private:
  std::unique_ptr<Dataset> inner_;
  Pipeline pipeline_;
};
SEG_REGISTER(Dataset, MultiImageMixDataset);

}  // namespace seg
