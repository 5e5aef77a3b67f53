/// Windows of rasters: equal to what they would be cut out of, and nothing else decoded.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tiffio.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <opencv2/core.hpp>
// After <cstdio>, which it needs.
#include <jpeglib.h>

#include "registry/error.hpp"
#include "registry/text.hpp"
#include "segcore/data/image_source.hpp"
#include "segcore/data/rng.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/image/inflated_stream.hpp"
#include "segcore/image/raster_writer.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

using test::TempDir;
using ::testing::HasSubstr;

std::string window_error(const std::function<void()>& f) {
  try {
    f();
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

bool same_pixels(const cv::Mat& a, const cv::Mat& b) {
  if (a.size() != b.size() || a.type() != b.type()) return false;
  for (int y = 0; y < a.rows; ++y) {
    if (std::memcmp(a.ptr(y), b.ptr(y), static_cast<size_t>(a.cols) * a.elemSize()) != 0) {
      return false;
    }
  }
  return true;
}

using Reading = std::function<cv::Mat(const std::string&, const cv::Rect*)>;

/// All ways to read a file, whole where no window is given.
std::vector<std::pair<std::string, Reading>> readings() {
  std::vector<std::pair<std::string, Reading>> out;
  for (const auto& name : image_flag_names()) {
    const ImageFlag flag = *image_flag(name);
    out.emplace_back(name, [flag](const std::string& path, const cv::Rect* window) {
      return window ? read_image_window(path, *window, flag) : read_image(path, flag);
    });
  }
  out.emplace_back("file order", [](const std::string& path, const cv::Rect* window) {
    return window ? read_image_window_in_file_order(path, *window)
                  : decode_image_in_file_order(read_file_bytes(path), path);
  });
  out.emplace_back("labels", [](const std::string& path, const cv::Rect* window) {
    return window ? read_labels_window(path, *window) : read_labels(path);
  });
  return out;
}

/// Corners, edges, one pixel, the middle, all.
std::vector<cv::Rect> windows_of(int width, int height) {
  return {{0, 0, width, height},
          {0, 0, 1, 1},
          {width - 1, height - 1, 1, 1},
          {width / 3, height / 4, (width + 1) / 2, (height + 1) / 2},
          {width / 2, 0, width - width / 2, 1},
          {0, height / 2, 1, height - height / 2}};
}

/// \return how many windows were compared.
int compare_windows(const std::string& path) {
  int compared = 0;
  for (const auto& [name, read] : readings()) {
    cv::Mat whole;
    try {
      whole = read(path, nullptr);
    } catch (const DataError&) {
      continue;  // not to be read so as a whole either
    }
    for (const cv::Rect& window : windows_of(whole.cols, whole.rows)) {
      EXPECT_TRUE(same_pixels(read(path, &window), whole(window)))
          << path << " as " << name << " in " << window;
      ++compared;
    }
  }
  return compared;
}

TEST(ImageWindow, EqualsTheCropForEveryFixture) {
  int files = 0;
  for (const auto& file : fs::directory_iterator(source_path("tests/data/images"))) {
    const std::string path = file.path().string();
    // Pixels that are turned or no numbers are reported: see below.
    if (!has_picture_suffix(path) || read_image_info(path).orientation != 1) continue;
    if (path.ends_with("nan.tif")) continue;
    EXPECT_GT(compare_windows(path), 0) << path;
    ++files;
  }
  EXPECT_GT(files, 40);
}

struct TiffKind {
  bool tiled = false, planar = false, big = false;
  uint16_t compression = COMPRESSION_NONE;
  uint16_t format = SAMPLEFORMAT_UINT;
  int bits = 8, bands = 1;
  uint16_t photometric = PHOTOMETRIC_MINISBLACK;
  uint16_t predictor = PREDICTOR_NONE;
};

std::ostream& operator<<(std::ostream& out, const TiffKind& kind) {
  return out << (kind.tiled ? "tiles" : "strips") << (kind.planar ? ", planar" : "")
             << (kind.big ? ", BigTIFF" : "") << ", compression " << kind.compression << ", "
             << kind.bands << " bands of " << kind.bits << " bits, format " << kind.format
             << ", photometric " << kind.photometric << ", predictor " << kind.predictor;
}

constexpr int kWidth = 53, kHeight = 41;

/// Random bits, which are numbers in every format; floats are made of small whole numbers.
std::vector<uint8_t> random_block(const TiffKind& kind, size_t size, Rng& rng) {
  std::vector<uint8_t> out(size);
  for (auto& byte : out) byte = static_cast<uint8_t>(rng.below(256));
  if (kind.format == SAMPLEFORMAT_IEEEFP && kind.bits == 32) {
    for (size_t at = 0; at + 4 <= size; at += 4) {
      const auto value = static_cast<float>(out[at]);
      std::memcpy(&out[at], &value, 4);
    }
  } else if (kind.format == SAMPLEFORMAT_IEEEFP) {
    for (size_t at = 0; at + 8 <= size; at += 8) {
      const auto value = static_cast<double>(out[at]);
      std::memcpy(&out[at], &value, 8);
    }
  }
  return out;
}

void write_tiff(const std::string& path, const TiffKind& kind) {
  TIFF* tiff = TIFFOpen(path.c_str(), kind.big ? "w8" : "w");
  ASSERT_NE(tiff, nullptr);
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, kWidth);
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, kHeight);
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, kind.bits);
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, kind.bands);
  TIFFSetField(tiff, TIFFTAG_SAMPLEFORMAT, kind.format);
  TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, kind.photometric);
  TIFFSetField(tiff, TIFFTAG_PLANARCONFIG,
               kind.planar ? PLANARCONFIG_SEPARATE : PLANARCONFIG_CONTIG);
  TIFFSetField(tiff, TIFFTAG_COMPRESSION, kind.compression);
  const std::vector<uint16_t> extra(static_cast<size_t>(kind.bands - 1), EXTRASAMPLE_UNSPECIFIED);
  if (kind.photometric == PHOTOMETRIC_MINISBLACK && !extra.empty()) {
    TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, static_cast<int>(extra.size()), extra.data());
  }
  if (kind.predictor != PREDICTOR_NONE) TIFFSetField(tiff, TIFFTAG_PREDICTOR, kind.predictor);
  if (kind.tiled) {
    TIFFSetField(tiff, TIFFTAG_TILEWIDTH, 16);
    TIFFSetField(tiff, TIFFTAG_TILELENGTH, 32);
  } else {
    // JPEG compresses rows by eights, with halved colours by sixteens.
    TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, kind.compression == COMPRESSION_JPEG ? 16 : 7);
  }
  if (kind.photometric == PHOTOMETRIC_YCBCR) {
    TIFFSetField(tiff, TIFFTAG_YCBCRSUBSAMPLING, 2, 2);
    if (kind.compression == COMPRESSION_JPEG) {
      TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    }
  }
  if (kind.photometric == PHOTOMETRIC_PALETTE) {
    std::vector<uint16_t> colours(size_t{1} << kind.bits);
    for (size_t i = 0; i < colours.size(); ++i) colours[i] = static_cast<uint16_t>(i * 257);
    TIFFSetField(tiff, TIFFTAG_COLORMAP, colours.data(), colours.data(), colours.data());
  }
  Rng rng(1, RngPurpose::kCheck, 0, 0);
  const uint32_t blocks = kind.tiled ? TIFFNumberOfTiles(tiff) : TIFFNumberOfStrips(tiff);
  for (uint32_t i = 0; i < blocks; ++i) {
    const uint32_t rows = 7, in_plane = (kHeight + rows - 1) / rows;
    const bool jpeg = kind.compression == COMPRESSION_JPEG;
    const bool last = !kind.tiled && !jpeg && i % in_plane == in_plane - 1;
    const tmsize_t size = kind.tiled ? TIFFTileSize(tiff)
                          : last     ? TIFFVStripSize(tiff, kHeight % rows)
                                     : TIFFStripSize(tiff);
    auto block = random_block(kind, static_cast<size_t>(size), rng);
    if (kind.tiled) {
      ASSERT_EQ(TIFFWriteEncodedTile(tiff, i, block.data(), size), size) << kind;
    } else {
      ASSERT_GT(TIFFWriteEncodedStrip(tiff, i, block.data(), size), 0) << kind;
    }
  }
  TIFFClose(tiff);
}

