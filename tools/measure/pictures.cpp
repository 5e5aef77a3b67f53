#include "tools/measure/pictures.hpp"

#include <opencv2/core.hpp>

#include "registry/yaml.hpp"
#include "segcore/data/rng.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

/// Blocks of random colours and classes: noise of single pixels would not compress as pictures do.
cv::Mat block_picture(int64_t height, int64_t width, int type, int64_t values, Rng& rng) {
  cv::Mat out(static_cast<int>(height), static_cast<int>(width), type);
  constexpr int kBlock = 16;
  for (int y = 0; y < out.rows; y += kBlock) {
    for (int x = 0; x < out.cols; x += kBlock) {
      const cv::Rect block = cv::Rect(x, y, kBlock, kBlock) & cv::Rect(0, 0, out.cols, out.rows);
      out(block).setTo(cv::Scalar(static_cast<double>(rng.below(values)),
                                  static_cast<double>(rng.below(values)),
                                  static_cast<double>(rng.below(values))));
    }
  }
  return out;
}

}  // namespace

void PictureFolder::replace_dataset(Config& tree, int64_t height, int64_t width) const {
  auto* loader = tree.find("train_dataloader");
  auto* dataset = loader ? loader->value.find("dataset") : nullptr;
  if (!dataset || !dataset->value.is_map()) {
    throw DataError("--pictures needs 'train_dataloader.dataset' in the configuration");
  }
  write(height, width);
  Config& at = dataset->value;
  at.set("data_root", Config::of(folder_.path()));
  at.set("data_prefix", parse_config("{img_path: img, seg_map_path: ann}", "--pictures"));
  at.set("img_suffix", Config::of(".jpg"));
  at.set("seg_map_suffix", Config::of(".png"));
  at.set("ann_file", Config::of(""));
}

void PictureFolder::write(int64_t height, int64_t width) const {
  constexpr int kPictures = 16;
  // Raw values 1 and 2 are classes whether or not 0 is "other".
  constexpr int64_t kValues = 3;
  for (int i = 0; i < kPictures; ++i) {
    Rng rng(0, RngPurpose::kSynthetic, 0, static_cast<uint64_t>(i));
    write_jpeg(text(folder_.path(), "/img/", i, ".jpg"),
               block_picture(height, width, CV_8UC3, 256, rng));
    write_png(text(folder_.path(), "/ann/", i, ".png"),
              block_picture(height, width, CV_8UC1, kValues, rng));
  }
}

}  // namespace seg
