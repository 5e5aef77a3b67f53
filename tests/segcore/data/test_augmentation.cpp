// Transforms against the numbers of Albumentations 1.3.1 and MMSegmentation 1.2.2, and files of
// volumes against nibabel, in tests/data/augmentation/augmentation.json.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "segcore/data/dataset.hpp"
#include "segcore/data/transforms/albu.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/volume_file.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using nlohmann::json;
using test::config_error;
using test::TempDir;
using ::testing::HasSubstr;

const json& augmentation_numbers() {
  static const json numbers =
      json::parse(std::ifstream(source_path("tests/data/augmentation/augmentation.json")));
  return numbers;
}

constexpr int kHeight = 9, kWidth = 11;

/// The image of the fixtures: a formula, not a file.
cv::Mat augmentation_image(int number = 0) {
  cv::Mat out(kHeight, kWidth, CV_8UC3);
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      for (int c = 0; c < 3; ++c) {
        const int v = x * x * 3 + y * y * 5 + x * y * 7 + c * 101 + x * 17 + y * 29 + number * 57;
        out.ptr<uint8_t>(y)[x * 3 + c] = static_cast<uint8_t>(v % 256);
      }
    }
  }
  return out;
}

cv::Mat augmentation_labels(int number = 0) {
  cv::Mat out(kHeight, kWidth, CV_8U);
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      out.at<uint8_t>(y, x) = static_cast<uint8_t>((x / 3 + y / 2 * 3 + number) % 5);
    }
  }
  return out;
}

Sample augmentation_sample(int number = 0) {
  Sample sample;
  sample.meta.img_path = "formula.png";
  sample.image = augmentation_image(number);
  sample.labels = augmentation_labels(number);
  return sample;
}

Sample transformed(const json& config, Sample sample) {
  const auto transform = Spec<Transform>::of(config.dump()).build();
  Rng rng(1, RngPurpose::kAugmentation, 0, 0);
  transform->apply(sample, rng);
  return sample;
}

void expect_numbers(const std::vector<double>& found, const json& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i].get<double>(), tolerance) << "value " << i;
  }
}

void expect_picture(const cv::Mat& found, const json& expected, double tolerance) {
  ASSERT_EQ(json::array({found.rows, found.cols}),
            json::array({expected["shape"][0], expected["shape"][1]}));
  cv::Mat values;
  found.clone().reshape(1, 1).convertTo(values, CV_64F);
  expect_numbers({values.begin<double>(), values.end<double>()}, expected["values"], tolerance);
}

void expect_tensor(const at::Tensor& found, const json& expected, double tolerance) {
  ASSERT_EQ(json(found.sizes().vec()), expected["shape"]);
  const at::Tensor flat = found.to(torch::kDouble).contiguous();
  const double* values = flat.const_data_ptr<double>();
  expect_numbers({values, values + flat.numel()}, expected["values"], tolerance);
}

TEST(Albu, NumbersOfAlbumentations) {
  ASSERT_EQ(augmentation_numbers()["albu"].size(), 20u);
  for (const json& one : augmentation_numbers()["albu"]) {
    SCOPED_TRACE(one["config"].dump());
    const std::string type = one["config"]["type"];
    // Versions of OpenCV round the sums of blurs and warps otherwise.
    const double tolerance = type.find("Blur") != std::string::npos || type == "CLAHE" ||
                                     type.find("Rotate") != std::string::npos
                                 ? 1
                                 : 0;
    const Sample sample = transformed(
        {{"type", "Albu"}, {"transforms", json::array({one["config"]})}}, augmentation_sample());
    expect_picture(sample.image, one["image"], tolerance);
    expect_picture(sample.labels, one["labels"], 0);
  }
}

TEST(Albu, ChangesBothImagesOfAPairAndTheirLabelsAlike) {
  Sample sample = augmentation_sample();
  sample.image2 = sample.image.clone();
  const cv::Mat before = sample.image.clone();
  const json config = {{"type", "Albu"},
                       {"transforms",
                        {{{"type", "RandomBrightnessContrast"}, {"p", 1.0}},
                         {{"type", "RandomRotate90"}, {"p", 1.0}},
                         {{"type", "ShiftScaleRotate"}, {"p", 1.0}},
                         {{"type", "GaussNoise"}, {"p", 1.0}},
                         {{"type", "ChannelShuffle"}, {"p", 1.0}}}}};
  sample = transformed(config, sample);
  EXPECT_EQ(cv::norm(sample.image, sample.image2, cv::NORM_INF), 0);
  EXPECT_EQ(sample.labels.size(), sample.image.size());
  EXPECT_FALSE(sample.image.size() == before.size() &&
               cv::norm(sample.image, before, cv::NORM_INF) == 0);
}