std::vector<TiffKind> tiff_kinds() {
  std::vector<TiffKind> out;
  const std::pair<uint16_t, int> samples[] = {
      {SAMPLEFORMAT_UINT, 8}, {SAMPLEFORMAT_UINT, 16},  {SAMPLEFORMAT_INT, 16},
      {SAMPLEFORMAT_INT, 8},  {SAMPLEFORMAT_UINT, 32},  {SAMPLEFORMAT_INT, 32},
      {SAMPLEFORMAT_UINT, 1}, {SAMPLEFORMAT_UINT, 4},   {SAMPLEFORMAT_IEEEFP, 32},
      {SAMPLEFORMAT_UINT, 2}, {SAMPLEFORMAT_IEEEFP, 64}};
  const uint16_t compressions[] = {COMPRESSION_NONE,          COMPRESSION_LZW,
                                   COMPRESSION_ADOBE_DEFLATE, COMPRESSION_PACKBITS,
                                   COMPRESSION_ZSTD,          COMPRESSION_LZMA};
  size_t number = 0;
  for (const bool tiled : {false, true}) {
    for (const bool planar : {false, true}) {
      for (const uint16_t compression : compressions) {
        if (!TIFFIsCODECConfigured(compression)) continue;
        for (const auto& [format, bits] : samples) {
          for (const int bands : {1, 3, 5}) {
            out.push_back({.tiled = tiled,
                           .planar = planar,
                           .big = number++ % 2 == 1,
                           .compression = compression,
                           .format = format,
                           .bits = bits,
                           .bands = bands});
          }
        }
      }
    }
    for (const bool planar : {false, true}) {
      out.push_back({.tiled = tiled,
                     .planar = planar,
                     .compression = COMPRESSION_LZW,
                     .bits = 16,
                     .bands = 5,
                     .predictor = PREDICTOR_HORIZONTAL});
      // Of floats the predictor would make numbers that are none of random bytes.
      out.push_back({.tiled = tiled,
                     .planar = planar,
                     .compression = COMPRESSION_ADOBE_DEFLATE,
                     .format = SAMPLEFORMAT_IEEEFP,
                     .bits = 32,
                     .bands = 3,
                     .predictor = PREDICTOR_FLOATINGPOINT});
      out.push_back(
          {.tiled = tiled, .planar = planar, .bands = 4, .photometric = PHOTOMETRIC_SEPARATED});
    }
    for (const int bits : {1, 2, 4, 8}) {
      out.push_back({.tiled = tiled, .bits = bits, .photometric = PHOTOMETRIC_PALETTE});
      out.push_back({.tiled = tiled, .bits = bits, .photometric = PHOTOMETRIC_MINISWHITE});
    }
    for (const uint16_t photometric : {PHOTOMETRIC_YCBCR, PHOTOMETRIC_RGB}) {
      out.push_back({.tiled = tiled,
                     .compression = COMPRESSION_JPEG,
                     .bands = 3,
                     .photometric = photometric});
    }
  }
  out.push_back({.bands = 3, .photometric = PHOTOMETRIC_CIELAB});
  return out;
}

