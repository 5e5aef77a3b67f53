#include <ATen/ops/from_blob.h>

#include "segcore/data/pipeline.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct PackSegInputsParams {};

namespace {

class PackSegInputs final : public Transform {
 public:
  using Params = PackSegInputsParams;
  static Schema<Params> schema() {
    return Schema<Params>("Ends a pipeline: image and labels become tensors.")
        .source("MMSegmentation 1.2")
        .accepted("meta_keys", "what is known of a sample always goes with it: no effect");
  }
  explicit PackSegInputs(const Params&) {}
  TransformTraits traits() const override { return {.ends_pipeline = true}; }
  /// Nothing: pack() follows every pipeline.
  void apply(Sample& sample, Rng&) const override {
    if (sample.volume.image.defined()) return;
    require_image(sample, "PackSegInputs");
    if (sample.image2.empty()) return;
    throw DataError(text(sample_name(sample),
                         ": the sample has two images: put ConcatCDInput before PackSegInputs"));
  }
};
SEG_REGISTER(Transform, PackSegInputs);

at::ScalarType tensor_type(int depth) {
  switch (depth) {
    case CV_8U:
      return at::kByte;
    case CV_16U:
      return at::kUInt16;
    case CV_32S:
      return at::kInt;
    case CV_32F:
      return at::kFloat;
    default:
      throw Error(text("no tensor for pixels of OpenCV's depth ", depth));
  }
}

/// Shares the pixels, [bands, H, W]; a part of a much larger picture is copied out of it, which
/// would else stay in memory as long as the part.
at::Tensor mat_tensor(cv::Mat mat) {
  if (!mat.u || mat.total() * mat.elemSize() < mat.u->size) mat = mat.clone();
  const int64_t bands = mat.channels();
  const auto row = static_cast<int64_t>(mat.step1());
  return at::from_blob(
      mat.data, {bands, mat.rows, mat.cols}, {1, row, bands}, [mat](void*) {},
      at::TensorOptions(tensor_type(mat.depth())));
}

PackedSample packed_volume(Sample sample) {
  PackedSample out;
  out.image = sample.volume.image.contiguous();
  if (sample.volume.labels.defined()) out.labels = sample.volume.labels.to(at::kLong).contiguous();
  out.meta = std::move(sample.meta);
  return out;
}

}  // namespace

PackedSample pack(Sample sample) {
  if (sample.volume.image.defined()) return packed_volume(std::move(sample));
  require_image(sample, "PackSegInputs");
  PackedSample out;
  out.image = mat_tensor(std::move(sample.image));
  out.meta = std::move(sample.meta);
  out.meta.img_shape = out.meta.pad_shape = {out.image.size(1), out.image.size(2)};
  if (!sample.labels.empty()) {
    out.labels = mat_tensor(std::move(sample.labels)).squeeze(0);
    if (out.labels.scalar_type() != at::kByte) out.labels = out.labels.to(at::kLong);
  }
  if (!sample.edges.empty()) out.edges = mat_tensor(std::move(sample.edges)).squeeze(0);
  if (!sample.depth.empty()) out.depth = mat_tensor(std::move(sample.depth)).squeeze(0);
  return out;
}

}  // namespace seg
