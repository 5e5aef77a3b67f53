/// Published data sets over BaseSegDataset. Each is a table of facts in a file of its own.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "segcore/data/datasets/base_seg_dataset.hpp"

namespace seg {

struct KnownClass {
  std::string_view name;
  std::array<int, 3> color{};  ///< RGB
};

/// What is known of a published data set: its classes in the order of their ids, and the defaults
/// of its options.
struct KnownDataset {
  std::string_view summary, source;
  std::span<const KnownClass> classes;
  std::string_view img_suffix = ".jpg", seg_map_suffix = ".png";
  bool reduce_zero_label = false;
  /// A raw label besides the classes that means "ignored".
  std::optional<int64_t> unlabelled = std::nullopt;
};

KnownClasses known_classes(std::span<const KnownClass> classes);

template <const KnownDataset& kFacts>
struct KnownSegDatasetParams : BaseSegDatasetParams {
  KnownSegDatasetParams() {
    img_suffix = std::string(kFacts.img_suffix);
    seg_map_suffix = std::string(kFacts.seg_map_suffix);
    reduce_zero_label = kFacts.reduce_zero_label;
  }
};

/// The data set that a table describes: `using ADE20KDataset = KnownSegDataset<kAde20k>`.
template <const KnownDataset& kFacts>
class KnownSegDataset : public BaseSegDataset {
 public:
  using Params = KnownSegDatasetParams<kFacts>;
  static Schema<Params> schema() {
    return seg_dataset_schema<Params>(std::string(kFacts.summary))
        .source(std::string(kFacts.source));
  }
  static DatasetFacts facts(const Params& p) { return facts_of(p, known_classes(kFacts.classes)); }
  explicit KnownSegDataset(const Params& params)
      : BaseSegDataset(params, known_classes(kFacts.classes), kFacts.unlabelled) {}
};

}  // namespace seg