TEST(ImageWindow, EqualsTheCropForEveryLayoutAndCompression) {
  const TempDir dir;
  const std::string path = dir / "a.tif";
  for (const TiffKind& kind : tiff_kinds()) {
    SCOPED_TRACE(text(kind));
    write_tiff(path, kind);
    EXPECT_GT(compare_windows(path), 0);
  }
}

/// Files whose strips or tiles outside of a window are destroyed.
TEST(ImageWindow, DecodesNothingElse) {
  const TempDir dir;
  for (const bool tiled : {false, true}) {
    const std::string path = dir / "a.tif";
    const TiffKind kind{.tiled = tiled, .compression = COMPRESSION_ADOBE_DEFLATE, .bands = 3};
    write_tiff(path, kind);
    const cv::Rect window(tiled ? 16 : 0, tiled ? 32 : 14, 16, 7);
    const cv::Mat expected = read_image(path)(window).clone();
    TIFF* tiff = TIFFOpen(path.c_str(), "r");
    const uint32_t kept =
        tiled ? TIFFComputeTile(tiff, 16, 32, 0, 0) : TIFFComputeStrip(tiff, 14, 0);
    std::vector<std::pair<uint64_t, uint64_t>> others;
    const uint32_t blocks = tiled ? TIFFNumberOfTiles(tiff) : TIFFNumberOfStrips(tiff);
    for (uint32_t i = 0; i < blocks; ++i) {
      if (i != kept) {
        others.emplace_back(TIFFGetStrileOffset(tiff, i), TIFFGetStrileByteCount(tiff, i));
      }
    }
    TIFFClose(tiff);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (const auto& [offset, size] : others) {
      file.seekp(static_cast<std::streamoff>(offset));
      file << std::string(size, '\xEE');
    }
    file.close();
    EXPECT_TRUE(same_pixels(read_image_window(path, window), expected));
    EXPECT_THAT(window_error([&] { read_image(path); }), HasSubstr("damaged TIFF file"));
  }
}

