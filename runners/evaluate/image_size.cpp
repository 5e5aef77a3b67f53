#include "runners/evaluate/image_size.hpp"

#include <initializer_list>

#include "registry/schema.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// The first of these options that is given.
std::optional<Size2> first_size(const Config& tree, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const Config* value = tree.at_path(key);
    if (!value || value->is_null()) continue;
    Diagnostics problems;
    const auto size = Convert<Size2>::from(*value, key, problems);
    if (size && (size->h < 1 || size->w < 1)) {
      problems.error(value->origin, key,
                     text("must be at least 1, got ", Convert<Size2>::show(*size)));
    }
    if (problems.has_errors()) throw ConfigError(problems);
    return size;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Size2> training_size(const Config& tree) {
  return first_size(tree, {"model.data_preprocessor.size", "data_preprocessor.size", "crop_size",
                           "model.test_cfg.crop_size"});
}

Size2 window_size(const Config& tree) {
  if (const auto window = first_size(tree, {"model.test_cfg.crop_size"})) return *window;
  return training_size(tree).value_or(Size2(512));
}

}  // namespace seg
