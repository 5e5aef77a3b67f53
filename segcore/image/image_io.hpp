/// Reads pictures: JPEG, PNG, TIFF (any number of bands, 8 and 16 bits, float), BMP, WebP and
/// Netpbm; writes JPEG, PNG and TIFF.
///
/// The codecs are used directly and not through OpenCV's imgcodecs; README.md gives the reasons,
/// format by format.
#pragma once
#include <array>
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <opencv2/core/types.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace seg {

/// The form of a decoded picture, as in mmcv.imfrombytes; orientation is EXIF's.
enum class ImageFlag {
  kColor,      ///< 8 bits, BGR, turned upright
  kGrayscale,  ///< 8 bits, one band, turned upright
  kUnchanged,  ///< depth and bands as in the file (palettes become colours), not turned
  kColorIgnoreOrientation,
  kGrayscaleIgnoreOrientation,
};
/// "color", "grayscale", "unchanged", "color_ignore_orientation", ...; nothing for other words.
std::optional<ImageFlag> image_flag(std::string_view name);
/// The words that `image_flag` knows.
std::vector<std::string> image_flag_names();

/// Whether a name ends as those of pictures that can be read do, in small letters or capitals.
bool has_picture_suffix(std::string_view name);
/// ".jpg, .jpeg, ...", for messages.
std::string picture_suffixes();

/// Which pixels of a file are read, and what those without data become.
struct ReadOptions {
  /// Of a TIFF file of several pages, from 0; overviews and masks, which are marked as such, do not
  /// count. Not given: the first, with a warning where there are more.
  std::optional<int64_t> page;
  /// This value, and all that is not finite, is no data.
  std::optional<double> nodata;
  double nodata_fill = 0;  ///< what it becomes in images
};

/// \throws DataError naming the path, where the file is missing or cannot be read.
std::vector<uint8_t> read_file_bytes(const std::string& path);

/// Decodes a picture, whose format is recognised by its first bytes.
/// \param name  stands for the picture in messages: its path.
/// \return H x W x bands; uint8, uint16 or float32 (other numbers become float32). Three and four
///         bands are BGR and BGRA.
/// \throws DataError naming the file and its fault, also for floats that are not finite.
cv::Mat decode_image(std::span<const uint8_t> bytes, const std::string& name,
                     ImageFlag flag = ImageFlag::kColor, const ReadOptions& options = {});
/// The bands in the order of the file (RGB, RGBA, ...), as the tifffile back end gives them.
cv::Mat decode_image_in_file_order(std::span<const uint8_t> bytes, const std::string& name,
                                   const ReadOptions& options = {});
/// Decodes class ids: palette indices and grey values as they are stored, not scaled.
/// \param missing  receives where `options.nodata` was found, uint8, 255 there, the ids being 0;
///                 empty where nowhere.
/// \return H x W of one band; uint8, or int32 where values need more.
/// \throws DataError, also for a picture of several bands that is not grey.
cv::Mat decode_labels(std::span<const uint8_t> bytes, const std::string& name,
                      const ReadOptions& options = {}, cv::Mat* missing = nullptr);

/// `decode_image` of a window within the pixels, which are upright; of a JPEG or PNG file no more
/// is decoded than that takes: damage behind it may not be seen.
cv::Mat decode_image_part(std::span<const uint8_t> bytes, const std::string& name,
                          const cv::Rect& window, ImageFlag flag = ImageFlag::kColor);

/// `read_file_bytes` and `decode_image`.
cv::Mat read_image(const std::string& path, ImageFlag flag = ImageFlag::kColor);
/// `read_file_bytes` and `decode_labels`.
cv::Mat read_labels(const std::string& path);

/// The same of a window, pixel for pixel what it would be cut out of: of a TIFF file only the
/// strips and tiles are decoded that the window touches, so that the file may be larger than
/// memory. Other formats are decoded as a whole for each window. \param window  within the pixels.
/// \throws DataError also for a window that is not, and for pixels with an EXIF orientation.
cv::Mat read_image_window(const std::string& path, const cv::Rect& window,
                          ImageFlag flag = ImageFlag::kColor, const ReadOptions& options = {});
cv::Mat read_image_window_in_file_order(const std::string& path, const cv::Rect& window,
                                        const ReadOptions& options = {});
cv::Mat read_labels_window(const std::string& path, const cv::Rect& window,
                           const ReadOptions& options = {}, cv::Mat* missing = nullptr);
/// Where no band of a window has data by the value that the file declares, or is finite: uint8, 255
/// there; empty where there is no such pixel, or the file declares none.
cv::Mat read_missing_window(const std::string& path, const cv::Rect& window,
                            std::optional<int64_t> page = {});

/// What the header says, without the pixels.
struct ImageInfo {
  int64_t height = 0, width = 0;  ///< as stored
  int bands = 0;
  const char* format = "";  ///< "JPEG", "PNG", "TIFF", "BMP", "WebP", "Netpbm"
  int orientation = 1;      ///< as EXIF counts them, 1 is upright
  bool lossy = false;       ///< pixels are not those that were saved
  bool floats = false;
  std::optional<double> nodata = {};  ///< the value that the file declares as "no data"
};
ImageInfo image_info(std::span<const uint8_t> bytes, const std::string& name);
/// The same of a file, of which only the header is read where it is TIFF.
ImageInfo read_image_info(const std::string& path);

/// \param image  1, 3 (BGR) or 4 (BGRA) bands of uint8 or uint16.
std::vector<uint8_t> encode_png(const cv::Mat& image);
/// \param labels   one band of uint8.
/// \param palette  RGB, up to 256 entries.
std::vector<uint8_t> encode_palette_png(const cv::Mat& labels,
                                        const std::vector<std::array<int, 3>>& palette);
/// \param image  1 or 3 (BGR) bands of uint8.
std::vector<uint8_t> encode_jpeg(const cv::Mat& image, int quality = 95);
/// Uncompressed, bands interleaved, order as in `image` for other than 3 and 4 bands, else RGB(A).
/// \param image  any number of bands of uint8, uint16 or float32.
std::vector<uint8_t> encode_tiff(const cv::Mat& image);

/// `stem` with an ending; a file name that would be longer than file systems allow (255 bytes) is
/// cut and told from others by a number that stands for the whole.
std::string fitting_path(const std::string& stem, const std::string& ending);

/// Encodes by the suffix (.png, .jpg, .jpeg, .tif, .tiff) and writes the file whole; creates its
/// folder.
void write_image(const std::string& path, const cv::Mat& image);
void write_png(const std::string& path, const cv::Mat& image);
void write_palette_png(const std::string& path, const cv::Mat& labels,
                       const std::vector<std::array<int, 3>>& palette);
void write_jpeg(const std::string& path, const cv::Mat& image, int quality = 95);

}  // namespace seg