/// 1.6 thousand million pixels, of which one tile is in the file.
TEST(ImageWindow, ReadsARasterThatCannotBeReadAsAWhole) {
  const TempDir dir;
  const std::string path = dir / "large.tif";
  constexpr int kSide = 40'000, kAt = 39'936;
  cv::Mat corner(kSide - kAt, kSide - kAt, CV_8UC3);
  for (int y = 0; y < corner.rows; ++y) {
    for (int x = 0; x < corner.cols; ++x) {
      corner.at<cv::Vec3b>(y, x) = cv::Vec3b(static_cast<uint8_t>(x), static_cast<uint8_t>(y), 7);
    }
  }
  RasterWriter writer(path, {.height = kSide, .width = kSide, .type = CV_8UC3});
  writer.write(kAt, kAt, corner);
  writer.commit();
  EXPECT_EQ(read_image_info(path).width, kSide);
  const cv::Rect window(kSide - 70, kSide - 70, 70, 70);  // begins in a tile that is not there
  const cv::Mat found = read_image_window_in_file_order(path, window);
  EXPECT_TRUE(same_pixels(found(cv::Rect(6, 6, 64, 64)), corner));
  EXPECT_EQ(cv::countNonZero(found.reshape(1).rowRange(0, 6)), 0);
  EXPECT_THAT(window_error([&] { read_image(path); }),
              HasSubstr("claims 40000x40000 pixels, more than can be read (2^30)"));
}

