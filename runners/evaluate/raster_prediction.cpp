#include "runners/evaluate/raster_prediction.hpp"

#include <ATen/Functions.h>

#include <algorithm>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

/// What TIFF allows: sides of tiles are multiples of it.
constexpr int kSmallestBlock = 16;

/// Every n-th pixel of a raster and of its classes, for people.
class Preview {
 public:
  explicit Preview(const cv::Size& raster)
      : step_((std::max(raster.width, raster.height) + kSide - 1) / kSide),
        size_((raster.width + step_ - 1) / step_, (raster.height + step_ - 1) / step_),
        ids_(size_, CV_32S, cv::Scalar(-1)) {}

  /// \param image, ids  of the window
  void add(const cv::Rect& core, const cv::Rect& window, const cv::Mat& image, const cv::Mat& ids,
           double nodata) {
    if (image_.empty()) {
      bands_ = std::min(image.channels(), 3);
      image_ = cv::Mat::zeros(size_, CV_MAKETYPE(image.depth(), bands_));
    }
    const auto first = [&](int begin) { return (begin + step_ - 1) / step_ * step_; };
    const size_t pixel = image_.elemSize();
    for (int y = first(core.y); y < core.y + core.height; y += step_) {
      for (int x = first(core.x); x < core.x + core.width; x += step_) {
        const uint8_t* from =
            image.ptr(y - window.y) + static_cast<size_t>(x - window.x) * image.elemSize();
        std::copy_n(from, pixel, image_.ptr(y / step_) + static_cast<size_t>(x / step_) * pixel);
        const cv::Point at(x - core.x, y - core.y);
        const int id = ids.depth() == CV_8U ? ids.at<uint8_t>(at) : ids.at<uint16_t>(at);
        if (id != nodata) ids_.at<int>(y / step_, x / step_) = id;
      }
    }
  }
  cv::Mat picture(const Palette& palette, double opacity) const {
    const at::Tensor ids =
        at::from_blob(ids_.data, {ids_.rows, ids_.cols}, at::TensorOptions(at::kInt));
    return overlay(displayable(image_), ids, palette, opacity);
  }

 private:
  static constexpr int kSide = 2048;
  int step_, bands_ = 0;
  cv::Size size_;
  mutable cv::Mat ids_;
  cv::Mat image_;
};

/// Every tenth of the tiles is reported: a large raster takes hours.
void report_tiles(const std::string& path, int done, int all) {
  constexpr int kFew = 20, kReports = 10;
  if (all < kFew || done * kReports / all == (done - 1) * kReports / all) return;
  log::info(path, ": ", done, " of ", all, " tiles");
}

}  // namespace

RasterTiles::RasterTiles(int64_t side, int64_t overlap) : window(static_cast<int>(side)) {
  constexpr int kUsualBlock = 256;
  const int kept = static_cast<int>(side - overlap);
  SEG_CHECK(kept >= kSmallestBlock, "windows of ", side, " overlap by ", overlap);
  block = kept >= kUsualBlock ? kUsualBlock : kept / kSmallestBlock * kSmallestBlock;
  core = kept / block * block;
}

cv::Rect RasterTiles::window_of(const cv::Rect& kept, const cv::Size& raster) const {
  const auto side = [&](int begin, int length) {
    const int size = std::min(window, length);
    return std::pair(std::clamp(begin - (window - core) / 2, 0, length - size), size);
  };
  const auto [x, width] = side(kept.x, raster.width);
  const auto [y, height] = side(kept.y, raster.height);
  return {x, y, width, height};
}

void predict_by_tiles(const RasterSource& raster, const RasterTiles& tiles,
                      const RasterOutputs& outputs,
                      const std::function<PredictedWindow(const cv::Rect&)>& predict) {
  const cv::Size size(static_cast<int>(raster.info.width), static_cast<int>(raster.info.height));
  RasterForm form =
      class_raster_form(raster, size.height, size.width, outputs.classes, outputs.palette);
  form.block = tiles.block;
  RasterWriter writer(outputs.ids, form);
  Preview preview(size);
  const auto cores = [&](int length) { return (length + tiles.core - 1) / tiles.core; };
  const int all = cores(size.width) * cores(size.height);
  int done = 0;
  for (int y = 0; y < size.height; y += tiles.core) {
    for (int x = 0; x < size.width; x += tiles.core) {
      const cv::Rect core(x, y, std::min(tiles.core, size.width - x),
                          std::min(tiles.core, size.height - y));
      const cv::Rect window = tiles.window_of(core, size);
      const PredictedWindow found = predict(window);
      if (found.image.size() != window.size() || found.ids.size(0) != window.height ||
          found.ids.size(1) != window.width) {
        throw DataError(text(raster.path, ": a tile of ", window.width, "x", window.height,
                             " pixels was loaded as ", found.image.cols, "x", found.image.rows,
                             ": the step of the pipeline that loads images reads no parts of them; "
                             "use LoadImageFromFile"));
      }
      const at::Tensor kept = found.ids.narrow(0, core.y - window.y, core.height)
                                  .narrow(1, core.x - window.x, core.width);
      const cv::Mat ids = class_raster_pixels(kept, raster.missing(core), form);
      writer.write(core.x, core.y, ids);
      preview.add(core, window, found.image, ids, form.nodata.value_or(-1));
      report_tiles(raster.path, ++done, all);
    }
  }
  writer.commit();
  write_png(outputs.shown, preview.picture(outputs.palette, outputs.opacity));
}

}  // namespace seg
