#include "segcore/data/datasets/dataset_cache.hpp"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>

#include "registry/error.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

constexpr double kGigabyte = 1e9;
constexpr const char* kMemory = "/dev/shm";  // Linux keeps its files in memory

/// What of the memory is not in use by programs.
uint64_t available_memory() {
  unsigned long kilobytes = 0;
  if (FILE* file = std::fopen("/proc/meminfo", "r")) {
    char line[256];
    while (std::fgets(line, sizeof(line), file)) {
      if (std::sscanf(line, "MemAvailable: %lu kB", &kilobytes) == 1) break;
    }
    std::fclose(file);
  }
  return uint64_t{kilobytes} * 1024;
}

uint64_t free_space(const std::string& folder) {
  struct statvfs info {};
  if (statvfs(folder.c_str(), &info) != 0) return 0;
  return uint64_t{info.f_bavail} * info.f_frsize;
}

DatasetCacheParams params_of(const DatasetCache& asked) {
  if (const auto* to = std::get_if<std::string>(&asked)) return {.to = *to, .max_gb = {}};
  return std::get<DatasetCacheParams>(asked);
}

}  // namespace

Schema<DatasetCacheParams> DatasetCacheParams::schema() {
  using P = DatasetCacheParams;
  return Schema<P>("Copies of a data set's files.")
      .required("to", &P::to, "ram, or a folder on a local disk")
      .optional(
          "max_gb", &P::max_gb,
          "size of all copies in gigabytes (default: half of the memory that is free, or four "
          "fifths of the disk's free space)",
          above(0))
      .optional(
          "decoded", &P::decoded,
          "keep the pixels of pictures in place of their files, some ten times as many bytes, "
          "so that later epochs decode nothing");
}

bool keeps_decoded(const DatasetCache& asked) { return params_of(asked).decoded; }

std::shared_ptr<const FileCache> open_dataset_cache(const DatasetCache& asked) {
  const DatasetCacheParams params = params_of(asked);
  const bool in_memory = params.to == "ram";
  const std::string folder = in_memory ? text(kMemory, "/segcore-", getuid()) : params.to;
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<const FileCache>> open;
  const std::scoped_lock lock(mutex);
  if (auto found = open[folder].lock()) return found;
  try {
    make_folders(folder);
    const auto space = static_cast<double>(free_space(folder));
    double most =
        in_memory ? std::min(space, static_cast<double>(available_memory()) / 2) : 0.8 * space;
    if (params.max_gb) most = *params.max_gb * kGigabyte;
    auto cache = std::make_shared<const FileCache>(folder, static_cast<uint64_t>(most), in_memory);
    open[folder] = cache;
    return cache;
  } catch (const DataError& e) {
    throw OptionError("cache", e.what());
  }
}

}  // namespace seg