TEST(Albu, FloatsAreTakenForValuesOfBytes) {
  Sample sample = augmentation_sample();
  sample.image.convertTo(sample.image, CV_32F);
  const json bright = {{"type", "RandomBrightnessContrast"},
                       {"brightness_limit", {0.1, 0.1}},
                       {"contrast_limit", {0.0, 0.0}},
                       {"p", 1.0}};
  sample = transformed({{"type", "Albu"}, {"transforms", json::array({bright})}}, sample);
  const float first = augmentation_image().at<cv::Vec3b>(0, 0)[1];
  EXPECT_FLOAT_EQ(sample.image.at<cv::Vec3f>(0, 0)[1], first + 25.5F);
}

TEST(Albu, ProbabilitiesAndWeights) {
  const auto share_of = [](const json& transforms) {
    const auto transform =
        Spec<Transform>::of(json{{"type", "Albu"}, {"transforms", transforms}}.dump()).build();
    int changed = 0;
    for (uint64_t i = 0; i < 400; ++i) {
      Sample sample = augmentation_sample();
      Rng rng(7, RngPurpose::kAugmentation, 0, i);
      transform->apply(sample, rng);
      changed += cv::norm(sample.labels, augmentation_labels(), cv::NORM_INF) > 0;
    }
    return changed / 400.0;
  };
  const json flip = {{"type", "HorizontalFlip"}, {"p", 0.3}};
  EXPECT_NEAR(share_of(json::array({flip})), 0.3, 0.07);
  const json always = {{"type", "HorizontalFlip"}, {"p", 0.0}, {"always_apply", true}};
  EXPECT_EQ(share_of(json::array({always})), 1.0);
  const json gray = {{"type", "ToGray"}, {"p", 0.9}};
  const json one_of = {{"type", "OneOf"}, {"transforms", json::array({flip, gray})}, {"p", 1.0}};
  EXPECT_NEAR(share_of(json::array({one_of})), 0.25, 0.07);
}

TEST(Albu, WrongOptionsAndImages) {
  const auto error_of = [](const std::string& transforms) {
    return config_error(
        [&] { Spec<Transform>::of("{type: Albu, transforms: [" + transforms + "]}").build(); });
  };
  EXPECT_THAT(error_of("{type: HorizontalFlop}"),
              HasSubstr("transforms.0: no albumentation is called 'HorizontalFlop'. Did you mean "
                        "'HorizontalFlip'?"));
  EXPECT_THAT(error_of("{type: MedianBlur, blur_limit: [4, 6]}"),
              HasSubstr("blur_limit: must be odd, got 4 and 6"));
  EXPECT_THAT(error_of("{type: OneOf, transforms: []}"),
              HasSubstr("transforms: needs at least one transform"));
  Sample sample = augmentation_sample();
  sample.image.convertTo(sample.image, CV_32F);
  try {
    transformed({{"type", "Albu"}, {"transforms", {{{"type", "HueSaturationValue"}, {"p", 1.0}}}}},
                sample);
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_EQ(
        std::string(e.what()),
        "formula.png: HueSaturationValue of Albu needs images with 3 bands of uint8, this one "
        "has 3 bands of float32");
  }
}

TEST(RandomMosaic, NumbersOfMmsegmentation) {
  ASSERT_EQ(augmentation_numbers()["mosaics"].size(), 3u);
  for (const json& one : augmentation_numbers()["mosaics"]) {
    SCOPED_TRACE(one["config"].dump());
    Sample sample = augmentation_sample();
    for (int i = 1; i < 4; ++i) sample.others.push_back(augmentation_sample(i));
    sample = transformed(one["config"], sample);
    expect_picture(sample.image, one["image"], 1);
    expect_picture(sample.labels, one["labels"], 0);
  }
}

at::Tensor augmentation_volume() {
  const auto axis = [](int64_t size, int64_t dim) {
    std::vector<int64_t> shape(4, 1);
    shape[static_cast<size_t>(dim)] = size;
    return torch::arange(size).view(shape);
  };
  const at::Tensor n = axis(2, 0), z = axis(4, 1), y = axis(5, 2), x = axis(6, 3);
  return (x * x * 3 + y * 7 + z * 13 + n * 5 + x * y).remainder(32).to(torch::kFloat) / 8 - 1;
}

