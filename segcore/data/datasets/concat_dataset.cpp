/// Several data sets of the same classes, one after the other.
#include <algorithm>
#include <mutex>
#include <unordered_set>

#include "registry/error.hpp"
#include "segcore/data/dataset.hpp"

namespace seg {

struct ConcatDatasetParams {
  std::vector<Spec<Dataset>> datasets;
  bool lazy_init = false;
  std::optional<std::variant<std::vector<std::string>, std::string>> ignore_keys;
};

class ConcatDataset final : public Dataset {
 public:
  using Params = ConcatDatasetParams;
  static Schema<Params> schema() {
    return Schema<Params>("Several data sets of the same classes, one after the other.")
        .required("datasets", &Params::datasets, "the data sets, in order")
        .optional("lazy_init", &Params::lazy_init,
                  "accepted: each data set has its own lazy_init, which counts")
        .optional("ignore_keys", &Params::ignore_keys,
                  "meta information that may differ: classes, palette, reduce_zero_label, "
                  "ignore_index")
        .validate([](const Params& p, Problems& problems) {
          if (p.datasets.empty()) problems.error("datasets", "needs at least one data set");
        });
  }

  static DatasetFacts facts(const Params& p) {
    return {.inner = p.datasets, .classes = p.datasets.front().facts().classes};
  }
  explicit ConcatDataset(const Params& params) {
    BuildErrors errors;
    for (const auto& spec : params.datasets) {
      errors.attempt([&] { parts_.push_back(spec.build()); });
    }
    errors.throw_if_any();
    std::vector<std::string> ignored;
    if (params.ignore_keys) {
      if (const auto* one = std::get_if<std::string>(&*params.ignore_keys)) {
        ignored = {*one};
      } else {
        ignored = std::get<std::vector<std::string>>(*params.ignore_keys);
      }
    }
    const auto compare = [&](size_t i, const std::string& key, bool equal) {
      if (equal || std::find(ignored.begin(), ignored.end(), key) != ignored.end()) return;
      throw OptionError("datasets",
                        text("data set ", i, " (", params.datasets[i].type(), ") and data set 0 (",
                             params.datasets[0].type(), ") differ in ", key,
                             "; they must agree, or ignore_keys must name it"));
    };
    for (size_t i = 1; i < parts_.size(); ++i) {
      const DatasetMeta &a = parts_[0]->meta(), &b = parts_[i]->meta();
      compare(i, "classes", a.classes == b.classes);
      compare(i, "palette", a.palette == b.palette);
      compare(i, "reduce_zero_label", a.reduce_zero_label == b.reduce_zero_label);
      compare(i, "ignore_index", a.ignore_index == b.ignore_index);
    }
  }

  size_t size() const override {
    size_t sum = 0;
    for (const auto& part : parts_) sum += part->size();
    return sum;
  }

  std::vector<Sample> unpacked(size_t index, uint64_t seed, uint64_t epoch,
                               Unusable unusable) const override {
    const auto [part, inner] = locate(index);
    // Equal indices of different parts must not draw equal numbers; the first part draws as alone.
    auto samples =
        parts_[part]->unpacked(inner, seed + part * 0x9E3779B97F4A7C15u, epoch, unusable);
    for (auto& sample : samples) sample.meta.index = static_cast<int64_t>(index);
    return samples;
  }

  const DatasetMeta& meta() const override { return parts_[0]->meta(); }
  std::pair<std::string, std::string> paths(size_t index) const override {
    const auto [part, inner] = locate(index);
    return parts_[part]->paths(inner);
  }
  Sample describe(size_t index) const override {
    const auto [part, inner] = locate(index);
    Sample sample = parts_[part]->describe(inner);
    sample.meta.index = static_cast<int64_t>(index);
    return sample;
  }
  Sample with_image(size_t index) const override {
    const auto [part, inner] = locate(index);
    return parts_[part]->with_image(inner);
  }
  Sample with_labels(size_t index) const override {
    const auto [part, inner] = locate(index);
    return parts_[part]->with_labels(inner);
  }
  RawLabels raw_labels(size_t index) const override {
    const auto [part, inner] = locate(index);
    return parts_[part]->raw_labels(inner);
  }
  /// Below a folder with the data set's number where several have images of one name.
  std::string output_name(size_t index) const override {
    std::call_once(compared_, [this] {
      std::unordered_set<std::string> names;
      for (const auto& part : parts_) {
        std::unordered_set<std::string> mine;
        for (size_t i = 0; i < part->size(); ++i) mine.insert(part->output_name(i));
        for (const auto& name : mine) numbered_ = !names.insert(name).second || numbered_;
      }
    });
    const auto [part, inner] = locate(index);
    const std::string name = parts_[part]->output_name(inner);
    return numbered_ ? std::to_string(part) + "/" + name : name;
  }
  bool in_memory(size_t index) const override {
    const auto [part, inner] = locate(index);
    return parts_[part]->in_memory(inner);
  }
  std::vector<size_t> corrupt_samples() const override {
    std::vector<size_t> out;
    size_t before = 0;
    for (const auto& part : parts_) {
      for (const size_t index : part->corrupt_samples()) out.push_back(before + index);
      before += part->size();
    }
    return out;
  }

  bool skips_corrupt() const override {
    return std::all_of(parts_.begin(), parts_.end(),
                       [](const auto& part) { return part->skips_corrupt(); });
  }
  std::vector<std::string> annotations_without_image() const override {
    std::vector<std::string> out;
    for (const auto& part : parts_) {
      for (auto& path : part->annotations_without_image()) out.push_back(std::move(path));
    }
    return out;
  }

 private:
  std::pair<size_t, size_t> locate(size_t index) const {
    const size_t wanted = index;
    for (size_t part = 0; part < parts_.size(); ++part) {
      const size_t size = parts_[part]->size();
      if (index < size) return {part, index};
      index -= size;
    }
    throw Error(text("sample ", wanted, " is beyond the end of the data set"));
  }

  std::vector<std::unique_ptr<Dataset>> parts_;
  mutable std::once_flag compared_;
  mutable bool numbered_ = false;
};

SEG_REGISTER(Dataset, ConcatDataset);

}  // namespace seg
