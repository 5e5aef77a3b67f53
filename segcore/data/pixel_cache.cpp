#include "segcore/data/pixel_cache.hpp"

#include <cstring>

#include "registry/error.hpp"
#include "registry/printed.hpp"
#include "registry/text.hpp"

namespace seg {
namespace {

/// In front of the pixels, row by row without gaps.
struct PixelHeader {
  int32_t rows, columns, type;
};

class CachedPixels final : public ImageSource {
 public:
  CachedPixels(FileCopy copy, const PixelHeader& header, std::string path)
      : copy_(std::move(copy)), header_(header), path_(std::move(path)) {}
  cv::Size size() const override { return {header_.columns, header_.rows}; }
  int type() const override { return header_.type; }
  cv::Mat part(const cv::Rect& rect) const override {
    // Whole rows: they lie side by side.
    cv::Mat rows(rect.height, header_.columns, header_.type);
    const size_t row = rows.step[0];
    try {
      copy_.read(sizeof header_ + static_cast<size_t>(rect.y) * row, rows.data,
                 static_cast<size_t>(rows.rows) * row);
    } catch (const DataError& e) {
      throw DataError(path_ + ": " + e.what());
    }
    return rows.colRange(rect.x, rect.x + rect.width);
  }

 private:
  FileCopy copy_;
  PixelHeader header_;
  std::string path_;
};

/// Whether a copy holds what its header says, neither cut nor of another program.
bool is_whole(const PixelHeader& header, uint64_t size) {
  if (header.rows < 1 || header.columns < 1 || header.type != CV_MAT_TYPE(header.type))
    return false;
  const auto pixel = static_cast<uint64_t>(CV_ELEM_SIZE(header.type));
  const auto pixels = static_cast<uint64_t>(header.rows) * static_cast<uint64_t>(header.columns);
  return size == sizeof header + pixels * pixel;
}

}  // namespace

std::string pixels_name(const std::string& state, const std::string& form,
                        const ReadOptions& options) {
  // Of the decoders, ImageFlag and the copies: folders outlive the program.
  constexpr int kVersion = 1;
  std::string no_data;
  if (options.nodata) no_data = printed("%a %a", *options.nodata, options.nodata_fill);
  return text(state, '\0', "pixels ", kVersion, ' ', form, ' ', options.page.value_or(-1), ' ',
              no_data);
}

std::shared_ptr<const ImageSource> find_pixels(const FileCache& cache, const std::string& name,
                                               const std::string& path) {
  auto copy = cache.open_copy(name);
  PixelHeader header{};
  if (!copy || copy->size() < sizeof header) return nullptr;
  try {
    copy->read(0, &header, sizeof header);
  } catch (const DataError&) {
    return nullptr;
  }
  if (!is_whole(header, copy->size())) return nullptr;
  return std::make_shared<CachedPixels>(std::move(*copy), header, path);
}

void keep_pixels(const FileCache& cache, const std::string& path, const std::string& state,
                 const std::string& name, const cv::Mat& pixels) {
  const PixelHeader header{pixels.rows, pixels.cols, pixels.type()};
  const size_t row = static_cast<size_t>(pixels.cols) * pixels.elemSize();
  std::vector<uint8_t> bytes(sizeof header + static_cast<size_t>(pixels.rows) * row);
  std::memcpy(bytes.data(), &header, sizeof header);
  for (int y = 0; y < pixels.rows; ++y) {
    std::memcpy(bytes.data() + sizeof header + static_cast<size_t>(y) * row, pixels.ptr(y), row);
  }
  cache.keep(path, state, bytes, name);
}

}  // namespace seg
