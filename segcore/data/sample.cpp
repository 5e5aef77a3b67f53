#include "segcore/data/sample.hpp"

#include "segcore/image/image_io.hpp"
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
  if (const auto from = std::exchange(sample.source, nullptr)) {
    const Geometry geometry = std::exchange(sample.planned.image, {});
    const cv::Rect needed = geometry.needed(from->size(), from->type());
    sample.image = geometry.apply({from->part(needed), from->size(), needed.tl()});
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
