/// What the transforms that read files have in common.
#pragma once
#include "registry/schema.hpp"
#include "segcore/data/sample.hpp"

namespace seg {

inline constexpr const char* kFileBackendMeaning =
    "only {backend: local}: files are read from disk";

/// Refuses back ends that would read from elsewhere.
void check_file_backend(std::string_view option, const Config& args, Problems& problems);

/// Once image and labels are both loaded.
/// \throws DataError naming both files where their sizes differ.
void check_label_size(const Sample& sample);

}  // namespace seg
