#include "segcore/data/pixel_cache.hpp"

#include <cstring>

#include "registry/text.hpp"

namespace seg {
namespace {

/// In front of the pixels, row by row without gaps.
struct PixelHeader {
  int32_t rows, columns, type;
};

class CachedPixels final : public ImageSource {
 public:
  CachedPixels(FileCopy copy, const PixelHeader& header)
      : copy_(std::move(copy)), header_(header) {}
  cv::Size size() const override { return {header_.columns, header_.rows}; }
  int type() const override { return header_.type; }
  cv::Mat part(const cv::Rect& rect) const override {
    // Whole rows: they lie side by side.
    cv::Mat rows(rect.height, header_.columns, header_.type);
    const size_t row = rows.step[0];
    copy_.read(sizeof header_ + static_cast<size_t>(rect.y) * row, rows.data, rows.rows * row);
    return rows.colRange(rect.x, rect.x + rect.width);
  }

 private:
  FileCopy copy_;
  PixelHeader header_;
};

}  // namespace

std::string pixels_of(const std::string& state, const char* form, const ReadOptions& options) {
  return text(state, '\0', form, ' ', options.page.value_or(-1), ' ',
              options.nodata ? text(*options.nodata, ' ', options.nodata_fill) : "");
}

std::shared_ptr<const ImageSource> find_pixels(const FileCache& cache, const std::string& name) {
  auto copy = cache.open_copy(name);
  PixelHeader header{};
  if (!copy || copy->size() < sizeof header) return nullptr;
  copy->read(0, &header, sizeof header);
  return std::make_shared<CachedPixels>(std::move(*copy), header);
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
