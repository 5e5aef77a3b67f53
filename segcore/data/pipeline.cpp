#include "segcore/data/pipeline.hpp"

#include <algorithm>

namespace seg {

Pipeline::Pipeline(const std::vector<Spec<Transform>>& steps, Mixing mixing) {
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
      const TransformTraits traits = steps_.back()->traits();
      if (traits.ends_pipeline) last = &step;
      if (traits.mixes && mixing == Mixing::kRefused) {
        errors.found().error(step.config().origin, step.path(),
                             text(step.type(),
                                  " mixes several samples: put it into the pipeline of a "
                                  "MultiImageMixDataset around this data set"));
      }
    });
  }
  errors.throw_if_any();
}

std::vector<Sample> Pipeline::run(Sample sample, Rng& rng, const Others& others) const {
  std::vector<Sample> samples;
  samples.push_back(std::move(sample));
  for (const auto& step : steps_) {
    std::vector<Sample> next;
    for (Sample& one : samples) {
      for (int64_t missing = step->draw_others(rng); missing > 0; --missing) {
        one.others.push_back(others(rng));
      }
      for (Sample& result : step->expand(std::move(one), rng)) {
        result.others.clear();
        next.push_back(std::move(result));
      }
    }
    samples = std::move(next);
  }
  for (Sample& one : samples) settle(one);
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
    if (!sample.image.empty() || sample.volume.image.defined()) break;
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

std::vector<Sample> Pipeline::run(Sample sample, uint64_t seed, uint64_t epoch,
                                  const Others& others) const {
  Rng rng(seed, RngPurpose::kAugmentation, epoch, static_cast<uint64_t>(sample.meta.index));
  auto out = run(std::move(sample), rng, others);
  for (size_t i = 0; i < out.size(); ++i) out[i].meta.variant = static_cast<int64_t>(i);
  return out;
}

std::vector<PackedSample> Pipeline::operator()(Sample sample, uint64_t seed, uint64_t epoch) const {
  std::vector<PackedSample> out;
  for (Sample& result : run(std::move(sample), seed, epoch)) out.push_back(pack(std::move(result)));
  return out;
}

}  // namespace seg
