/// Images and annotations in folders or lists of files: the base of all data sets of files.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "segcore/data/dataset.hpp"
#include "segcore/data/datasets/dataset_cache.hpp"
#include "segcore/data/datasets/metainfo.hpp"
#include "segcore/data/datasets/raster_windows.hpp"
#include "segcore/data/datasets/sample_files.hpp"
#include "segcore/data/label_coding.hpp"
#include "segcore/data/pipeline.hpp"

namespace seg {

struct BaseSegDatasetParams : SampleFilesParams {
  std::optional<MetaInfo> metainfo;
  bool serialize_data = true;
  std::vector<Spec<Transform>> pipeline;
  bool test_mode = false;
  bool lazy_init = false;
  int64_t max_refetch = 1000;
  int64_t ignore_index = 255;
  bool reduce_zero_label = false;
  std::map<std::string, int64_t> label_map;
  std::string label_colors = "ids";
  std::optional<std::map<std::string, Config>> backend_args;
  bool skip_corrupt = false;
  std::optional<DatasetCache> cache;
  std::optional<RasterWindowsParams> windows;
};

namespace detail {
void check_seg_dataset(const BaseSegDatasetParams& params, Problems& problems);
}  // namespace detail

/// The options of BaseSegDataset, with the defaults of P.
template <class P>
Schema<P> seg_dataset_schema(const std::string& summary) {
  return Schema<P>(summary)
      .optional("ann_file", &P::ann_file,
                "file with one sample per line: a name without suffix, or the paths of image and "
                "annotation relative to data_root; or a JSON file of COCO with the objects of all "
                "images; empty: all files of the folder")
      .optional("img_suffix", &P::img_suffix,
                "how the names of images end; or a list of endings, [.png, .PNG]")
      .optional("seg_map_suffix", &P::seg_map_suffix,
                "how the names of annotations end; of a list, the first whose file is there "
                "counts; .json: shapes of LabelMe")
      .optional("metainfo", &P::metainfo, "classes and palette in place of the data set's own")
      .optional("data_root", &P::data_root, "folder that ann_file and data_prefix are relative to")
      .optional("data_prefix", &P::data_prefix, "folders of the images and of the annotations")
      .accepted("filter_cfg", "MMSegmentation's data sets filter nothing either")
      .optional("indices", &P::indices,
                "only the first n samples (the last n where negative), or those listed")
      .optional("serialize_data", &P::serialize_data,
                "accepted: workers are threads and share the list of files as it is")
      .optional("pipeline", &P::pipeline, "steps from the files to tensors")
      .optional("test_mode", &P::test_mode, "no sample is replaced by another; needs classes")
      .optional("lazy_init", &P::lazy_init, "search for the files at first use only")
      .optional("max_refetch", &P::max_refetch,
                "how many other samples to try in place of an unusable one", at_least(0))
      .optional("ignore_index", &P::ignore_index, "label that neither trains nor counts")
      .optional("reduce_zero_label", &P::reduce_zero_label,
                "label 0 is ignored and all others are one less")
      .optional(
          "label_map", &P::label_map,
          "labels of the files, and the classes that they become: {255: 1} for masks of 0 and "
          "255")
      .optional("label_colors", &P::label_colors,
                "what the colours of annotations mean: ids, grey values and indices of palettes "
                "that are class ids whatever they look like; palette, the colours of the classes",
                one_of({"ids", "palette"}))
      .optional("backend_args", &P::backend_args, "where files are: only local ones are supported")
      .optional("skip_corrupt", &P::skip_corrupt,
                "skip unusable samples, name and count them: training takes the next good "
                "one, an evaluation leaves them out")
      .optional(
          "cache", &P::cache,
          "keep copies of the files for later epochs and other processes of the machine: ram, "
          "or a folder on a local disk; changed files are read anew")
      .optional("windows", &P::windows,
                "each sample is a window of a raster, of which nothing else is read where it is "
                "TIFF: for rasters that are larger than a crop, or than memory; indices chooses "
                "rasters")
      .validate([](const P& p, Problems& problems) { detail::check_seg_dataset(p, problems); });
}

class BaseSegDataset : public Dataset {
 public:
  using Params = BaseSegDatasetParams;
  static Schema<Params> schema();
  static DatasetFacts facts(const Params& params) { return facts_of(params, {}); }
  explicit BaseSegDataset(const Params& params) : BaseSegDataset(params, KnownClasses{}) {}

  size_t size() const override;
  std::vector<Sample> unpacked(size_t index, uint64_t seed, uint64_t epoch,
                               Unusable unusable) const override;
  const DatasetMeta& meta() const override { return meta_; }
  std::pair<std::string, std::string> paths(size_t index) const override;
  Sample describe(size_t index) const override;
  Sample with_image(size_t index) const override { return pipeline_.load_image(describe(index)); }
  Sample with_labels(size_t index) const override;
  RawLabels raw_labels(size_t index) const override;
  std::string output_name(size_t index) const override;
  std::vector<size_t> corrupt_samples() const override;
  bool skips_corrupt() const override { return params_.skip_corrupt; }
  std::vector<std::string> annotations_without_image() const override;

 protected:
  static DatasetFacts facts_of(const Params& params, const KnownClasses& known);
  /// \param unlabelled  a raw label besides the classes that means "ignored".
  BaseSegDataset(const Params& params, const KnownClasses& known,
                 std::optional<int64_t> unlabelled = std::nullopt);

 private:
  /// The samples, listed at the first call, as are the files.
  const std::vector<RasterWindow>& samples() const;
  const std::vector<SampleFiles>& files() const;
  void list_samples() const;
  void leave_out_invalid_windows() const;
  std::pair<std::string, std::string> paths_of(const RasterWindow& window) const;
  Sample sample_of(size_t index, const RasterWindow& window) const;
  std::string name_of(const RasterWindow& window) const;
  void choose_coding(const KnownClasses& known);
  void note_corrupt(size_t index, const std::string& why) const;

  Params params_;
  DatasetMeta meta_;
  std::vector<std::pair<int64_t, int64_t>> label_map_;
  Pipeline pipeline_;
  std::unique_ptr<const LabelCoding> coding_;  ///< null: annotations are pictures of class ids
  std::shared_ptr<const FileCache> cache_;     ///< null: files are read from where they are
  bool loads_annotations_ = false;

  mutable std::once_flag listed_;
  mutable std::vector<SampleFiles> files_;
  mutable std::vector<RasterWindow> samples_;
  mutable std::mutex corrupt_mutex_;
  mutable std::set<size_t> corrupt_;
};

}  // namespace seg
