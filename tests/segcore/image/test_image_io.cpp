#include "segcore/image/image_io.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/data/rng.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using test::TempDir;
using ::testing::HasSubstr;

const std::string kImages = source_path("tests/data/images/");
const std::string kRealData = source_path("../shared/data/");

std::string image_error(const std::function<void()>& f) {
  try {
    f();
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

template <class T>
void compare_pixels(const cv::Mat& image, const nlohmann::json& expected) {
  const size_t samples = image.total() * static_cast<size_t>(image.channels());
  ASSERT_TRUE(image.isContinuous());
  const T* pixels = image.ptr<T>();
  if (expected.contains("values")) {
    const auto values = expected["values"].get<std::vector<T>>();
    ASSERT_EQ(values.size(), samples);
    for (size_t i = 0; i < samples; ++i) ASSERT_EQ(pixels[i], values[i]) << "sample " << i;
    return;
  }
  int64_t sum = 0;
  for (size_t i = 0; i < samples; ++i) {
    sum += static_cast<int64_t>(pixels[i]) * static_cast<int64_t>(i % 97 + 1);
  }
  EXPECT_EQ(sum, expected["checksum"].get<int64_t>());
}

void compare_image(const cv::Mat& image, const nlohmann::json& expected) {
  const auto shape = expected["shape"].get<std::vector<int>>();
  EXPECT_EQ(image.rows, shape[0]);
  EXPECT_EQ(image.cols, shape[1]);
  EXPECT_EQ(image.channels(), shape.size() > 2 ? shape[2] : 1);
  const std::string type = expected["dtype"];
  if (type == "uint8") {
    ASSERT_EQ(image.depth(), CV_8U);
    compare_pixels<uint8_t>(image, expected);
  } else if (type == "uint16") {
    ASSERT_EQ(image.depth(), CV_16U);
    compare_pixels<uint16_t>(image, expected);
  } else if (type == "int32") {
    ASSERT_EQ(image.depth(), CV_32S);
    compare_pixels<int32_t>(image, expected);
  } else {
    ASSERT_EQ(type, "float32");
    ASSERT_EQ(image.depth(), CV_32F);
    compare_pixels<float>(image, expected);
  }
}

TEST(ImageIo, ReadsWhatOpenCvPillowAndTifffileRead) {
  std::ifstream in(kImages + "expected.json");
  const auto all = nlohmann::json::parse(in);
  ASSERT_GT(all.size(), 40u);
  for (const auto& [file, forms] : all.items()) {
    for (const auto& [form, expected] : forms.items()) {
      SCOPED_TRACE(file + " as " + form);
      try {
        compare_image(form == "labels" ? read_labels(kImages + file)
                                       : read_image(kImages + file, *image_flag(form)),
                      expected);
      } catch (const std::exception& e) {
        ADD_FAILURE() << e.what();
      }
    }
  }
}

uint32_t crc_of(const cv::Mat& image) {
  uint32_t crc = 0xFFFFFFFFu;
  for (size_t i = 0; i < image.total() * image.elemSize(); ++i) {
    crc ^= image.data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

TEST(ImageIo, RealPicturesHaveThePixelsOfOpenCv) {
  if (!std::filesystem::exists(kRealData + "ade_sample")) {
    GTEST_SKIP() << "there is no " << kRealData << "ade_sample";
  }
  const std::string images = kRealData + "ade_sample/images/validation/ADE_val_0000000";
  const std::string labels = kRealData + "ade_sample/annotations/validation/ADE_val_0000000";
  // zlib.crc32 of cv2.imdecode(...) of opencv-python-headless 4.14 and of Pillow's arrays.
  const uint32_t color[] = {0x3b90691f, 0x60a2f86a, 0x7229e4dd};
  const uint32_t gray[] = {0x49af417d, 0xe1ea9f75, 0xfe9948f6};
  const uint32_t ids[] = {0x6bc8690d, 0xef7d7f6f, 0x2ce04e4c};
  for (int i = 0; i < 3; ++i) {
    const std::string number = std::to_string(i + 1);
    EXPECT_EQ(crc_of(read_image(images + number + ".jpg")), color[i]);
    EXPECT_EQ(crc_of(read_image(images + number + ".jpg", ImageFlag::kGrayscale)), gray[i]);
    EXPECT_EQ(crc_of(read_image(images + number + ".jpg", ImageFlag::kUnchanged)), color[i]);
    EXPECT_EQ(crc_of(read_labels(labels + number + ".png")), ids[i]);
  }
  const std::string camvid = kRealData + "camvid/train/0001TP_006690.png";
  EXPECT_EQ(crc_of(read_image(camvid)), 0xadeea403);
  EXPECT_EQ(crc_of(read_image(camvid, ImageFlag::kGrayscale)), 0x7c14f0e3);
}

TEST(ImageIo, FileOrderOfTifffile) {
  const cv::Mat bgr = read_image(kImages + "rgb.tif", ImageFlag::kUnchanged);
  const cv::Mat rgb = decode_image_in_file_order(read_file_bytes(kImages + "rgb.tif"), "rgb.tif");
  EXPECT_EQ(bgr.at<cv::Vec3b>(1, 2)[0], rgb.at<cv::Vec3b>(1, 2)[2]);
  EXPECT_EQ(image_error([] {
              decode_image_in_file_order(read_file_bytes(kImages + "rgb.png"), "rgb.png");
            }),
            "rgb.png: is no TIFF file, which imdecode_backend: tifffile reads alone");
}

TEST(ImageIo, HeadersAlone) {
  const ImageInfo info =
      image_info(read_file_bytes(kImages + "bands6_tiles.tif"), "bands6_tiles.tif");
  EXPECT_EQ(info.height, 40);
  EXPECT_EQ(info.width, 35);
  EXPECT_EQ(info.bands, 6);
  EXPECT_EQ(image_info(read_file_bytes(kImages + "gray.jpg"), "").bands, 1);
  EXPECT_EQ(image_info(read_file_bytes(kImages + "rgb.bmp"), "").height, 4);
  EXPECT_EQ(image_info(read_file_bytes(kImages + "palette.png"), "").width, 5);
}

TEST(ImageIo, MessagesForFilesThatAreNoPictures) {
  const TempDir dir;
  const auto told = [&](const std::string& name) {
    const std::string path = dir / name;
    const std::string message = image_error([&] { read_image(path); });
    EXPECT_THAT(message, HasSubstr(path + ": "));
    return message.substr(std::min(message.size(), path.size() + 2));
  };
  EXPECT_EQ(told("missing.jpg"), "there is no such file");
  std::filesystem::create_directory(dir / "folder.png");
  EXPECT_EQ(told("folder.png"), "is a folder; a file was expected");
  dir.write("empty.jpg", "");
  EXPECT_EQ(told("empty.jpg"), "is empty: a picture was expected");
  dir.write("text.jpg", "hello");
  EXPECT_EQ(
      told("text.jpg"),
      "is not a picture that can be read (JPEG, PNG, TIFF, BMP, WebP or Netpbm), or is damaged");
  dir.write("a.webp", std::string("RIFF\0\0\0\0WEBPVP8 ", 16));
  EXPECT_EQ(told("a.webp"), "damaged WebP file");
  dir.write("lfs.png", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_EQ(told("lfs.png"),
            "is a pointer of Git LFS in place of the file itself (run git lfs pull); JPEG, PNG, "
            "TIFF, BMP, WebP and Netpbm files can be read");
}

std::string cut(const std::string& file, double share) {
  auto bytes = read_file_bytes(kImages + file);
  bytes.resize(static_cast<size_t>(static_cast<double>(bytes.size()) * share));
  return image_error([&] { decode_image(bytes, "cut", ImageFlag::kUnchanged); });
}

TEST(ImageIo, FilesThatAreCutShort) {
  EXPECT_THAT(cut("progressive.jpg", 0.9), HasSubstr("cut: damaged JPEG file: "));
  EXPECT_EQ(cut("exif_1.jpg", 0.97),
            "cut: damaged JPEG file: the file ends before the picture does");
  EXPECT_EQ(cut("rgb.png", 0.7), "cut: damaged PNG file: the file ends before the picture does");
  EXPECT_THAT(cut("bands6_tiles.tif", 0.5), HasSubstr("cut: damaged TIFF file: "));
  EXPECT_EQ(cut("rgb.bmp", 0.9), "cut: damaged BMP file: it ends before the picture does");
}

TEST(ImageIo, HeadersThatLieAllocateNothing) {
  auto png = read_file_bytes(kImages + "gray.png");
  png[16] = 0;  // width: bytes 16 to 19
  png[17] = 0x0F;
  EXPECT_THAT(image_error([&] { decode_image(png, "a.png"); }), HasSubstr("CRC error"));
  auto bmp = read_file_bytes(kImages + "gray.bmp");
  bmp[20] = 0x0F;  // width: bytes 18 to 21
  EXPECT_EQ(image_error([&] { decode_image(bmp, "a.bmp"); }),
            "a.bmp: claims 983045x4 pixels, which a file of 1110 bytes cannot hold");
  auto jpeg = read_file_bytes(kImages + "exif_1.jpg");
  for (size_t i = 0; i + 9 < jpeg.size(); ++i) {
    if (jpeg[i] != 0xFF || jpeg[i + 1] != 0xC0) continue;
    for (size_t at = i + 5; at < i + 9; ++at) jpeg[at] = 0xFF;  // height and width
  }
  EXPECT_EQ(image_error([&] { decode_image(jpeg, "a.jpg"); }),
            "a.jpg: damaged JPEG file: Maximum supported image dimension is 65500 pixels");
}

TEST(ImageIo, LabelsWithSeveralBands) {
  EXPECT_EQ(image_error([] { read_labels(kImages + "rgb.png"); }),
            kImages +
                "rgb.png: has 3 bands of different values; an annotation has one: class ids, "
                "not colours");
  EXPECT_EQ(image_error([] { read_labels(kImages + "float.tif"); }).substr(kImages.size(), 27),
            "float.tif: holds the value ");
}

TEST(ImageIo, ColorWouldLoseBandsOrNumbers) {
  EXPECT_EQ(image_error([] { read_image(kImages + "bands6_tiles.tif"); }),
            kImages +
                "bands6_tiles.tif: has 6 bands, of which color_type 'color' would drop some: "
                "load it with color_type: unchanged");
  EXPECT_EQ(image_error([] { read_image(kImages + "float.tif"); }),
            kImages +
                "float.tif: holds other numbers than uint8 and uint16, which color_type "
                "'color' (8 bits) cannot keep: load it with color_type: unchanged");
}

/// Thousands of damaged files: read or refused, never a crash (the sanitizers look on).
TEST(ImageIo, MutatedFilesAreReadOrRefused) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(kImages)) {
    const std::string suffix = entry.path().extension().string();
    if (suffix != ".json" && suffix != ".py") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  ASSERT_GT(files.size(), 40u);
  size_t refused = 0, tried = 0;
  for (size_t f = 0; f < files.size(); ++f) {
    const auto original = read_file_bytes(files[f]);
    for (uint64_t i = 0; i < 50; ++i, ++tried) {
      Rng rng(11, RngPurpose::kCheck, f, i);
      auto bytes = original;
      const int64_t flips = 1 + rng.below(4);
      const auto size = static_cast<int64_t>(bytes.size());
      for (int64_t k = 0; k < flips; ++k) {
        // Headers are at the beginning, directories at the end.
        const int64_t reach = std::min<int64_t>(size, rng.chance(0.6) ? 120 : size);
        bytes[static_cast<size_t>(rng.below(reach))] = static_cast<uint8_t>(rng.bits());
      }
      if (rng.chance(0.2)) bytes.resize(static_cast<size_t>(rng.below(size)));
      const std::string told = image_error([&] {
        if (i % 2) {
          decode_image(bytes, "m", ImageFlag::kUnchanged);
        } else {
          decode_labels(bytes, "m");
        }
      });
      refused += told != "no error";
    }
  }
  EXPECT_GT(refused, tried / 4);
}

cv::Mat random_image(int height, int width, int type) {
  cv::Mat image(height, width, type);
  Rng rng(5, RngPurpose::kCheck, 0, static_cast<uint64_t>(type));
  for (int y = 0; y < height; ++y) {
    uint8_t* row = image.ptr(y);
    for (size_t i = 0; i < static_cast<size_t>(width) * image.elemSize(); ++i) {
      row[i] = static_cast<uint8_t>(rng.bits() & 0x7F);  // finite as floats
    }
  }
  return image;
}

TEST(ImageIo, WrittenPicturesReadBackEqual) {
  const TempDir dir;
  for (const int type : {CV_8UC1, CV_8UC3, CV_8UC4, CV_16UC1, CV_16UC3}) {
    const cv::Mat image = random_image(9, 7, type);
    write_image(dir / "made/a.png", image);
    const cv::Mat read = read_image(dir / "made/a.png", ImageFlag::kUnchanged);
    ASSERT_EQ(read.type(), type);
    EXPECT_EQ(cv::norm(read.reshape(1), image.reshape(1), cv::NORM_INF), 0);
  }
  for (const int type :
       {CV_8UC1, CV_8UC2, CV_8UC3, CV_16UC4, CV_32FC1, CV_32FC3, CV_16UC(7), CV_32FC(12)}) {
    const cv::Mat image = random_image(9, 7, type);
    write_image(dir / "a.tif", image);
    const cv::Mat read = read_image(dir / "a.tif", ImageFlag::kUnchanged);
    ASSERT_EQ(read.type(), type);
    EXPECT_EQ(cv::norm(read.reshape(1), image.reshape(1), cv::NORM_INF), 0);
  }
  const cv::Mat flat(40, 30, CV_8UC3, cv::Scalar(10, 200, 90));
  write_image(dir / "a.jpg", flat);
  EXPECT_LE(cv::norm(read_image(dir / "a.jpg").reshape(1), flat.reshape(1), cv::NORM_INF), 2);
  EXPECT_EQ(image_error([&] { write_image(dir / "a.gif", flat); }),
            (dir / "a.gif") + ": pictures are written as .png, .jpg or .tif");
}

TEST(ImageIo, PalettePicturesHoldIdsAndColours) {
  const TempDir dir;
  cv::Mat ids(2, 3, CV_8UC1, cv::Scalar(0));
  ids.at<uint8_t>(0, 1) = 1;
  ids.at<uint8_t>(1, 2) = 255;
  write_palette_png(dir / "p.png", ids, {{1, 2, 3}, {200, 100, 50}});
  EXPECT_EQ(cv::norm(read_labels(dir / "p.png"), ids, cv::NORM_INF), 0);
  const cv::Mat colours = read_image(dir / "p.png");
  EXPECT_EQ(colours.at<cv::Vec3b>(0, 1), cv::Vec3b(50, 100, 200));
  EXPECT_EQ(colours.at<cv::Vec3b>(1, 2), cv::Vec3b(255, 255, 255));
}

}  // namespace
}  // namespace seg
