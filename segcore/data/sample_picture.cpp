#include "segcore/data/sample_picture.hpp"

#include "registry/text.hpp"
#include "segcore/data/pixel_cache.hpp"

namespace seg {
namespace {

/// Of a picture, of which the cache keeps the pixels or the file.
std::vector<uint8_t> picture_bytes(const Sample& sample, const std::string& path) {
  return sample.cache_decoded ? read_file_bytes(path) : read_sample_file(sample, path);
}

/// What the cache keeps of the pixels of a picture, and where more of them go.
class KeptPixels {
 public:
  /// \param form  what the pixels depend on besides the file.
  KeptPixels(const Sample& sample, const std::string& path, const std::string& form,
             const ReadOptions& options)
      : cache_(sample.cache_decoded ? sample.cache : nullptr), path_(path) {
    if (cache_) state_ = FileCache::state_of(path);
    if (state_.empty()) cache_ = nullptr;  // reading the file reports what is wrong
    if (cache_) name_ = pixels_name(state_, form, options);
  }
  std::shared_ptr<const ImageSource> find() const {
    return cache_ ? find_pixels(*cache_, name_, path_) : nullptr;
  }
  bool takes_more() const { return cache_ && !cache_->full(); }
  void keep(const cv::Mat& pixels) const { keep_pixels(*cache_, path_, state_, name_, pixels); }

 private:
  const FileCache* cache_;
  const std::string& path_;
  std::string state_, name_;
};

/// The pixels that `decode()` gives, from the cache where it keeps any.
template <class Decode>
cv::Mat through_cache(const KeptPixels& kept, const Decode& decode) {
  if (const auto source = kept.find()) return source->part({{}, source->size()});
  cv::Mat pixels = decode();
  if (kept.takes_more()) kept.keep(pixels);
  return pixels;
}

KeptPixels kept_image(const Sample& sample, const std::string& path, ImageFlag flag,
                      const ReadOptions& options) {
  return {sample, path, text("image ", static_cast<int>(flag)), options};
}

}  // namespace

LoadedImage open_sample_image(const Sample& sample, const std::string& path, ImageFlag flag,
                              const ReadOptions& options) {
  const KeptPixels kept = kept_image(sample, path, flag, options);
  if (auto source = kept.find()) return {{}, std::move(source)};
  auto bytes = picture_bytes(sample, path);
  if (!kept.takes_more() && !options.page && !options.nodata) {
    if (auto source = encoded_source(bytes, path, flag)) return {{}, std::move(source)};
  }
  LoadedImage out{decode_image(bytes, path, flag, options), nullptr};
  if (kept.takes_more()) kept.keep(out.pixels);
  return out;
}

cv::Mat read_sample_image(const Sample& sample, const std::string& path, ImageFlag flag,
                          const ReadOptions& options) {
  const cv::Rect& window = sample.meta.window;
  if (!window.empty()) return read_image_window(path, window, flag, options);
  return through_cache(kept_image(sample, path, flag, options), [&] {
    return decode_image(picture_bytes(sample, path), path, flag, options);
  });
}

cv::Mat read_sample_image_in_file_order(const Sample& sample, const std::string& path,
                                        const ReadOptions& options) {
  const cv::Rect& window = sample.meta.window;
  if (!window.empty()) return read_image_window_in_file_order(path, window, options);
  return through_cache({sample, path, "file order", options}, [&] {
    return decode_image_in_file_order(picture_bytes(sample, path), path, options);
  });
}

cv::Mat read_sample_labels(const Sample& sample, const std::string& path,
                           const ReadOptions& options, cv::Mat* missing) {
  const cv::Rect& window = sample.meta.window;
  if (!window.empty()) return read_labels_window(path, window, options, missing);
  if (options.nodata) {  // which pixels are missing is not kept
    return decode_labels(read_sample_file(sample, path), path, options, missing);
  }
  return through_cache({sample, path, "labels", options}, [&] {
    return decode_labels(picture_bytes(sample, path), path, options, missing);
  });
}

}  // namespace seg
