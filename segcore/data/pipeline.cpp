#include "segcore/data/pipeline.hpp"

#include <algorithm>

namespace seg {

Pipeline::Pipeline(const std::vector<Spec<Transform>>& steps) {
  BuildErrors errors;
  const Spec<Transform>* last = nullptr;  // the step before, where it ends a pipeline
  for (const auto& step : steps) {
    if (last) {
      errors.found().error(step.config().origin, step.path(),
                           text(step.type(), " cannot follow ", last->type(),
                                ", which ends a pipeline. Put it before"));
    }
    last = nullptr;
    errors.attempt([&] {
      steps_.push_back(step.build());
      if (steps_.back()->traits().ends_pipeline) last = &step;
    });
  }
  errors.throw_if_any();
}

std::vector<Sample> Pipeline::run(Sample sample, Rng& rng) const {
  std::vector<Sample> samples;
  samples.push_back(std::move(sample));
  for (const auto& step : steps_) {
    std::vector<Sample> next;
    for (Sample& one : samples) {
      for (Sample& result : step->expand(std::move(one), rng)) next.push_back(std::move(result));
    }
    samples = std::move(next);
  }
  return samples;
}

bool Pipeline::loads_labels() const {
  return std::any_of(steps_.begin(), steps_.end(),
                     [](const auto& step) { return step->traits().loads_labels; });
}

SplitPipeline split_after_loading(const std::vector<Spec<Transform>>& steps) {
  const Pipeline whole(steps);
  std::vector<Spec<Transform>> load, rest;
  for (size_t i = 0; i < steps.size(); ++i) {
    const TransformTraits traits = whole.traits(i);
    if (traits.labels_only) continue;
    (rest.empty() && traits.loads_image ? load : rest).push_back(steps[i]);
  }
  if (load.empty()) load.push_back(Spec<Transform>::of("{type: LoadImageFromFile}"));
  return {Pipeline(load), Pipeline(rest)};
}

Sample Pipeline::load_image(Sample sample) const {
  Rng unused(0, RngPurpose::kAugmentation, 0, static_cast<uint64_t>(sample.meta.index));
  for (const auto& step : steps_) {
    if (!sample.image.empty()) break;
    step->apply(sample, unused);
  }
  return sample;
}

Sample Pipeline::load_labels(Sample sample) const {
  Rng unused(0, RngPurpose::kCheck, 0, static_cast<uint64_t>(sample.meta.index));
  for (const auto& step : steps_) {
    if (!step->traits().loads_labels) continue;
    step->apply(sample, unused);
    break;
  }
  return sample;
}

const LabelReader* Pipeline::label_reader() const {
  for (const auto& step : steps_) {
    if (const auto* reader = dynamic_cast<const LabelReader*>(step.get())) return reader;
  }
  return nullptr;
}

std::vector<PackedSample> Pipeline::operator()(Sample sample, uint64_t seed, uint64_t epoch) const {
  Rng rng(seed, RngPurpose::kAugmentation, epoch, static_cast<uint64_t>(sample.meta.index));
  std::vector<PackedSample> out;
  for (Sample& result : run(std::move(sample), rng)) {
    result.meta.variant = static_cast<int64_t>(out.size());
    out.push_back(pack(std::move(result)));
  }
  return out;
}

}  // namespace seg
