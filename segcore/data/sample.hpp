/// Samples in a data pipeline, batches of a loader, inputs and predictions of a model.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <opencv2/core/mat.hpp>
#include <opencv2/core/types.hpp>
#include <string>
#include <vector>

#include "segcore/data/geometry.hpp"
#include "segcore/data/image_source.hpp"

namespace seg {

class FileCache;
class LabelCoding;

/// Where a sample comes from and how it was changed; sizes are height, width.
struct SampleMeta {
  int64_t index = 0;    ///< into the data set; augmentations of one image (TTA) share it
  int64_t variant = 0;  ///< which augmentation of its image
  std::string name;     ///< as Dataset::output_name of the data set that found the image
  std::string img_path;
  std::string img_path2;       ///< of the second image where samples have two (BaseCDDataset)
  std::string seg_map_path;    ///< empty without annotations
  std::string depth_map_path;  ///< in place of seg_map_path where depth is learned (NYUDataset)
  cv::Rect window;             ///< the part of the files that is read; empty: all of them
  int64_t category_id = -1;    ///< class of the whole image, where the data set states one
  std::array<int64_t, 2> ori_shape{};  ///< as loaded
  std::array<int64_t, 2> img_shape{};  ///< after the pipeline, before the preprocessor's padding
  std::array<int64_t, 2> pad_shape{};  ///< after padding
  std::array<double, 2> scale_factor{1.0, 1.0};  ///< width, height, as MMCV has it
  bool flip = false;
  std::string flip_direction;  ///< "horizontal", "vertical" or "diagonal" where flip
  bool reduce_zero_label = false;
};

/// An image of three dimensions with its labels; undefined tensors: there is none.
struct Volume {
  at::Tensor image;   ///< float [modalities, Z, Y, X]
  at::Tensor labels;  ///< [Z, Y, X], whole numbers of any type
};

/// What is planned for the pictures of a sample.
struct PlannedGeometry {
  Geometry image, image2, labels, edges, depth;
};

/// One image with its labels inside a pipeline. Transforms own it and change it in place.
struct Sample {
  SampleMeta meta;
  cv::Mat image;   ///< H x W x bands; uint8, uint16 or float32; three bands are BGR
  cv::Mat image2;  ///< the second of two images, of the size of the first; until ConcatCDInput
  cv::Mat labels;  ///< H x W class ids, uint8 or int32; empty without annotations
  cv::Mat edges;   ///< H x W, 1 where classes meet, uint8; only after GenerateEdge
  cv::Mat depth;   ///< H x W, float32; only after LoadDepthAnnotation
  double depth_rescale_factor = 1.0;  ///< what the file's values were multiplied by
  Volume volume;                      ///< in place of image and labels
  std::vector<Sample> others;         ///< for the next step to mix in (Transform::draw_others)
  /// Raw label value -> class, from the data set (`label_map`); empty for none.
  std::vector<std::pair<int64_t, int64_t>> label_map;
  bool reduce_zero_label = false;  ///< 0 becomes ignored, all others one less
  int64_t ignore_index = 255;
  /// How the annotation codes classes; null: as a picture of class ids. Of the data set, which
  /// outlives the sample.
  const LabelCoding* coding = nullptr;
  const FileCache* cache = nullptr;  ///< of the data set, which outlives the sample; null: none
  bool cache_decoded = false;        ///< of pictures it keeps the pixels
  /// Between steps that plan (Transform::plan): where the pixels above are still to go, and what
  /// the image is still to be read from. Other steps find neither.
  PlannedGeometry planned;
  std::shared_ptr<const ImageSource> source;
};

/// Calls `use(pixels, geometry)` for each picture of the sample that is there.
template <class Use>
void for_each_picture(Sample& sample, const Use& use) {
  PlannedGeometry& planned = sample.planned;
  if (!sample.image.empty() || sample.source) use(sample.image, planned.image);
  if (!sample.image2.empty()) use(sample.image2, planned.image2);
  if (!sample.labels.empty()) use(sample.labels, planned.labels);
  if (!sample.edges.empty()) use(sample.edges, planned.edges);
  if (!sample.depth.empty()) use(sample.depth, planned.depth);
}

/// Applies the planned geometry.
/// \throws DataError naming the file, where its pixels cannot be decoded.
void settle(Sample& sample);

/// The bytes of one of the sample's files, from the cache where there is one.
/// \throws DataError naming the path, where it is missing or cannot be read.
std::vector<uint8_t> read_sample_file(const Sample& sample, const std::string& path);

/// One sample at the end of a pipeline (PackSegInputs).
struct PackedSample {
  SampleMeta meta;
  at::Tensor image;   ///< [bands, H, W], the image's type, any strides; a volume: [bands, Z, Y, X]
  at::Tensor labels;  ///< [H, W] or [Z, Y, X], int64 or uint8; undefined without annotations
  at::Tensor edges;   ///< [H, W] uint8, 1 where classes meet; only after GenerateEdge
  at::Tensor depth;   ///< [H, W] float; only after LoadDepthAnnotation
  std::vector<int64_t> label_values;  ///< as of `label_values`; empty: not looked for
};

/// The samples of one step, in order; their sizes may differ.
struct Batch {
  std::vector<PackedSample> samples;
  size_t size() const { return samples.size(); }
};

/// A batch as a model takes it: normalised, padded to one size, on the model's device.
struct ModelInput {
  at::Tensor images;  ///< float [N, C, H, W]
  at::Tensor labels;  ///< int64 [N, H, W]; undefined without annotations
  at::Tensor edges;   ///< int64 [N, H, W], 255 in padding; only after GenerateEdge
  at::Tensor depth;   ///< float [N, H, W]; only after LoadDepthAnnotation
  /// Of each image the values in `labels`; empty: not known.
  std::vector<std::vector<int64_t>> label_values;
  std::vector<SampleMeta> metas;
  std::vector<ModelInput> members;  ///< of an ensemble: what each of its models takes
};

/// The category of each image, -1 where it is unknown.
std::vector<int64_t> categories_of(const std::vector<SampleMeta>& metas);

/// What a model predicts for one image, at the original shape: classes or depth.
struct Prediction {
  at::Tensor ids;  ///< class ids, int64 [H, W]; undefined for a model that estimates depth
  /// Probabilities that the classes were chosen by, float [C, H, W]: softmax over the channels, or
  /// the sigmoid of a single one. Undefined unless requested.
  at::Tensor scores;
  at::Tensor depth;  ///< float [H, W], in the unit of the annotations; of models that estimate it
};

}  // namespace seg
