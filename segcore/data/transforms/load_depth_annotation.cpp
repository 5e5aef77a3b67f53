#include <opencv2/core.hpp>

#include "segcore/data/label_size.hpp"
#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/file_backend.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/tensor_image.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/volume_file.hpp"

namespace seg {

struct LoadDepthAnnotationParams {
  std::string decode_backend = "cv2";
  bool to_float32 = true;
  double depth_rescale_factor = 1.0;
  Config backend_args;
};

namespace {

class LoadDepthAnnotation final : public Transform {
 public:
  using Params = LoadDepthAnnotationParams;
  static Schema<Params> schema() {
    return Schema<Params>("Reads the map of depth of a sample.")
        .source("MMSegmentation 1.2")
        .optional("decode_backend", &Params::decode_backend,
                  "what the file is: a picture (cv2), an array (numpy) or a volume (nifti)",
                  one_of({"cv2", "numpy", "nifti"}))
        .optional("to_float32", &Params::to_float32,
                  "accepted: depth is float32 always, since it is scaled")
        .optional(
            "depth_rescale_factor", &Params::depth_rescale_factor,
            "what the values of the file are multiplied by: 0.001 makes metres of millimetres",
            above(0))
        .optional("backend_args", &Params::backend_args, kFileBackendMeaning)
        .validate([](const Params& p, Problems& problems) {
          check_file_backend("backend_args", p.backend_args, problems);
        });
  }
  explicit LoadDepthAnnotation(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.loads_labels = true, .labels_only = true}; }
  void apply(Sample& sample, Rng&) const override {
    const std::string& path = sample.meta.depth_map_path;
    if (path.empty() || !sample.depth.empty()) return;
    const auto bytes = read_sample_file(sample, path);
    cv::Mat raw;
    if (p_.decode_backend == "cv2") {
      raw = decode_image(bytes, path, ImageFlag::kUnchanged);
    } else {
      raw = image_of_tensor(
          p_.decode_backend == "numpy" ? decode_npy(bytes, path) : decode_nifti(bytes, path), path);
    }
    if (raw.channels() != 1) {
      throw DataError(text(path, ": a map of depth has one band, this file ", pixel_text(raw)));
    }
    raw.convertTo(sample.depth, CV_32F);
    const auto factor = static_cast<float>(p_.depth_rescale_factor);
    for (int y = 0; y < sample.depth.rows; ++y) {
      auto* row = sample.depth.ptr<float>(y);
      for (int x = 0; x < sample.depth.cols; ++x) row[x] *= factor;
    }
    sample.depth_rescale_factor = p_.depth_rescale_factor;
    check_label_size(sample);
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, LoadDepthAnnotation);

}  // namespace
}  // namespace seg