at::Tensor augmentation_volume_labels() {
  const at::Tensor z = torch::arange(4).view({4, 1, 1}), y = torch::arange(5).view({1, 5, 1}),
                   x = torch::arange(6).view({1, 1, 6});
  return (x + y + z).remainder(3).to(torch::kFloat);
}

Sample volume_sample() {
  Sample sample;
  sample.meta.img_path = "formula.nii.gz";
  sample.volume = {augmentation_volume(), augmentation_volume_labels()};
  return sample;
}

TEST(Volumes, NumbersOfMmsegmentation) {
  ASSERT_EQ(augmentation_numbers()["volumes"].size(), 8u);
  for (const json& one : augmentation_numbers()["volumes"]) {
    SCOPED_TRACE(one["config"].dump());
    const Sample sample = transformed(one["config"], volume_sample());
    expect_tensor(sample.volume.image, one["image"], 2e-6);
    expect_tensor(sample.volume.labels, one["labels"], 0);
  }
}

TEST(Volumes, PaddedOnAllSides) {
  const Sample sample = transformed({{"type", "BioMedical3DPad"},
                                     {"pad_shape", {6, 5, 9}},
                                     {"pad_val", -1.0},
                                     {"seg_pad_val", 9}},
                                    volume_sample());
  EXPECT_EQ(sample.volume.image.sizes(), torch::IntArrayRef({2, 6, 5, 9}));
  EXPECT_EQ(sample.volume.labels.sizes(), torch::IntArrayRef({6, 5, 9}));
  EXPECT_TRUE(
      torch::equal(sample.volume.image.slice(1, 1, 5).slice(3, 1, 7), augmentation_volume()));
  EXPECT_TRUE((sample.volume.labels[0] == 9).all().item<bool>());
  EXPECT_TRUE((sample.volume.image.slice(3, 7, 9) == -1).all().item<bool>());
}

TEST(Volumes, CropsBeginBeforeTheForeground) {
  Sample sample = volume_sample();
  sample.volume.image = torch::arange(5).view({1, 1, 5, 1}).expand({1, 4, 5, 6}).contiguous();
  sample.volume.labels.zero_();
  sample.volume.labels[3][1][5] = 2;
  const auto crop = Spec<Transform>::of("{type: BioMedical3DRandomCrop, crop_shape: [2, 3, 2]}");
  for (uint64_t i = 0; i < 20; ++i) {
    Sample cropped = sample;
    Rng rng(3, RngPurpose::kAugmentation, 0, i);
    crop.build()->apply(cropped, rng);
    EXPECT_EQ(cropped.volume.labels.sizes(), torch::IntArrayRef({2, 3, 2}));
    // The voxel is in row 1: a box with it at its centre begins in row 0.
    EXPECT_EQ(cropped.volume.image.flatten()[0].item<int64_t>(), 0);
  }
  try {
    sample.volume.labels.reset();
    transformed({{"type", "BioMedical3DRandomCrop"}, {"crop_shape", 2}}, sample);
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()),
              "formula.nii.gz: BioMedical3DRandomCrop with keep_foreground needs labels: put a "
              "LoadBiomedicalAnnotation before it, or set keep_foreground: false");
  }
}

TEST(Volumes, NoiseIsThatOfItsSeed) {
  const json config = {{"type", "BioMedicalGaussianNoise"}, {"prob", 1.0}, {"std", 0.2}};
  const at::Tensor first = transformed(config, volume_sample()).volume.image;
  EXPECT_TRUE(torch::equal(first, transformed(config, volume_sample()).volume.image));
  const at::Tensor noise = first - augmentation_volume();
  EXPECT_GT(noise.std().item<double>(), 0.0);
  EXPECT_LT(noise.std().item<double>(), 0.25);
}

std::vector<uint8_t> from_base64(const std::string& coded) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<uint8_t> out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : coded) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(digits.find(c));
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out.push_back(static_cast<uint8_t>(bits >> count & 0xFF));
  }
  return out;
}

TEST(NiftiFile, NumbersOfNibabel) {
  ASSERT_EQ(augmentation_numbers()["nifti"].size(), 6u);
  for (const json& one : augmentation_numbers()["nifti"]) {
    SCOPED_TRACE(one["name"].get<std::string>());
    expect_tensor(decode_nifti(from_base64(one["file"]), "a.nii.gz"), one, 1e-12);
  }
}

