#include <numeric>
#include <opencv2/core.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/file_backend.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {

struct LoadAnnotationsParams {
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

class LoadAnnotations final : public Transform {
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
        .optional("backend_args", &Params::backend_args, kFileBackendMeaning)
        .validate([](const Params& p, Problems& problems) {
          check_file_backend("backend_args", p.backend_args, problems);
        });
  }
  explicit LoadAnnotations(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.loads_labels = true, .labels_only = true}; }
  void apply(Sample& sample, Rng&) const override {
    if (sample.meta.seg_map_path.empty() || !sample.labels.empty()) return;
    const bool reduce = sample.reduce_zero_label;
    if (p_.reduce_zero_label && *p_.reduce_zero_label != reduce) {
      throw DataError(text(sample.meta.seg_map_path, ": LoadAnnotations has reduce_zero_label: ",
                           *p_.reduce_zero_label ? "true" : "false", ", the data set has ",
                           reduce ? "true" : "false",
                           ". Set it at the data set and leave it out of LoadAnnotations"));
    }
    sample.labels = read_labels(sample.meta.seg_map_path);
    check_label_size(sample);
    sample.meta.reduce_zero_label = reduce;
    if (reduce || !sample.label_map.empty()) map_labels(sample, reduce);
  }

 private:
  static void map_labels(Sample& sample, bool reduce) {
    make_unique(sample.labels);
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

void check_label_size(const Sample& sample) {
  const auto& [height, width] = sample.meta.ori_shape;
  if (sample.labels.empty() || height == 0) return;
  if (sample.labels.rows != height || sample.labels.cols != width) {
    throw DataError(text(sample.meta.seg_map_path, ": the labels are ", sample.labels.cols, " x ",
                         sample.labels.rows, " pixels (width x height), but the image ",
                         sample.meta.img_path, " is ", width, " x ", height));
  }
}

}  // namespace seg