TEST(ImageWindow, ReportsWhatItCannotRead) {
  const TempDir dir;
  const std::string path = dir / "a.tif";
  write_image(path, cv::Mat(20, 30, CV_8UC1, cv::Scalar(1)));
  EXPECT_EQ(window_error([&] {
              read_image_window(path, {25, 0, 6, 5});
            }),
            path + ": has 30x20 pixels, which the window of 6x5 at row 0, column 25 is not within");
  EXPECT_EQ(window_error([&] { read_labels_window(path, {}); }),
            path + ": has 30x20 pixels, which the window of 0x0 at row 0, column 0 is not within");
  const std::string turned = source_path("tests/data/images/exif_6.jpg");
  EXPECT_EQ(window_error([&] {
              read_image_window(turned, {0, 0, 2, 2});
            }),
            turned +
                ": is to be turned by its orientation 6, which windows of it cannot be: save "
                "it upright");
  EXPECT_EQ(window_error([&] {
              read_image_window(dir / "b.tif", {0, 0, 1, 1});
            }),
            dir / "b.tif" + ": there is no such file");
  EXPECT_EQ(window_error([&] {
              read_image_window(dir.path().string(), {0, 0, 1, 1});
            }),
            dir.path().string() + ": is a folder; a file was expected");
  // Rows and columns are those of the raster.
  const std::string floats = source_path("tests/data/images/nan.tif");
  const std::string whole = window_error([&] { read_image(floats, ImageFlag::kUnchanged); });
  ASSERT_THAT(whole, HasSubstr("holds NaN at row "));
  const ImageInfo info = read_image_info(floats);
  bool found = false;
  for (int y = 0; y < info.height; ++y) {
    for (int x = 0; x < info.width; ++x) {
      const std::string part = window_error([&] {
        read_image_window(floats, {x, y, 1, 1}, ImageFlag::kUnchanged);
      });
      if (part == "no error") continue;
      found = true;
      EXPECT_THAT(part, HasSubstr(text("at row ", y, ", column ", x, " ")));
    }
  }
  EXPECT_TRUE(found);
}

TEST(ImageWindow, FindsPixelsWithoutData) {
  const TempDir dir;
  const std::string path = dir / "a.tif";
  cv::Mat pixels(20, 20, CV_32FC2, cv::Scalar(1, 2));
  pixels.at<cv::Vec2f>(5, 6) = cv::Vec2f(-9999, -9999);
  pixels.at<cv::Vec2f>(5, 7) = cv::Vec2f(-9999, 3);  // one band has data
  write_raster(path, pixels, {.block = 16, .nodata = -9999});
  ASSERT_EQ(read_image_info(path).nodata, -9999);
  const cv::Mat missing = read_missing_window(path, {4, 4, 8, 8});
  ASSERT_EQ(missing.size(), cv::Size(8, 8));
  EXPECT_EQ(cv::countNonZero(missing), 1);
  EXPECT_EQ(missing.at<uint8_t>(1, 2), 255);
  EXPECT_TRUE(read_missing_window(path, {10, 10, 4, 4}).empty());
}

GeoReference some_place() {
  GeoReference out;
  out.pixel_scale = {0.5, 0.25, 0};
  out.tiepoints = {0, 0, 0, 500000.125, 5600000.5, 0};
  out.keys = {1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32632};
  out.double_params = {6378137, 298.257223563};
  out.ascii_params = "WGS 84 / UTM zone 32N|";
  return out;
}

TEST(RasterWriter, KeepsPixelsAndGeoreference) {
  const TempDir dir;
  for (const int type : {CV_8UC1, CV_8UC3, CV_16UC(10), CV_32FC2}) {
    cv::Mat pixels(70, 90, type);
    cv::RNG random(3);
    random.fill(pixels, cv::RNG::UNIFORM, 0, 250);
    const std::string path = dir / "a.tif";
    RasterForm form{.height = 70, .width = 90, .type = type, .block = 32};
    form.georeference = some_place();
    RasterWriter writer(path, form);
    writer.write(32, 0, pixels(cv::Rect(32, 0, 58, 64)));  // in any order, several at once
    writer.write(0, 64, pixels(cv::Rect(0, 64, 90, 6)));
    EXPECT_FALSE(fs::exists(path) && type == CV_8UC1) << "visible before it is whole";
    writer.write(0, 0, pixels(cv::Rect(0, 0, 32, 64)));
    writer.commit();
    EXPECT_TRUE(same_pixels(decode_image_in_file_order(read_file_bytes(path), path), pixels));
    EXPECT_EQ(read_georeference(path), some_place());
  }
  EXPECT_THROW(RasterWriter(dir / "none/a.tif", {.height = 1, .width = 1}), DataError);
}

