#include "segcore/image/image_io.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "registry/error.hpp"
#include "segcore/image/image_codecs.hpp"
#include "segcore/image/image_notes.hpp"
#include "segcore/image/no_data.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/file_reader.hpp"

namespace seg {
namespace detail {

void throw_image_error(const std::string& name, const std::string& reason) {
  throw DataError(name + ": " + reason);
}

void check_size(const EncodedImage& image, uint64_t width, uint64_t height, uint64_t bytes_a_pixel,
                uint64_t ratio) {
  // As OpenCV: sides of 2^20 and 2^30 pixels.
  constexpr uint64_t kMaxSide = 1 << 20, kMaxPixels = 1 << 30;
  // Of this size nothing can go wrong.
  constexpr uint64_t kFreeBytes = 1 << 16;
  if (width == 0 || height == 0) {
    throw_image_error(image.name, text("has no pixels: its size is ", width, "x", height));
  }
  if (width > kMaxSide || height > kMaxSide || width * height > kMaxPixels) {
    throw_image_error(image.name,
                      text("claims ", width, "x", height, " pixels, more than can be read (2^30)"));
  }
  if (width * height * bytes_a_pixel > kFreeBytes + ratio * image.size()) {
    throw_image_error(image.name, text("claims ", width, "x", height, " pixels, which a file of ",
                                       image.size(), " bytes cannot hold"));
  }
}

uint64_t EncodedImage::size() const { return file ? file->size() : bytes.size(); }

void check_window(const EncodedImage& image, int64_t width, int64_t height, int orientation) {
  const cv::Rect& window = *image.window;
  if (window.x < 0 || window.y < 0 || window.width < 1 || window.height < 1 ||
      int64_t{window.x} + window.width > width || int64_t{window.y} + window.height > height) {
    throw_image_error(image.name, text("has ", width, "x", height, " pixels, which the window of ",
                                       window.width, "x", window.height, " at row ", window.y,
                                       ", column ", window.x, " is not within"));
  }
  if (orientation != 1) {
    throw_image_error(image.name, text("is to be turned by its orientation ", orientation,
                                       ", which windows of it cannot be: save it upright"));
  }
}

int exif_orientation(std::span<const uint8_t> block) {
  if (block.size() < 8) return 1;
  const bool little = block[0] == 'I' && block[1] == 'I';
  if (!little && !(block[0] == 'M' && block[1] == 'M')) return 1;
  const auto number = [&](size_t at, size_t size) {
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      value = value << 8 | block[at + (little ? size - 1 - i : i)];
    }
    return value;
  };
  constexpr uint32_t kOrientation = 0x0112, kShort = 3;
  const size_t directory = number(4, 4);
  if (directory > block.size() - 2) return 1;
  const size_t entries = number(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t at = directory + 2 + 12 * i;
    if (at + 12 > block.size()) return 1;
    if (number(at, 2) != kOrientation || number(at + 2, 2) != kShort) continue;
    const uint32_t value = number(at + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace detail

namespace {

using detail::Decoded;
using detail::EncodedImage;
using detail::PixelForm;
using detail::throw_image_error;

enum class PictureFormat { kJpeg, kPng, kTiff, kBmp, kPnm, kWebp };

bool starts_with(std::span<const uint8_t> bytes, std::string_view magic, size_t at = 0) {
  return bytes.size() >= at + magic.size() &&
         std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

PictureFormat picture_format(const EncodedImage& image) {
  using namespace std::string_view_literals;
  const auto bytes = image.bytes;
  if (bytes.empty()) throw_image_error(image.name, "is empty: a picture was expected");
  if (starts_with(bytes, "\xFF\xD8\xFF")) return PictureFormat::kJpeg;
  if (starts_with(bytes, "\x89PNG\r\n\x1A\n")) return PictureFormat::kPng;
  for (const auto magic : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv}) {
    if (starts_with(bytes, magic)) return PictureFormat::kTiff;
  }
  if (starts_with(bytes, "BM")) return PictureFormat::kBmp;
  if (bytes.size() > 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
      (std::isspace(bytes[2]) || bytes[2] == '#')) {
    return PictureFormat::kPnm;
  }
  if (starts_with(bytes, "RIFF") && starts_with(bytes, "WEBP", 8)) return PictureFormat::kWebp;
  const char* foreign = nullptr;
  if (starts_with(bytes, "GIF8")) foreign = "a GIF file";
  if (starts_with(bytes, "\0\0\0\x0CjP  "sv)) foreign = "a JPEG 2000 file";
  if (starts_with(bytes, "ftyp", 4)) foreign = "a HEIF or AVIF file";
  if (starts_with(bytes, "\x93NUMPY")) foreign = "a NumPy array";
  for (const auto begin : {"<!DOCTYPE"sv, "<!doctype"sv, "<html"sv}) {
    if (starts_with(bytes, begin)) foreign = "a web page: the download went wrong";
  }
  if (starts_with(bytes, "version https://git-lfs")) {
    foreign = "a pointer of Git LFS in place of the file itself (run git lfs pull)";
  }
  if (foreign) {
    throw_image_error(
        image.name,
        text("is ", foreign, "; JPEG, PNG, TIFF, BMP, WebP and Netpbm files can be read"));
  }
  throw_image_error(
      image.name,
      "is not a picture that can be read (JPEG, PNG, TIFF, BMP, WebP or Netpbm), or is damaged");
}

Decoded decode_picture(const EncodedImage& image, PixelForm form, const ReadOptions& options = {},
                       bool file_order = false);

/// A window of a format that is decoded from its beginning only.
Decoded crop_of_picture(const EncodedImage& image, PixelForm form, const ReadOptions& options) {
  std::vector<uint8_t> read;
  std::span<const uint8_t> bytes = image.bytes;
  if (image.file) {
    detail::note_image(detail::ImageNote::kWholeForWindow, image.name, [] {
      return "is decoded as a whole for each of its windows: save it as TIFF, in tiles, of which "
             "parts can be read";
    });
    bytes = read = read_file_bytes(image.name);
  }
  Decoded out = decode_picture({bytes, image.name}, form, options);
  check_window(image, out.pixels.cols, out.pixels.rows, out.orientation);
  out.pixels = out.pixels(*image.window).clone();
  return out;
}

Decoded decode_picture(const EncodedImage& image, PixelForm form, const ReadOptions& options,
                       bool file_order) {
  try {
    const PictureFormat format = picture_format(image);
    // JPEG and PNG files that are in memory are decoded as far as their window.
    const bool in_memory = image.file == nullptr;
    const bool partly =
        format == PictureFormat::kTiff ||
        (in_memory && (format == PictureFormat::kJpeg || format == PictureFormat::kPng));
    if (image.window && !partly) return crop_of_picture(image, form, options);
    if (format != PictureFormat::kTiff && options.page.value_or(0) != 0) {
      throw_image_error(image.name, text("has one page; there is no page ", *options.page));
    }
    switch (format) {
      case PictureFormat::kJpeg:
        return detail::decode_jpeg(image, form);
      case PictureFormat::kPng:
        return detail::decode_png(image, form);
      case PictureFormat::kTiff:
        return detail::decode_tiff(image, form, file_order, options.page);
      case PictureFormat::kBmp:
        return detail::decode_bmp(image, form);
      case PictureFormat::kPnm:
        return detail::decode_pnm(image, form);
      case PictureFormat::kWebp:
        return detail::decode_webp(image, form);
    }
  } catch (const cv::Exception& e) {
    throw_image_error(image.name, text("cannot be decoded: ", e.err));
  } catch (const std::bad_alloc&) {
    throw_image_error(image.name, "cannot be decoded: not enough memory");
  }
  return {};
}

/// Rotates and flips a picture by EXIF's orientation; 1 is upright.
cv::Mat turn_upright(const cv::Mat& pixels, int orientation) {
  cv::Mat out = pixels;
  if (orientation >= 5) {
    out = cv::Mat();
    cv::transpose(pixels, out);
  }
  // What remains after the transposition, as cv::flip has it: 1 left-right, 0 up-down, -1 both.
  switch (orientation) {
    case 2:
    case 6:
      cv::flip(out, out, 1);
      break;
    case 3:
    case 7:
      cv::flip(out, out, -1);
      break;
    case 4:
    case 8:
      cv::flip(out, out, 0);
      break;
    default:
      break;
  }
  return out;
}

/// uint8, uint16 and float32 stay; all others become float32.
cv::Mat to_known_depth(cv::Mat pixels) {
  const int depth = pixels.depth();
  if (depth == CV_8U || depth == CV_16U || depth == CV_32F) return pixels;
  cv::Mat out;
  pixels.convertTo(out, CV_32F);
  return out;
}

/// What to add to errors of labels whose file cannot keep them.
const char* lossy_text(const EncodedImage& image) {
  return picture_format(image) == PictureFormat::kJpeg
             ? ". The file is JPEG, which changes values when it is saved: save labels as PNG"
             : "";
}

cv::Mat to_one_label_band(const EncodedImage& image, const cv::Mat& pixels) {
  std::vector<cv::Mat> bands;
  cv::split(pixels, bands);
  const size_t colours = bands.size() == 4 ? 3 : bands.size();  // the fourth is alpha
  for (size_t b = 1; b < colours; ++b) {
    if (cv::norm(bands[0], bands[b], cv::NORM_INF) != 0) {
      throw_image_error(image.name, text("has ", bands.size(),
                                         " bands of different values; an annotation has "
                                         "one: class ids, not colours",
                                         lossy_text(image)));
    }
  }
  return bands[0];
}

/// uint8 and int32 stay; others become int32 where every value is a whole number that fits.
cv::Mat to_label_depth(const EncodedImage& image, const cv::Mat& pixels) {
  const cv::Point origin = image.window ? image.window->tl() : cv::Point();
  if (pixels.depth() == CV_8U || pixels.depth() == CV_32S) return pixels;
  cv::Mat ids;
  if (pixels.depth() == CV_16U || pixels.depth() == CV_8S || pixels.depth() == CV_16S) {
    pixels.convertTo(ids, CV_32S);
    return ids;
  }
  cv::Mat wide;
  pixels.convertTo(wide, CV_64F);
  ids.create(wide.rows, wide.cols, CV_32S);
  for (int y = 0; y < wide.rows; ++y) {
    const auto* in = wide.ptr<double>(y);
    auto* to = ids.ptr<int32_t>(y);
    for (int x = 0; x < wide.cols; ++x) {
      if (!(in[x] >= INT32_MIN && in[x] <= INT32_MAX) || in[x] != std::floor(in[x])) {
        throw_image_error(image.name, text("holds the value ", in[x], " at row ", origin.y + y,
                                           ", column ", origin.x + x,
                                           ", which is no class id. If it marks pixels without "
                                           "data, set nodata: ",
                                           std::isnan(in[x]) ? ".nan" : text(in[x]),
                                           " at LoadAnnotations, which has them ignored"));
      }
      to[x] = static_cast<int32_t>(in[x]);
    }
  }
  return ids;
}

struct FlagName {
  std::string_view name;
  ImageFlag flag;
};
constexpr FlagName kFlagNames[] = {
    {"color", ImageFlag::kColor},
    {"grayscale", ImageFlag::kGrayscale},
    {"unchanged", ImageFlag::kUnchanged},
    {"color_ignore_orientation", ImageFlag::kColorIgnoreOrientation},
    {"grayscale_ignore_orientation", ImageFlag::kGrayscaleIgnoreOrientation},
};

constexpr std::string_view kPictureSuffixes[] = {".jpg",  ".jpeg", ".png", ".bmp", ".tif", ".tiff",
                                                 ".webp", ".ppm",  ".pgm", ".pbm", ".pnm"};

std::string lower_suffix(const std::string& path) {
  std::string suffix = std::filesystem::path(path).extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return suffix;
}

cv::Mat decoded_image(const EncodedImage& image, ImageFlag flag, const ReadOptions& options) {
  const bool color = flag == ImageFlag::kColor || flag == ImageFlag::kColorIgnoreOrientation;
  const bool gray = flag == ImageFlag::kGrayscale || flag == ImageFlag::kGrayscaleIgnoreOrientation;
  const PixelForm form = color ? PixelForm::kColor : gray ? PixelForm::kGray : PixelForm::kStored;
  Decoded decoded = decode_picture(image, form, options);
  cv::Mat pixels = to_known_depth(std::move(decoded.pixels));
  detail::settle_image_no_data(image, options, decoded.nodata, pixels);
  if (color && pixels.channels() == 1) cv::cvtColor(pixels, pixels, cv::COLOR_GRAY2BGR);
  if (color && pixels.channels() == 4) cv::cvtColor(pixels, pixels, cv::COLOR_BGRA2BGR);
  if (gray && pixels.channels() == 3) cv::cvtColor(pixels, pixels, cv::COLOR_BGR2GRAY);
  if (gray && pixels.channels() == 4) cv::cvtColor(pixels, pixels, cv::COLOR_BGRA2GRAY);
  if (flag == ImageFlag::kColor || flag == ImageFlag::kGrayscale) {
    pixels = turn_upright(pixels, decoded.orientation);
  }
  return pixels;
}

cv::Mat decoded_in_file_order(const EncodedImage& image, const ReadOptions& options) {
  if (picture_format(image) != PictureFormat::kTiff) {
    throw_image_error(image.name, "is no TIFF file, which imdecode_backend: tifffile reads alone");
  }
  Decoded decoded = decode_picture(image, PixelForm::kStored, options, /*file_order=*/true);
  cv::Mat pixels = to_known_depth(std::move(decoded.pixels));
  detail::settle_image_no_data(image, options, decoded.nodata, pixels);
  return pixels;
}

cv::Mat decoded_labels(const EncodedImage& image, const ReadOptions& options, cv::Mat* missing) {
  cv::Mat pixels = decode_picture(image, PixelForm::kLabels, options).pixels;
  if (pixels.depth() == CV_16F) pixels = to_known_depth(pixels);
  if (pixels.channels() > 1) pixels = to_one_label_band(image, pixels);
  if (options.nodata && missing) *missing = detail::take_label_no_data(*options.nodata, pixels);
  return to_label_depth(image, pixels);
}

ImageInfo info_of(const EncodedImage& image) {
  switch (picture_format(image)) {
    case PictureFormat::kJpeg:
      return detail::jpeg_info(image);
    case PictureFormat::kPng:
      return detail::png_info(image);
    case PictureFormat::kTiff:
      return detail::tiff_info(image);
    case PictureFormat::kBmp:
      return detail::bmp_info(image);
    case PictureFormat::kPnm:
      return detail::pnm_info(image);
    case PictureFormat::kWebp:
      return detail::webp_info(image);
  }
  return {};
}

/// Calls `use` with a file whose pixels are decoded as far as they are asked for.
template <class Use>
auto with_open_picture(const std::string& path, std::optional<cv::Rect> window, const Use& use) {
  constexpr size_t kMagic = 512;  // what tells the format, and that it is a foreign one
  const FileReader file(path);
  const auto begin = file.beginning(kMagic);
  return use(EncodedImage{begin, path, &file, window});
}

void write_picture(const std::string& path, const std::vector<uint8_t>& bytes) {
  make_folders(std::filesystem::path(path).parent_path().string());
  write_file_atomically(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

bool has_picture_suffix(std::string_view name) {
  const std::string suffix = lower_suffix(std::string(name));
  return std::find(std::begin(kPictureSuffixes), std::end(kPictureSuffixes), suffix) !=
         std::end(kPictureSuffixes);
}

std::string picture_suffixes() {
  return join(std::vector<std::string>(std::begin(kPictureSuffixes), std::end(kPictureSuffixes)),
              ", ");
}

std::optional<ImageFlag> image_flag(std::string_view name) {
  for (const auto& known : kFlagNames) {
    if (known.name == name) return known.flag;
  }
  return std::nullopt;
}

std::vector<std::string> image_flag_names() {
  std::vector<std::string> out;
  for (const auto& known : kFlagNames) out.emplace_back(known.name);
  return out;
}

std::vector<uint8_t> read_file_bytes(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code trouble;
  const auto status = fs::status(path, trouble);
  if (!fs::exists(status)) throw DataError(path + ": there is no such file");
  if (fs::is_directory(status)) throw DataError(path + ": is a folder; a file was expected");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  if (!file) throw DataError(text(path, ": cannot be opened: ", std::strerror(errno)));
  const auto size = fs::is_regular_file(status) ? fs::file_size(path, trouble) : 0;
  std::vector<uint8_t> bytes(trouble ? 0 : size);
  size_t filled = 0;
  // One byte more than expected shows whether that was all.
  for (;;) {
    if (filled == bytes.size()) {
      uint8_t more = 0;
      if (std::fread(&more, 1, 1, file.get()) != 1) break;
      bytes.push_back(more);
      filled = bytes.size();
      bytes.resize(std::max<size_t>(2 * filled, 1 << 16));
    }
    const size_t got = std::fread(bytes.data() + filled, 1, bytes.size() - filled, file.get());
    filled += got;
    if (got == 0) break;
  }
  if (std::ferror(file.get())) {
    throw DataError(text(path, ": cannot be read: ", std::strerror(errno)));
  }
  bytes.resize(filled);
  return bytes;
}

cv::Mat decode_image(std::span<const uint8_t> bytes, const std::string& name, ImageFlag flag,
                     const ReadOptions& options) {
  return decoded_image({bytes, name}, flag, options);
}

cv::Mat decode_image_part(std::span<const uint8_t> bytes, const std::string& name,
                          const cv::Rect& window, ImageFlag flag) {
  return decoded_image({bytes, name, nullptr, window}, flag, {});
}

cv::Mat decode_image_in_file_order(std::span<const uint8_t> bytes, const std::string& name,
                                   const ReadOptions& options) {
  return decoded_in_file_order({bytes, name}, options);
}

cv::Mat decode_labels(std::span<const uint8_t> bytes, const std::string& name,
                      const ReadOptions& options, cv::Mat* missing) {
  return decoded_labels({bytes, name}, options, missing);
}

cv::Mat read_image(const std::string& path, ImageFlag flag) {
  return decode_image(read_file_bytes(path), path, flag);
}

cv::Mat read_labels(const std::string& path) { return decode_labels(read_file_bytes(path), path); }

cv::Mat read_image_window(const std::string& path, const cv::Rect& window, ImageFlag flag,
                          const ReadOptions& options) {
  return with_open_picture(
      path, window, [&](const EncodedImage& image) { return decoded_image(image, flag, options); });
}

cv::Mat read_image_window_in_file_order(const std::string& path, const cv::Rect& window,
                                        const ReadOptions& options) {
  return with_open_picture(path, window, [&](const EncodedImage& image) {
    return decoded_in_file_order(image, options);
  });
}

cv::Mat read_labels_window(const std::string& path, const cv::Rect& window,
                           const ReadOptions& options, cv::Mat* missing) {
  return with_open_picture(path, window, [&](const EncodedImage& image) {
    return decoded_labels(image, options, missing);
  });
}

cv::Mat read_missing_window(const std::string& path, const cv::Rect& window,
                            std::optional<int64_t> page) {
  return with_open_picture(path, window, [&](const EncodedImage& image) {
    Decoded decoded = decode_picture(image, PixelForm::kStored, {.page = page});
    if (!decoded.nodata) return cv::Mat();
    cv::Mat pixels = to_known_depth(std::move(decoded.pixels));
    return detail::missing_pixels(*decoded.nodata, pixels);
  });
}

ImageInfo image_info(std::span<const uint8_t> bytes, const std::string& name) {
  return info_of({bytes, name});
}

ImageInfo read_image_info(const std::string& path) {
  return with_open_picture(path, std::nullopt, [&](const EncodedImage& image) {
    if (picture_format(image) == PictureFormat::kTiff) return info_of(image);
    return image_info(read_file_bytes(path), path);
  });
}

std::string fitting_path(const std::string& stem, const std::string& ending) {
  constexpr size_t kLongestName = 255;
  const size_t name = stem.find_last_of('/') + 1;  // 0 where there is no slash
  if (stem.size() - name + ending.size() <= kLongestName) return stem + ending;
  uint32_t hash = 2166136261u;  // FNV-1a
  for (const char c : stem.substr(name)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  }
  char number[16];
  std::snprintf(number, sizeof number, "~%08x", hash);
  size_t kept = name + kLongestName - ending.size() - std::strlen(number);
  // Not within a character of UTF-8.
  while (kept > name && (static_cast<unsigned char>(stem[kept]) & 0xC0) == 0x80) --kept;
  return stem.substr(0, kept) + number + ending;
}

void write_image(const std::string& path, const cv::Mat& image) {
  const std::string suffix = lower_suffix(path);
  if (suffix == ".png") return write_png(path, image);
  if (suffix == ".jpg" || suffix == ".jpeg") return write_jpeg(path, image);
  if (suffix == ".tif" || suffix == ".tiff") return write_picture(path, encode_tiff(image));
  throw DataError(path + ": pictures are written as .png, .jpg or .tif");
}

void write_png(const std::string& path, const cv::Mat& image) {
  write_picture(path, encode_png(image));
}

void write_palette_png(const std::string& path, const cv::Mat& labels,
                       const std::vector<std::array<int, 3>>& palette) {
  write_picture(path, encode_palette_png(labels, palette));
}

void write_jpeg(const std::string& path, const cv::Mat& image, int quality) {
  write_picture(path, encode_jpeg(image, quality));
}

}  // namespace seg
