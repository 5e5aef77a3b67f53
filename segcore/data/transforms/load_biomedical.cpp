/// Reading of volumes with their labels.
#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/file_backend.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/volume.hpp"
#include "segcore/io/volume_file.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct VolumeReadParams {
  std::string decode_backend = "nifti";
  bool to_xyz = false;
  Config backend_args;
};

struct LoadBiomedicalParams : VolumeReadParams {
  bool to_float32 = true;
};

struct LoadBiomedicalDataParams : VolumeReadParams {
  LoadBiomedicalDataParams() { decode_backend = "numpy"; }
  bool with_seg = false;
};

namespace {

template <class P>
Schema<P> volume_schema(const std::string& summary) {
  return Schema<P>(summary)
      .source("MMSegmentation 1.2")
      .optional("decode_backend", &P::decode_backend,
                "what the file is: NIfTI-1 (nifti), whose axes are x, y, z and are reversed, or an "
                ".npy file (numpy), whose axes are z, y, x",
                one_of({"nifti", "numpy"}))
      .optional("to_xyz", &P::to_xyz, "reverse the axes of space to x, y, z")
      .optional("backend_args", &P::backend_args, kFileBackendMeaning)
      .validate([](const P& p, Problems& problems) {
        check_file_backend("backend_args", p.backend_args, problems);
      });
}

at::Tensor read_volume(const Sample& sample, const std::string& path, const VolumeReadParams& p) {
  const auto bytes = read_sample_file(sample, path);
  return p.decode_backend == "nifti" ? decode_nifti(bytes, path) : decode_npy(bytes, path);
}

void require_axes(const at::Tensor& volume, int64_t least, int64_t most, const std::string& path) {
  if (volume.dim() >= least && volume.dim() <= most && volume.numel() > 0) return;
  throw DataError(text(path, ": expected an array of ", least,
                       least == most ? "" : text(" or ", most), " dimensions, got [",
                       join(volume.sizes().vec(), ", "), "]"));
}

/// The last three axes reversed where the file or the options ask for it.
at::Tensor oriented(const at::Tensor& volume, const VolumeReadParams& p) {
  if ((p.decode_backend == "nifti") == p.to_xyz) return volume;
  return volume.transpose(-1, -3);
}

void set_volume(Sample& sample, const at::Tensor& image) {
  sample.volume.image = image.contiguous();
  sample.meta.ori_shape = sample.meta.img_shape = {image.size(2), image.size(3)};
}

class LoadBiomedicalImageFromFile final : public Transform {
 public:
  using Params = LoadBiomedicalParams;
  static Schema<Params> schema() {
    return volume_schema<Params>(
               "Reads a volume, [modalities, z, y, x]. Of a file with four dimensions, the first "
               "are the modalities.")
        .optional("to_float32", &Params::to_float32, "convert the values to float32");
  }
  explicit LoadBiomedicalImageFromFile(const Params& p) : p_(p) {}
  TransformTraits traits() const override { return {.loads_image = true}; }
  void apply(Sample& sample, Rng&) const override {
    const std::string& path = sample.meta.img_path;
    at::Tensor image = read_volume(sample, path, p_);
    require_axes(image, 3, 4, path);
    if (p_.to_float32) image = image.to(torch::kFloat);
    if (image.dim() == 3) image = image.unsqueeze(0);
    set_volume(sample, oriented(image, p_));
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, LoadBiomedicalImageFromFile);

class LoadBiomedicalAnnotation final : public Transform {
 public:
  using Params = LoadBiomedicalParams;
  static Schema<Params> schema() {
    return volume_schema<Params>("Reads the labels of a volume, [z, y, x].")
        .optional("to_float32", &Params::to_float32,
                  "accepted: labels are whole numbers at the end of a pipeline whatever they were");
  }
  explicit LoadBiomedicalAnnotation(const Params& p) : p_(p) {}
  TransformTraits traits() const override { return {.loads_labels = true, .labels_only = true}; }
  void apply(Sample& sample, Rng&) const override {
    const std::string& path = sample.meta.seg_map_path;
    if (path.empty()) return;
    at::Tensor labels = read_volume(sample, path, p_);
    require_axes(labels, 3, 3, path);
    if (p_.to_float32) labels = labels.to(torch::kFloat);
    sample.volume.labels = oriented(labels, p_).contiguous();
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, LoadBiomedicalAnnotation);

class LoadBiomedicalData final : public Transform {
 public:
  using Params = LoadBiomedicalDataParams;
  static Schema<Params> schema() {
    return volume_schema<Params>(
               "Reads a volume and its labels from one file, in which the labels follow the "
               "modalities.")
        .optional("with_seg", &Params::with_seg, "use the labels");
  }
  explicit LoadBiomedicalData(const Params& p) : p_(p) {}
  TransformTraits traits() const override {
    return {.loads_image = true, .loads_labels = p_.with_seg};
  }
  void apply(Sample& sample, Rng&) const override {
    const std::string& path = sample.meta.img_path;
    const at::Tensor data = read_volume(sample, path, p_);
    require_axes(data, 4, 4, path);
    if (data.size(0) < 2) {
      throw DataError(text(path,
                           ": holds modalities and labels in its first dimension, which has "
                           "two entries at least; got [",
                           join(data.sizes().vec(), ", "), "]"));
    }
    const int64_t modalities = data.size(0) - 1;
    set_volume(sample, oriented(data.narrow(0, 0, modalities), p_));
    if (p_.with_seg) sample.volume.labels = oriented(data.select(0, modalities), p_).contiguous();
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, LoadBiomedicalData);

}  // namespace
}  // namespace seg
