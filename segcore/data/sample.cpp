#include "segcore/data/sample.hpp"

#include "segcore/io/file_cache.hpp"

namespace seg {

std::vector<uint8_t> read_sample_file(const Sample& sample, const std::string& path) {
  if (!sample.cache) return read_file_bytes(path);
  const std::string state = FileCache::state_of(path);
  if (state.empty()) return read_file_bytes(path);  // which reports what is wrong
  if (auto copy = sample.cache->find(state)) return std::move(*copy);
  auto bytes = read_file_bytes(path);
  sample.cache->keep(path, state, bytes);
  return bytes;
}

void settle(Sample& sample) {
  if (sample.undecoded) {
    const UndecodedImage& from = *sample.undecoded;
    const cv::Rect needed = sample.planned.image.needed(from.size, CV_8UC3);
    sample.image = sample.planned.image.apply(
        {decode_image_part(from.bytes, from.path, needed, from.flag), from.size, needed.tl()});
    sample.planned.image = {};
    sample.undecoded.reset();
  }
  for_each_picture(sample, [](cv::Mat& pixels, Geometry& geometry) {
    pixels = geometry.apply(pixels);
    geometry = {};
  });
}

std::vector<int64_t> categories_of(const std::vector<SampleMeta>& metas) {
  std::vector<int64_t> out;
  for (const SampleMeta& meta : metas) out.push_back(meta.category_id);
  return out;
}

}  // namespace seg