TEST(RasterWriter, ShowsClassesInColour) {
  const TempDir dir;
  const std::string path = dir / "a.tif";
  cv::Mat ids(20, 20, CV_8UC1, cv::Scalar(2));
  write_raster(path, ids, {.palette = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}, .nodata = 255});
  EXPECT_TRUE(same_pixels(read_labels(path), ids));
  EXPECT_EQ(read_image(path).at<cv::Vec3b>(0, 0), cv::Vec3b(9, 8, 7));
  EXPECT_EQ(read_image_info(path).nodata, 255);
  EXPECT_TRUE(read_georeference(path).empty());
}

TEST(GeoReference, MovesToAPart) {
  GeoReference place = some_place().of_part(8, 4);
  EXPECT_EQ(place.tiepoints, (std::vector<double>{0, 0, 0, 500004.125, 5599999.5, 0}));
  EXPECT_EQ(place.keys, some_place().keys);
  // Several points that are known, as in scanned maps, stay where they are on the earth.
  GeoReference points;
  points.tiepoints = {0, 0, 0, 10, 50, 0, 100, 0, 0, 11, 50, 0};
  EXPECT_EQ(points.of_part(8, 4).tiepoints,
            (std::vector<double>{-8, -4, 0, 10, 50, 0, 92, -4, 0, 11, 50, 0}));
  GeoReference turned;
  turned.transformation = {0, 2, 0, 100, 3, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 1};
  EXPECT_EQ(turned.of_part(8, 4).transformation,
            (std::vector<double>{0, 2, 0, 108, 3, 0, 0, 224, 0, 0, 0, 0, 0, 0, 0, 1}));
}

TEST(ImagePartTest, OfEncodedFilesIsCutOutOfTheWhole) {
  int compared = 0;
  for (const auto& file : fs::directory_iterator(source_path("tests/data/images"))) {
    const std::string path = file.path().string();
    if (!path.ends_with(".jpg") && !path.ends_with(".png")) continue;
    const auto bytes = read_file_bytes(path);
    if (image_info(bytes, path).orientation != 1) continue;
    const cv::Mat whole = decode_image(bytes, path);
    for (const cv::Rect& window : windows_of(whole.cols, whole.rows)) {
      EXPECT_TRUE(same_pixels(decode_image_part(bytes, path, window), whole(window)))
          << path << " in " << window;
      ++compared;
    }
  }
  EXPECT_GT(compared, 60);
}

/// How colour samples are shared by pixels, and the order of what is stored.
struct JpegForm {
  int across, down;
  bool progressive;
  unsigned restart;  ///< units between markers at which a decoder can start anew; 0: none
};

std::vector<uint8_t> jpeg_of(const cv::Mat& picture, const JpegForm& form) {
  jpeg_compress_struct encoder{};
  jpeg_error_mgr errors{};
  encoder.err = jpeg_std_error(&errors);
  jpeg_create_compress(&encoder);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&encoder, &bytes, &size);
  encoder.image_width = static_cast<JDIMENSION>(picture.cols);
  encoder.image_height = static_cast<JDIMENSION>(picture.rows);
  encoder.input_components = 3;
  encoder.in_color_space = JCS_RGB;
  jpeg_set_defaults(&encoder);
  encoder.comp_info[0].h_samp_factor = form.across;
  encoder.comp_info[0].v_samp_factor = form.down;
  encoder.restart_interval = form.restart;
  if (form.progressive) jpeg_simple_progression(&encoder);
  jpeg_start_compress(&encoder, TRUE);
  while (encoder.next_scanline < encoder.image_height) {
    JSAMPROW row = const_cast<uint8_t*>(picture.ptr(static_cast<int>(encoder.next_scanline)));
    jpeg_write_scanlines(&encoder, &row, 1);
  }
  jpeg_finish_compress(&encoder);
  jpeg_destroy_compress(&encoder);
  std::vector<uint8_t> out(bytes, bytes + size);
  free(bytes);
  return out;
}

