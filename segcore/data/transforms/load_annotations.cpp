#include <numeric>
#include <opencv2/core.hpp>

#include "segcore/cpu_vector.hpp"
#include "segcore/data/label_coding.hpp"
#include "segcore/data/label_reader.hpp"
#include "segcore/data/label_size.hpp"
#include "segcore/data/sample_picture.hpp"
#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/file_backend.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct LoadAnnotationsParams : ReadParams {
  std::optional<bool> reduce_zero_label;
  std::string imdecode_backend = "pillow";
  Config backend_args;
};

namespace {

/// MMSegmentation's labels are bytes, and 255 is what is ignored.
constexpr int64_t kIgnoredByte = 255;

/// What a raw value becomes: one less where zero is "other", then by the map.
int64_t mapped_label(int64_t raw, const Sample& sample, bool reduce, int64_t ignored) {
  int64_t label = raw;
  if (reduce) label = raw == 0 || raw == ignored ? ignored : raw - 1;
  int64_t out = label;
  for (const auto& [from, to] : sample.label_map) {
    if (label == from) out = to < 0 ? ignored : to;
  }
  return out;
}

/// One less, but for 255; 0 becomes 255.
void reduce_bytes(cv::Mat& labels) {
  for (int y = 0; y < labels.rows; ++y) {
    auto* row = labels.ptr<uint8_t>(y);
    int x = 0;
    for (; x + 16 <= labels.cols; x += 16) {
      const auto label = vec::load_as<vec::U16>(row + x);
      vec::store_as(row + x, (label - 1) | static_cast<vec::U16>(label == kIgnoredByte));
    }
    for (; x < labels.cols; ++x) {
      row[x] = static_cast<uint8_t>(row[x] == kIgnoredByte ? kIgnoredByte : row[x] - 1);
    }
  }
}

class LoadAnnotations final : public Transform, public LabelReader {
 public:
  using Params = LoadAnnotationsParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Reads the labels: grey values or palette indices are class ids. Samples "
               "without an annotation file have none.")
        .source("MMSegmentation 1.2")
        .optional(
            "reduce_zero_label", &Params::reduce_zero_label,
            "0 becomes ignored and all others one less; must agree with the data set, whose value "
            "null takes")
        .optional("imdecode_backend", &Params::imdecode_backend,
                  "all read the same here: palettes stay indices",
                  one_of({"cv2", "turbojpeg", "pillow", "tifffile"}))
        .include(read_params_schema(
            "this value, and NaN, are pixels without data: they are ignored, whatever the maps of "
            "labels say"))
        .optional("backend_args", &Params::backend_args, kFileBackendMeaning)
        .validate([](const Params& p, Problems& problems) {
          check_file_backend("backend_args", p.backend_args, problems);
        });
  }
  explicit LoadAnnotations(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.loads_labels = true, .labels_only = true}; }
  void plan(Sample& sample, Rng& rng) const override { apply(sample, rng); }
  void apply(Sample& sample, Rng&) const override {
    if (sample.meta.seg_map_path.empty() || !sample.labels.empty()) return;
    const bool reduce = sample.reduce_zero_label;
    if (p_.reduce_zero_label && *p_.reduce_zero_label != reduce) {
      throw DataError(text(sample.meta.seg_map_path, ": LoadAnnotations has reduce_zero_label: ",
                           *p_.reduce_zero_label ? "true" : "false", ", the data set has ",
                           reduce ? "true" : "false",
                           ". Set it at the data set and leave it out of LoadAnnotations"));
    }
    RawLabels raw = read(sample);
    sample.labels = std::move(raw.ids);  // with one owner, maps change them in place
    check_label_size(sample);
    sample.meta.reduce_zero_label = reduce;
    if (reduce || !sample.label_map.empty()) map_labels(sample, reduce);
    if (raw.missing.empty()) return;
    const bool bytes = sample.labels.depth() == CV_8U;
    const bool fits = sample.ignore_index >= 0 && sample.ignore_index <= kIgnoredByte;
    sample.labels.setTo(
        cv::Scalar(static_cast<double>(bytes && !fits ? kIgnoredByte : sample.ignore_index)),
        raw.missing);
  }
  RawLabels read(const Sample& sample) const override {
    if (sample.coding) return sample.coding->decode(sample, p_.options());
    const std::string& path = sample.meta.seg_map_path;
    RawLabels raw;
    raw.ids = read_sample_labels(sample, path, p_.options(), &raw.missing);
    return raw;
  }

 private:
  static void map_labels(Sample& sample, bool reduce) {
    make_unique(sample.labels);
    if (sample.labels.depth() == CV_8U && sample.label_map.empty()) {
      reduce_bytes(sample.labels);
      return;
    }
    if (sample.labels.depth() == CV_8U) {
      std::array<uint8_t, 256> table{};
      for (size_t i = 0; i < table.size(); ++i) {
        table[i] = static_cast<uint8_t>(
            mapped_label(static_cast<int64_t>(i), sample, reduce, kIgnoredByte));
      }
      apply_table(sample.labels, table);
      return;
    }
    for (int y = 0; y < sample.labels.rows; ++y) {
      int32_t* row = sample.labels.ptr<int32_t>(y);
      int32_t last_raw = -1, last = -1;
      bool known = false;
      for (int x = 0; x < sample.labels.cols; ++x) {
        if (!known || row[x] != last_raw) {
          last_raw = row[x];
          last = static_cast<int32_t>(mapped_label(row[x], sample, reduce, sample.ignore_index));
          known = true;
        }
        row[x] = last;
      }
    }
  }

  Params p_;
};
SEG_REGISTER(Transform, LoadAnnotations);

}  // namespace

void check_file_backend(std::string_view option, const Config& args, Problems& problems) {
  const auto* backend = args.is_map() ? args.find("backend") : nullptr;
  if (!backend) return;
  const std::string& name = backend->value.scalar;
  if (name != "local" && name != "disk") {
    problems.error(option, text("the back end '", name,
                                "' is not there: files are read from disk. "
                                "Remove it, or write {backend: local}"));
  }
}

Schema<ReadParams> read_params_schema(const char* nodata_meaning) {
  return Schema<ReadParams>("Which pixels of a file are read.")
      .optional(
          "page", &ReadParams::page,
          "of a TIFF file of several pages, counted from 0 without overviews and masks; null: "
          "the first, with a warning where there are more",
          at_least(0))
      .optional("nodata", &ReadParams::nodata, nodata_meaning);
}

}  // namespace seg
