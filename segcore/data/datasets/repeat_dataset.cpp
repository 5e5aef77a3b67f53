/// A data set several times over, so that an epoch is longer.
#include "segcore/data/dataset.hpp"

namespace seg {

struct RepeatDatasetParams {
  Spec<Dataset> dataset;
  int64_t times = 1;
  bool lazy_init = false;
};

class RepeatDataset final : public Dataset {
 public:
  using Params = RepeatDatasetParams;
  static Schema<Params> schema() {
    return Schema<Params>("A data set several times over, so that an epoch is longer.")
        .required("dataset", &Params::dataset, "what is repeated")
        .required("times", &Params::times, "how often", at_least(1))
        .optional("lazy_init", &Params::lazy_init,
                  "accepted: the data set has its own lazy_init, which counts");
  }
  static DatasetFacts facts(const Params& p) {
    return {.inner = {p.dataset}, .classes = p.dataset.facts().classes};
  }
  explicit RepeatDataset(const Params& params)
      : inner_(params.dataset.build()), times_(static_cast<size_t>(params.times)) {}

  size_t size() const override { return times_ * inner_->size(); }
  std::vector<Sample> unpacked(size_t index, uint64_t seed, uint64_t epoch,
                               Unusable unusable) const override {
    // Each repetition is an epoch of the data set, so that its augmentations differ.
    auto samples = inner_->unpacked(index % inner_->size(), seed,
                                    epoch * times_ + index / inner_->size(), unusable);
    for (auto& sample : samples) sample.meta.index = static_cast<int64_t>(index);
    return samples;
  }
  const DatasetMeta& meta() const override { return inner_->meta(); }
  std::pair<std::string, std::string> paths(size_t index) const override {
    return inner_->paths(index % inner_->size());
  }
  Sample describe(size_t index) const override {
    Sample sample = inner_->describe(index % inner_->size());
    sample.meta.index = static_cast<int64_t>(index);
    return sample;
  }
  Sample with_image(size_t index) const override {
    return inner_->with_image(index % inner_->size());
  }
  Sample with_labels(size_t index) const override {
    return inner_->with_labels(index % inner_->size());
  }
  RawLabels raw_labels(size_t index) const override {
    return inner_->raw_labels(index % inner_->size());
  }
  std::string output_name(size_t index) const override {
    return inner_->output_name(index % inner_->size());
  }
  bool in_memory(size_t index) const override { return inner_->in_memory(index % inner_->size()); }
  /// Each with all of its repetitions.
  std::vector<size_t> corrupt_samples() const override {
    const auto once = inner_->corrupt_samples();
    std::vector<size_t> out;
    for (size_t time = 0; time < times_; ++time) {
      for (const size_t index : once) out.push_back(time * inner_->size() + index);
    }
    return out;
  }

  bool skips_corrupt() const override { return inner_->skips_corrupt(); }
  std::vector<std::string> annotations_without_image() const override {
    return inner_->annotations_without_image();
  }

 private:
  std::unique_ptr<Dataset> inner_;
  size_t times_;
};

SEG_REGISTER(Dataset, RepeatDataset);

}  // namespace seg
