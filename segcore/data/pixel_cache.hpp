/// Decoded pictures in a FileCache.
#pragma once
#include <memory>
#include <opencv2/core/mat.hpp>
#include <string>

#include "segcore/data/image_source.hpp"
#include "segcore/io/file_cache.hpp"

namespace seg {

/// The name of a picture's pixels: the state of its file, and all that they depend on besides.
std::string pixels_name(const std::string& state, const std::string& form,
                        const ReadOptions& options);

/// The pixels of that name, if they are kept: rows are read from the cache as they are needed.
/// \param path  of the picture, for messages.
std::shared_ptr<const ImageSource> find_pixels(const FileCache& cache, const std::string& name,
                                               const std::string& path);

/// Keeps what was decoded from `path` in the state, as FileCache::keep.
void keep_pixels(const FileCache& cache, const std::string& path, const std::string& state,
                 const std::string& name, const cv::Mat& pixels);

}  // namespace seg
