#include "runners/evaluate/object_scale.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "registry/error.hpp"
#include "registry/text.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/data/dataset.hpp"

namespace seg {
namespace {

/// Factors by which a pipeline resizes images.
struct ScaleRange {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  void add(const SampleMeta& meta);
  std::string text() const {
    return least == most ? seg::text(least) : seg::text(least, " to ", most);
  }
};

/// Two digits suffice to recognise a factor.
double rounded(double factor) {
  const double unit = std::pow(10, std::floor(std::log10(factor)) - 1);
  return std::round(factor / unit) * unit;
}

void ScaleRange::add(const SampleMeta& meta) {
  const auto [x, y] = meta.scale_factor;
  const double factor = rounded(std::sqrt(x * y));
  least = std::min(least, factor);
  most = std::max(most, factor);
}

/// Of samples spread evenly over the data set; each sample of a random pipeline is another draw.
ScaleRange observed_scales(const Dataset& dataset) {
  constexpr size_t kSamples = 4;
  ScaleRange out;
  const size_t count = std::min(kSamples, dataset.size());
  for (size_t i = 0; i < count; ++i) {
    try {
      for (const PackedSample& sample :
           dataset.get(i * dataset.size() / count, /*seed=*/i, /*epoch=*/0)) {
        out.add(sample.meta);
      }
    } catch (const DataError&) {
      // The run reports it when it comes to this sample.
    }
  }
  return out;
}

std::string compare_scales(const ScaleRange& trained, const ScaleRange& evaluated,
                           const char* evaluation) {
  constexpr double kTolerated = 1.5;
  if (trained.most <= 0 || evaluated.most <= 0) return "";
  if (evaluated.least <= trained.most * kTolerated &&
      evaluated.most * kTolerated >= trained.least) {
    return "";
  }
  return text("training resizes images by ", trained.text(), ", ", evaluation, " by ",
              evaluated.text(),
              ": models recognise objects at the sizes that they were trained on. Give both "
              "pipelines a Resize to the same scale");
}

}  // namespace

std::string scale_warning(const Dataset& training, const Batch& validation) {
  // Reading a damaged sample would count it among those that the run has met.
  if (training.skips_corrupt()) return "";
  ScaleRange validated;
  for (const PackedSample& sample : validation.samples) validated.add(sample.meta);
  return compare_scales(observed_scales(training), validated, "validation");
}

std::string test_scale_warning(const RunConfig& config, const Dataset& test) {
  if (!config.train_dataloader || test.skips_corrupt()) return "";
  try {
    const auto training = config.train_dataloader->dataset.build();
    if (training->skips_corrupt()) return "";
    return compare_scales(observed_scales(*training), observed_scales(test), "the test");
  } catch (const DataError&) {
    return "";  // the machine of the test need not have the files of training
  } catch (const ConfigError&) {
    return "";
  }
}

}  // namespace seg
