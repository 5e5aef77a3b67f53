#include <opencv2/core.hpp>

#include "segcore/data/label_size.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/data/transforms/file_backend.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {

/// As for all files, with what images are filled with.
struct ReadImageParams : ReadParams {
  double nodata_fill = 0;
  ReadOptions options() const {
    return {.page = page, .nodata = nodata, .nodata_fill = nodata_fill};
  }
  static Schema<ReadImageParams> schema() {
    return Schema<ReadImageParams>("Which pixels of an image are read.")
        .include(read_params_schema(
            "this value, and all that is not finite, are pixels without data, which become "
            "nodata_fill; null: values that are not finite are an error"))
        .optional("nodata_fill", &ReadImageParams::nodata_fill,
                  "the value of pixels without data, before any normalisation");
  }
};

struct LoadImageFromFileParams : ReadImageParams {
  bool to_float32 = false;
  std::string color_type = "color";
  std::string imdecode_backend = "cv2";
  bool ignore_empty = false;
  Config backend_args, file_client_args;
};

struct LoadImageFromNDArrayParams {
  bool to_float32 = false;
};

struct LoadSingleRSImageFromFileParams : ReadImageParams {
  bool to_float32 = true;
};

namespace {

/// Notes the sizes that later steps and the evaluation go by.
void set_loaded_image(Sample& sample, cv::Mat image, bool to_float32) {
  if (to_float32 && image.depth() != CV_32F) {
    cv::Mat as_float;
    image.convertTo(as_float, CV_32F);
    image = as_float;
  }
  sample.image = image;
  sample.meta.ori_shape = sample.meta.img_shape = {image.rows, image.cols};
  check_label_size(sample);
}

class LoadImageFromFile final : public Transform {
 public:
  using Params = LoadImageFromFileParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Reads the image; three bands are BGR. Samples that come with an image "
               "keep it.")
        .source("MMCV 2.1")
        .optional("to_float32", &Params::to_float32, "convert the values to float32")
        .optional("color_type", &Params::color_type,
                  "color (8 bits, BGR), grayscale (8 bits, one band), both turned upright unless "
                  "followed by _ignore_orientation; unchanged keeps depth and bands of the file",
                  one_of(image_flag_names()))
        .optional("imdecode_backend", &Params::imdecode_backend,
                  "what the picture is read like: turbojpeg and tifffile do not turn it upright, "
                  "tifffile keeps depth, bands and their order",
                  one_of({"cv2", "turbojpeg", "pillow", "tifffile"}))
        .include(ReadImageParams::schema())
        .optional("ignore_empty", &Params::ignore_empty,
                  "give another sample in training where the image cannot be read")
        .optional("backend_args", &Params::backend_args, kFileBackendMeaning)
        .optional("file_client_args", &Params::file_client_args, kFileBackendMeaning)
        .validate([](const Params& p, Problems& problems) {
          check_file_backend("backend_args", p.backend_args, problems);
          check_file_backend("file_client_args", p.file_client_args, problems);
          if (p.imdecode_backend == "turbojpeg" && p.color_type == "unchanged") {
            problems.error("color_type", "turbojpeg reads color or grayscale only");
          }
        });
  }
  explicit LoadImageFromFile(const Params& p) : p_(p), flag_(*image_flag(p.color_type)) {
    if (p.imdecode_backend == "turbojpeg") {
      flag_ = p.color_type.starts_with("color") ? ImageFlag::kColorIgnoreOrientation
                                                : ImageFlag::kGrayscaleIgnoreOrientation;
    }
  }

  TransformTraits traits() const override { return {.loads_image = true}; }
  void apply(Sample& sample, Rng&) const override {
    if (!sample.image.empty()) {
      set_loaded_image(sample, sample.image, p_.to_float32);
      return;
    }
    set_loaded_image(sample, read(sample), p_.to_float32);
  }

 private:
  cv::Mat read(const Sample& sample) const {
    const std::string& path = sample.meta.img_path;
    try {
      const auto bytes = read_sample_file(sample, path);
      return p_.imdecode_backend == "tifffile"
                 ? decode_image_in_file_order(bytes, path, p_.options())
                 : decode_image(bytes, path, flag_, p_.options());
    } catch (const DataError& e) {
      if (p_.ignore_empty) throw EmptySample(e.what());
      throw;
    }
  }

  Params p_;
  ImageFlag flag_;
};
SEG_REGISTER(Transform, LoadImageFromFile);

class LoadImageFromNDArray final : public Transform {
 public:
  using Params = LoadImageFromNDArrayParams;
  static Schema<Params> schema() {
    return Schema<Params>("Takes the image that the sample came with.")
        .source("MMSegmentation 1.2")
        .optional("to_float32", &Params::to_float32, "convert the values to float32");
  }
  explicit LoadImageFromNDArray(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.loads_image = true}; }
  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "LoadImageFromNDArray");
    set_loaded_image(sample, sample.image, p_.to_float32);
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, LoadImageFromNDArray);

class LoadSingleRSImageFromFile final : public Transform {
 public:
  using Params = LoadSingleRSImageFromFileParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Reads a remote-sensing image: depth, bands and their order as in the "
               "file.")
        .source("MMSegmentation 1.2")
        .include(ReadImageParams::schema())
        .optional("to_float32", &Params::to_float32, "convert the values to float32");
  }
  explicit LoadSingleRSImageFromFile(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.loads_image = true}; }
  void apply(Sample& sample, Rng&) const override {
    const std::string& path = sample.meta.img_path;
    set_loaded_image(sample,
                     decode_image_in_file_order(read_sample_file(sample, path), path, p_.options()),
                     p_.to_float32);
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, LoadSingleRSImageFromFile);

}  // namespace
}  // namespace seg