std::string nifti_error(std::vector<uint8_t> bytes) {
  try {
    decode_nifti(bytes, "a.nii");
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

TEST(NiftiFile, DamagedFiles) {
  std::vector<uint8_t> plain, packed;
  for (const json& one : augmentation_numbers()["nifti"]) {
    if (one["name"] == "uint16") plain = from_base64(one["file"]);
    if (one["name"] == "float64") packed = from_base64(one["file"]);
  }
  const std::string cut = "a.nii: the NIfTI volume is cut off or damaged";
  EXPECT_EQ(nifti_error({}), cut);
  EXPECT_EQ(nifti_error({plain.begin(), plain.end() - 1}), cut);
  EXPECT_EQ(nifti_error({packed.begin(), packed.end() - 30}), cut);
  EXPECT_EQ(nifti_error(std::vector<uint8_t>(400, 65)),
            "a.nii: is no NIfTI-1 volume in one file (.nii or .nii.gz)");
  auto complex_numbers = plain;
  complex_numbers[70] = 32;
  complex_numbers[71] = 0;
  EXPECT_EQ(
      nifti_error(complex_numbers),
      "a.nii: a NIfTI volume of type 32 with 3 dimensions cannot be read; types are whole and "
      "real numbers");
  auto huge = plain;
  for (size_t i = 42; i < 48; ++i) huge[i] = i % 2 ? 0x7F : 0xFF;
  EXPECT_EQ(nifti_error(huge), cut);
}

/// A file as numpy.save writes it.
std::string npy_file(const std::string& type, const std::string& shape, const std::string& data,
                     const std::string& fortran = "False") {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
  header.resize((header.size() + 10 + 64) / 64 * 64 - 11, ' ');
  header += "\n";
  std::string out = "\x93NUMPY";
  out += {'\x01', '\x00', static_cast<char>(header.size() & 0xFF),
          static_cast<char>(header.size() >> 8)};
  return out + header + data;
}

TEST(NpyFile, TypesAndOrders) {
  const auto read = [](const std::string& file) {
    return decode_npy({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, "a.npy");
  };
  EXPECT_TRUE(torch::equal(read(npy_file("|u1", "(2, 3)", "\x01\x02\x03\x04\x05\x06")),
                           torch::tensor({{1, 2, 3}, {4, 5, 6}}, torch::kByte)));
  EXPECT_TRUE(torch::equal(read(npy_file("|u1", "(2, 3)", "\x01\x02\x03\x04\x05\x06", "True")),
                           torch::tensor({{1, 3, 5}, {2, 4, 6}}, torch::kByte)));
  EXPECT_TRUE(torch::equal(read(npy_file(">i2", "(2,)", std::string("\x01\x00\x00\x02", 4))),
                           torch::tensor({256, 2}, torch::kShort)));
  const auto error_of = [&](const std::string& file) {
    try {
      read(file);
    } catch (const DataError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(error_of("nothing like that"), "a.npy: is no NumPy array (.npy)");
  EXPECT_EQ(error_of(npy_file("|u1", "(2, 3)", "\x01")),
            "a.npy: the array of type '|u1' and shape [2, 3] holds no numbers, or the file is cut "
            "off: it has 1 bytes of data");
  EXPECT_EQ(error_of(npy_file("|u1", "(2, x)", "\x01")),
            "a.npy: the header is damaged, or of an array of records");
}

TEST(LoadImageFromFile, ArraysOfNumpy) {
  const TempDir dir;
  dir.write("a.npy", npy_file("|u1", "(1, 2, 4)", "\x01\x02\x03\x04\x05\x06\x07\x08"));
  Sample sample;
  sample.meta.img_path = dir / "a.npy";
  sample = transformed({{"type", "InferencerLoader"}}, sample);
  EXPECT_EQ(sample.image.channels(), 4);
  EXPECT_EQ(sample.image.size(), cv::Size(2, 1));
  EXPECT_EQ(sample.image.ptr<uint8_t>(0)[5], 6);
  Sample again;
  again.meta.img_path = dir / "a.npy";
  again = transformed({{"type", "LoadImageFromNpyFile"}, {"to_float32", true}}, again);
  EXPECT_EQ(again.image.ptr<float>(0)[5], 6);
  dir.write("b.npy", npy_file("|u1", "(8,)", "\x01\x02\x03\x04\x05\x06\x07\x08"));
  Sample flat;
  flat.meta.img_path = dir / "b.npy";
  try {
    transformed({{"type", "LoadImageFromFile"}}, flat);
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()),
              dir / "b.npy" +
                  ": an image has the shape [height, width] or [height, width, bands], this array "
                  "has [8]");
  }
}

TEST(LoadBiomedical, AxesOfVolumes) {
  const TempDir dir;
  for (const json& one : augmentation_numbers()["nifti"]) {
    if (one["name"] != "scaled uint8") continue;
    const auto bytes = from_base64(one["file"]);
    dir.write("a.nii.gz", std::string(bytes.begin(), bytes.end()));
  }
  Sample sample;
  sample.meta.img_path = sample.meta.seg_map_path = dir / "a.nii.gz";
  const Sample image = transformed({{"type", "LoadBiomedicalImageFromFile"}}, sample);
  EXPECT_EQ(image.volume.image.sizes(), torch::IntArrayRef({1, 4, 3, 2}));
  EXPECT_EQ(image.volume.image.scalar_type(), torch::kFloat);
  // Element [x, y, z] of the file is 12 x + 4 y + z, scaled by 0.5 and shifted by -3.
  EXPECT_NEAR(image.volume.image[0][3][2][1].item<double>(), 23 * 0.5 - 3, 0.3);
  const Sample xyz =
      transformed({{"type", "LoadBiomedicalImageFromFile"}, {"to_xyz", true}}, sample);
  EXPECT_EQ(xyz.volume.image.sizes(), torch::IntArrayRef({1, 2, 3, 4}));
  const Sample labelled = transformed({{"type", "LoadBiomedicalAnnotation"}}, image);
  EXPECT_TRUE(torch::equal(labelled.volume.labels, image.volume.image[0]));
  dir.write("both.npy", npy_file("|u1", "(3, 1, 1, 2)", "\x01\x02\x03\x04\x05\x06"));
  sample.meta.img_path = dir / "both.npy";
  const Sample both = transformed({{"type", "LoadBiomedicalData"}, {"with_seg", true}}, sample);
  EXPECT_EQ(both.volume.image.sizes(), torch::IntArrayRef({2, 1, 1, 2}));
  EXPECT_TRUE(torch::equal(both.volume.labels.flatten(), torch::tensor({5, 6}, torch::kByte)));
}

TEST(Volumes, StepsNeedAVolume) {
  try {
    transformed({{"type", "BioMedical3DPad"}, {"pad_shape", {1, 1, 1}}}, augmentation_sample());
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()),
              "formula.png: BioMedical3DPad has no volume to work on: put a "
              "LoadBiomedicalImageFromFile before it");
  }
}

TEST(Depth, LoadedScaledAndMixed) {
  const TempDir dir;
  cv::Mat depth(4, 6, CV_16U);
  for (int i = 0; i < 24; ++i) depth.at<uint16_t>(i / 6, i % 6) = static_cast<uint16_t>(1000 + i);
  write_png(dir / "depth.png", depth);
  Sample sample;
  sample.meta.img_path = "a.png";
  sample.meta.depth_map_path = dir / "depth.png";
  sample.image = cv::Mat(4, 6, CV_8UC3, cv::Scalar(1, 2, 3));
  sample = transformed({{"type", "LoadDepthAnnotation"}, {"depth_rescale_factor", 0.001}}, sample);
  EXPECT_EQ(sample.depth.type(), CV_32F);
  EXPECT_FLOAT_EQ(sample.depth.at<float>(3, 5), 1.023F);
  const Sample mixed = transformed({{"type", "RandomDepthMix"}, {"prob", 1.0}}, sample);
  int columns = 0;
  for (int x = 0; x < 6; ++x) {
    const auto pixel = mixed.image.at<cv::Vec3b>(2, x);
    if (pixel == cv::Vec3b(1, 2, 3)) continue;
    ++columns;
    // The low bits of millimetres, which scaling may have rounded down.
    EXPECT_NEAR(pixel[0], (1000 + 12 + x) % 256, 1);
    EXPECT_EQ(pixel[0], pixel[2]);
  }
  EXPECT_GE(columns, 1);
  const Sample resized =
      transformed({{"type", "Resize"}, {"scale", {3, 2}}, {"keep_ratio", true}}, sample);
  EXPECT_EQ(resized.depth.size(), cv::Size(3, 2));
  const Sample flipped = transformed({{"type", "RandomFlip"}, {"prob", 1.0}}, sample);
  EXPECT_FLOAT_EQ(flipped.depth.at<float>(0, 0), 1.005F);
}

TEST(ConcatCDInput, NeedsASecondImage) {
  try {
    transformed({{"type", "ConcatCDInput"}}, augmentation_sample());
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()),
              "formula.png: ConcatCDInput has no second image to join: the data set must be a "
              "BaseCDDataset, and LoadMultipleRSImageFromFile a step before");
  }
}

}  // namespace
}  // namespace seg
