#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "segcore/data/label_size.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/data/sample_picture.hpp"
#include "segcore/data/transforms/file_backend.hpp"
#include "segcore/data/transforms/pixels.hpp"
#include "segcore/data/transforms/tensor_image.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/volume_file.hpp"

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

struct LoadRSImageParams : ReadImageParams {
  bool to_float32 = true;
};

namespace {

cv::Mat as_float32(const cv::Mat& image) {
  if (image.depth() == CV_32F) return image;
  cv::Mat out;
  image.convertTo(out, CV_32F);
  return out;
}

/// Notes the sizes that later steps and the evaluation go by.
void set_loaded_size(Sample& sample, const cv::Size& size) {
  sample.meta.ori_shape = sample.meta.img_shape = {size.height, size.width};
  check_label_size(sample);
}
void set_loaded_image(Sample& sample, const cv::Mat& image, bool to_float32) {
  sample.image = to_float32 ? as_float32(image) : image;
  set_loaded_size(sample, image.size());
}

class LoadImageFromFile final : public Transform {
 public:
  using Params = LoadImageFromFileParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Reads the image; three bands are BGR. Arrays of files .npy stay as they are. "
               "Samples "
               "that come with an image keep it.")
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
  /// A picture of which parts can be read waits for what of it is needed.
  void plan(Sample& sample, Rng& rng) const override {
    if (!can_wait(sample)) {
      settle(sample);
      apply(sample, rng);
      return;
    }
    LoadedImage loaded = open_sample_image(sample, sample.meta.img_path, flag_, p_.options());
    sample.image = std::move(loaded.pixels);
    sample.source = std::move(loaded.source);
    set_loaded_size(sample, sample.source ? sample.source->size() : sample.image.size());
  }
  void apply(Sample& sample, Rng&) const override {
    if (!sample.image.empty()) {
      set_loaded_image(sample, sample.image, p_.to_float32);
      return;
    }
    set_loaded_image(sample, read(sample), p_.to_float32);
  }

 private:
  bool can_wait(const Sample& sample) const {
    const bool whole_file = sample.meta.window.empty() && !sample.meta.img_path.ends_with(".npy");
    return sample.image.empty() && !sample.source && whole_file && !p_.to_float32 &&
           !p_.ignore_empty && p_.imdecode_backend != "tifffile";
  }
  cv::Mat read(const Sample& sample) const {
    const std::string& path = sample.meta.img_path;
    try {
      if (path.ends_with(".npy")) {
        return image_of_tensor(decode_npy(read_sample_file(sample, path), path), path);
      }
      return p_.imdecode_backend == "tifffile"
                 ? read_sample_image_in_file_order(sample, path, p_.options())
                 : read_sample_image(sample, path, flag_, p_.options());
    } catch (const DataError& e) {
      if (p_.ignore_empty) throw EmptySample(e.what());
      throw;
    }
  }

  Params p_;
  ImageFlag flag_;
};
SEG_REGISTER(Transform, LoadImageFromFile);
SEG_REGISTER_AS(Transform, LoadImageFromFile, "InferencerLoader");
// That of many repositories: files .npy as arrays, others as pictures.
SEG_REGISTER_AS(Transform, LoadImageFromFile, "LoadImageFromNpyFile");

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

/// Depth, bands and their order as in the file, of whatever format.
cv::Mat read_rs_image(const Sample& sample, const std::string& path, const ReadImageParams& p) {
  const cv::Rect& window = sample.meta.window;
  const auto bytes = window.empty() ? read_sample_file(sample, path) : std::vector<uint8_t>();
  const ImageInfo info = window.empty() ? image_info(bytes, path) : read_image_info(path);
  if (std::string_view(info.format) == "TIFF") {
    return window.empty() ? decode_image_in_file_order(bytes, path, p.options())
                          : read_image_window_in_file_order(path, window, p.options());
  }
  cv::Mat image = window.empty()
                      ? decode_image(bytes, path, ImageFlag::kUnchanged, p.options())
                      : read_image_window(path, window, ImageFlag::kUnchanged, p.options());
  if (image.channels() == 3) cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  if (image.channels() == 4) cv::cvtColor(image, image, cv::COLOR_BGRA2RGBA);
  return image;
}

Schema<LoadRSImageParams> rs_image_schema(const char* summary) {
  return Schema<LoadRSImageParams>(summary)
      .source("MMSegmentation 1.2")
      .include(ReadImageParams::schema())
      .optional("to_float32", &LoadRSImageParams::to_float32, "convert the values to float32");
}

class LoadSingleRSImageFromFile final : public Transform {
 public:
  using Params = LoadRSImageParams;
  static Schema<Params> schema() {
    return rs_image_schema(
        "Reads a remote-sensing image: depth, bands and their order as in the file.");
  }
  explicit LoadSingleRSImageFromFile(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.loads_image = true}; }
  void apply(Sample& sample, Rng&) const override {
    set_loaded_image(sample, read_rs_image(sample, sample.meta.img_path, p_), p_.to_float32);
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, LoadSingleRSImageFromFile);

class LoadMultipleRSImageFromFile final : public Transform {
 public:
  using Params = LoadRSImageParams;
  static Schema<Params> schema() {
    return rs_image_schema(
        "Reads the two remote-sensing images of a sample: depth, bands and their order as in the "
        "files.");
  }
  explicit LoadMultipleRSImageFromFile(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.loads_image = true}; }
  void apply(Sample& sample, Rng&) const override {
    const auto& [path, path2] = std::tie(sample.meta.img_path, sample.meta.img_path2);
    if (path2.empty()) {
      throw DataError(text(path,
                           ": LoadMultipleRSImageFromFile needs two images a sample, which a "
                           "BaseCDDataset has; one is read by LoadSingleRSImageFromFile"));
    }
    set_loaded_image(sample, read_rs_image(sample, path, p_), p_.to_float32);
    sample.image2 = read_rs_image(sample, path2, p_);
    if (p_.to_float32) sample.image2 = as_float32(sample.image2);
    if (sample.image2.size() != sample.image.size() ||
        sample.image2.type() != sample.image.type()) {
      throw DataError(text(path2, ": the second image has ", sample.image2.cols, " x ",
                           sample.image2.rows, " pixels with ", pixel_text(sample.image2),
                           ", the first one, ", path, ", has ", sample.image.cols, " x ",
                           sample.image.rows, " with ", pixel_text(sample.image)));
    }
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, LoadMultipleRSImageFromFile);

}  // namespace
}  // namespace seg
