#include "segcore/data/sample_picture.hpp"

#include "registry/text.hpp"
#include "segcore/data/pixel_cache.hpp"

namespace seg {
namespace {

/// Of a picture, of which the cache keeps the pixels or the file.
std::vector<uint8_t> picture_bytes(const Sample& sample, const std::string& path) {
  return sample.cache_decoded ? read_file_bytes(path) : read_sample_file(sample, path);
}

/// The pixels that `decode()` gives, from the cache where it keeps any.
/// \param form  what they depend on besides the file.
template <class Decode>
LoadedImage through_cache(const Sample& sample, const std::string& path, const std::string& form,
                          const ReadOptions& options, const Decode& decode) {
  if (!sample.cache || !sample.cache_decoded) return {decode(), nullptr};
  const std::string state = FileCache::state_of(path);
  if (state.empty()) return {decode(), nullptr};  // which reports what is wrong
  const std::string name = pixels_of(state, form.c_str(), options);
  if (auto kept = find_pixels(*sample.cache, name)) return {{}, std::move(kept)};
  cv::Mat pixels = decode();
  keep_pixels(*sample.cache, path, state, name, pixels);
  return {pixels, nullptr};
}

cv::Mat whole(const LoadedImage& image) {
  return image.source ? image.source->part({{}, image.source->size()}) : image.pixels;
}

LoadedImage image_through_cache(const Sample& sample, const std::string& path, ImageFlag flag,
                                const ReadOptions& options) {
  return through_cache(sample, path, text("image ", static_cast<int>(flag)), options, [&] {
    return decode_image(picture_bytes(sample, path), path, flag, options);
  });
}

}  // namespace

LoadedImage open_sample_image(const Sample& sample, const std::string& path, ImageFlag flag,
                              const ReadOptions& options) {
  if (sample.cache_decoded) return image_through_cache(sample, path, flag, options);
  auto bytes = read_sample_file(sample, path);
  if (!options.page && !options.nodata) {
    if (auto source = jpeg_source(bytes, path, flag)) return {{}, std::move(source)};
  }
  return {decode_image(bytes, path, flag, options), nullptr};
}

cv::Mat read_sample_image(const Sample& sample, const std::string& path, ImageFlag flag,
                          const ReadOptions& options) {
  const cv::Rect& window = sample.meta.window;
  if (!window.empty()) return read_image_window(path, window, flag, options);
  return whole(image_through_cache(sample, path, flag, options));
}

cv::Mat read_sample_image_in_file_order(const Sample& sample, const std::string& path,
                                        const ReadOptions& options) {
  const cv::Rect& window = sample.meta.window;
  if (!window.empty()) return read_image_window_in_file_order(path, window, options);
  return whole(through_cache(sample, path, "file order", options, [&] {
    return decode_image_in_file_order(picture_bytes(sample, path), path, options);
  }));
}

cv::Mat read_sample_labels(const Sample& sample, const std::string& path,
                           const ReadOptions& options, cv::Mat* missing) {
  const cv::Rect& window = sample.meta.window;
  if (!window.empty()) return read_labels_window(path, window, options, missing);
  const auto decode = [&] {
    return decode_labels(picture_bytes(sample, path), path, options, missing);
  };
  // Which pixels are missing is not kept.
  if (options.nodata) return decode();
  return whole(through_cache(sample, path, "labels", options, decode));
}

}  // namespace seg
