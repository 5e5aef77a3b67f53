/// Cropping, padding and flipping of volumes.
#include <algorithm>
#include <cmath>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/volume.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// Of the axes z, y and x.
using VolumeShape = std::array<int64_t, 3>;

struct BioMedical3DRandomCropParams {
  std::variant<int64_t, VolumeShape> crop_shape = int64_t{0};
  bool keep_foreground = true;
};

struct BioMedical3DPadParams {
  VolumeShape pad_shape{};
  double pad_val = 0;
  int64_t seg_pad_val = 0;
};

struct BioMedical3DRandomFlipParams {
  double prob = 0;
  std::vector<int64_t> axes;
  std::optional<std::vector<std::array<int64_t, 2>>> swap_label_pairs;
};

namespace {

VolumeShape shape_of_volume(const Sample& sample) {
  const at::Tensor& image = sample.volume.image;
  return {image.size(1), image.size(2), image.size(3)};
}

class BioMedical3DRandomCrop final : public Transform {
 public:
  using Params = BioMedical3DRandomCropParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Cuts a random box out of a volume and its labels; what is smaller stays.")
        .source("MMSegmentation 1.2")
        .required("crop_shape", &Params::crop_shape, "z, y and x, or one number for the three",
                  at_least(1))
        .optional("keep_foreground", &Params::keep_foreground,
                  "draw a voxel of a class other than 0 first: the box begins between the origin "
                  "and where it would have the voxel at its centre");
  }
  explicit BioMedical3DRandomCrop(const Params& p) : keep_(p.keep_foreground) {
    if (const auto* side = std::get_if<int64_t>(&p.crop_shape)) {
      shape_.fill(*side);
    } else {
      shape_ = std::get<VolumeShape>(p.crop_shape);
    }
  }

  void apply(Sample& sample, Rng& rng) const override {
    require_volume(sample, "BioMedical3DRandomCrop");
    const VolumeShape size = shape_of_volume(sample);
    VolumeShape margin{};
    for (size_t axis = 0; axis < 3; ++axis) {
      margin[axis] = std::max<int64_t>(0, size[axis] - shape_[axis]);
    }
    if (keep_) {
      if (const auto voxel = foreground_voxel(sample, rng)) {
        for (size_t axis = 0; axis < 3; ++axis) {
          margin[axis] = std::clamp<int64_t>((*voxel)[axis] - shape_[axis] / 2, 0, margin[axis]);
        }
      }
    }
    for (size_t axis = 0; axis < 3; ++axis) {
      const int64_t begin = rng.below(margin[axis] + 1);
      const int64_t length = std::min(shape_[axis], size[axis] - begin);
      const auto dim = static_cast<int64_t>(axis);
      sample.volume.image = sample.volume.image.narrow(dim + 1, begin, length);
      if (sample.volume.labels.defined()) {
        sample.volume.labels = sample.volume.labels.narrow(dim, begin, length);
      }
    }
    sample.meta.img_shape = {sample.volume.image.size(2), sample.volume.image.size(3)};
  }

 private:
  /// A voxel of a class drawn from those present, each as likely as the others.
  static std::optional<VolumeShape> foreground_voxel(const Sample& sample, Rng& rng) {
    const at::Tensor& labels = sample.volume.labels;
    if (!labels.defined()) {
      throw DataError(text(sample_name(sample),
                           ": BioMedical3DRandomCrop with keep_foreground needs labels: put a "
                           "LoadBiomedicalAnnotation before it, or set keep_foreground: false"));
    }
    const at::Tensor flat = labels.reshape({-1});
    const at::Tensor present = std::get<0>(torch::_unique(flat, /*sorted=*/true));
    const at::Tensor classes = present.masked_select(present != 0);
    if (classes.numel() == 0) return std::nullopt;
    const at::Tensor places = (flat == classes[rng.below(classes.numel())]).nonzero();
    const int64_t at = places[rng.below(places.size(0))][0].item<int64_t>();
    const int64_t plane = labels.size(1) * labels.size(2);
    return VolumeShape{at / plane, at % plane / labels.size(2), at % labels.size(2)};
  }

  VolumeShape shape_{};
  bool keep_;
};
SEG_REGISTER(Transform, BioMedical3DRandomCrop);

class BioMedical3DPad final : public Transform {
 public:
  using Params = BioMedical3DPadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Pads a volume and its labels on all sides; what is larger stays.")
        .source("MMSegmentation 1.2")
        .required("pad_shape", &Params::pad_shape, "z, y and x to pad to", at_least(1))
        .optional("pad_val", &Params::pad_val, "value of new voxels of the image")
        .optional("seg_pad_val", &Params::seg_pad_val, "value of new voxels of the labels");
  }
  explicit BioMedical3DPad(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng&) const override {
    require_volume(sample, "BioMedical3DPad");
    const VolumeShape size = shape_of_volume(sample);
    std::vector<int64_t> widths;  // of the last axis first
    for (const size_t axis : {2u, 1u, 0u}) {
      const int64_t more = std::max<int64_t>(0, p_.pad_shape[axis] - size[axis]);
      widths.push_back(more / 2);
      widths.push_back(more - more / 2);
    }
    Volume& volume = sample.volume;
    volume.image = torch::constant_pad_nd(volume.image, widths, p_.pad_val);
    if (volume.labels.defined()) {
      volume.labels = torch::constant_pad_nd(volume.labels, widths, p_.seg_pad_val);
    }
    sample.meta.pad_shape = {volume.image.size(2), volume.image.size(3)};
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, BioMedical3DPad);

class BioMedical3DRandomFlip final : public Transform {
 public:
  using Params = BioMedical3DRandomFlipParams;
  static Schema<Params> schema() {
    return Schema<Params>("Flips a volume and its labels along each axis with a probability.")
        .source("MMSegmentation 1.2")
        .required("prob", &Params::prob, "probability of a flip along an axis", in_range(0, 1))
        .required("axes", &Params::axes, "0 is z, 1 is y, 2 is x", in_range(0, 2))
        .optional("swap_label_pairs", &Params::swap_label_pairs,
                  "pairs of classes that change places where there was a flip");
  }
  explicit BioMedical3DRandomFlip(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng& rng) const override {
    require_volume(sample, "BioMedical3DRandomFlip");
    std::vector<int64_t> flipped;
    for (int64_t axis = 0; axis < 3; ++axis) {
      const bool listed = std::find(p_.axes.begin(), p_.axes.end(), axis) != p_.axes.end();
      if (listed && rng.chance(p_.prob)) flipped.push_back(axis);
    }
    if (flipped.empty()) return;
    Volume& volume = sample.volume;
    if (volume.labels.defined()) {
      volume.labels = volume.labels.flip(flipped);
      if (p_.swap_label_pairs) {
        const at::Tensor before = volume.labels.clone();
        for (const auto& [a, b] : *p_.swap_label_pairs) {
          volume.labels.masked_fill_(before == a, b);
          volume.labels.masked_fill_(before == b, a);
        }
      }
    }
    for (int64_t& axis : flipped) ++axis;
    volume.image = volume.image.flip(flipped);
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, BioMedical3DRandomFlip);

}  // namespace
}  // namespace seg