/// Windows at all places, so that blocks and colour samples are cut everywhere.
TEST(ImagePartTest, OfAJpegFileBeginsAndEndsAtAnyPixel) {
  cv::Mat picture(70, 203, CV_8UC3);
  cv::randu(picture, 0, 256);
  for (const JpegForm form :
       {JpegForm{1, 1, false, 0}, JpegForm{2, 1, false, 5}, JpegForm{1, 2, false, 0},
        JpegForm{2, 2, false, 0}, JpegForm{2, 2, true, 3}, JpegForm{4, 1, false, 0}}) {
    auto bytes = jpeg_of(picture, form);
    const cv::Mat whole = decode_image(bytes, "a.jpg");
    for (int x = 0; x < whole.cols; x += 7) {
      for (int y = 0; y < whole.rows; y += 5) {
        const cv::Rect window(x, y, (whole.cols - x + 2) / 3, (whole.rows - y + 1) / 2);
        EXPECT_TRUE(same_pixels(decode_image_part(bytes, "a.jpg", window), whole(window)))
            << window << " of samples " << form.across << " x " << form.down;
      }
    }
    // Without the marker of its end no pixel is lost.
    bytes.resize(bytes.size() - 2);
    const cv::Rect corner(whole.cols - 3, whole.rows - 2, 3, 2);
    EXPECT_TRUE(same_pixels(decode_image_part(bytes, "a.jpg", corner), whole(corner)));
  }
}

/// An orientation may stand behind the pixels.
std::vector<uint8_t> png_to_be_turned(const cv::Mat& picture) {
  std::vector<uint8_t> bytes = encode_png(picture);
  const std::vector<uint8_t> checked{'e', 'X', 'I',  'f', 'M', 'M', 0, 42, 0, 0, 0, 8, 0,
                                     1,   1,   0x12, 0,   3,   0,   0, 0,  1, 0, 6, 0, 0};
  std::vector<uint8_t> chunk{0, 0, 0, static_cast<uint8_t>(checked.size() - 4)};
  chunk.insert(chunk.end(), checked.begin(), checked.end());
  const uint32_t sum = detail::crc32(checked);
  for (const int shift : {24, 16, 8, 0}) chunk.push_back(static_cast<uint8_t>(sum >> shift));
  constexpr int kEnd = 12;  // bytes of IEND
  bytes.insert(bytes.end() - kEnd, chunk.begin(), chunk.end());
  return bytes;
}

TEST(ImagePartTest, APictureToBeTurnedIsNotReadInParts) {
  cv::Mat picture(9, 8, CV_8UC3);
  cv::randu(picture, 0, 256);
  auto bytes = png_to_be_turned(picture);
  EXPECT_EQ(image_info(bytes, "a.png").orientation, 6);
  EXPECT_EQ(decode_image(bytes, "a.png").size(), cv::Size(9, 8));
  EXPECT_EQ(encoded_source(bytes, "a.png", ImageFlag::kColor), nullptr);
  EXPECT_THAT(window_error([&] {
                decode_image_part(bytes, "a.png", {2, 3, 4, 5});
              }),
              HasSubstr("a.png: is to be turned by its orientation 6"));
}

TEST(ImagePartTest, OfOtherFormatsIsOfTheBytes) {
  cv::Mat picture(9, 8, CV_8UC3);
  cv::randu(picture, 0, 256);
  const cv::Rect window(2, 3, 4, 5);
  EXPECT_TRUE(
      same_pixels(decode_image_part(encode_png(picture), "no_file.png", window), picture(window)));
}

TEST(ImagePartTest, OfAJpegFileThatEndsBehindItIsRead) {
  cv::Mat picture(96, 64, CV_8UC3);
  cv::randu(picture, 0, 256);
  auto bytes = encode_jpeg(picture);
  const cv::Mat whole = decode_image(bytes, "a.jpg");
  bytes.resize(bytes.size() / 2);
  const cv::Rect top(0, 0, 64, 24), bottom(0, 72, 64, 24);
  EXPECT_TRUE(same_pixels(decode_image_part(bytes, "a.jpg", top), whole(top)));
  EXPECT_THAT(window_error([&] { decode_image_part(bytes, "a.jpg", bottom); }),
              HasSubstr("a.jpg: damaged JPEG file: the file ends before the picture does"));
}

}  // namespace
}  // namespace seg
