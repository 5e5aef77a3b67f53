/// What the transforms that read files have in common.
#pragma once
#include <cstdint>
#include <optional>

#include "registry/schema.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {

inline constexpr const char* kFileBackendMeaning =
    "only {backend: local}: files are read from disk";

/// Refuses back ends that would read from elsewhere.
void check_file_backend(std::string_view option, const Config& args, Problems& problems);

/// Which pixels of a file are read, and what those without data become.
struct ReadParams {
  std::optional<int64_t> page;
  std::optional<double> nodata;
  ReadOptions options() const { return {.page = page, .nodata = nodata}; }
};
/// What the options mean for images and labels alike, with what is said of `nodata`.
Schema<ReadParams> read_params_schema(const char* nodata_meaning);

}  // namespace seg
