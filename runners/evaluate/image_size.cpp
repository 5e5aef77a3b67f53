#include "runners/evaluate/image_size.hpp"

#include "registry/schema.hpp"

namespace seg {
namespace {

std::optional<Size2> crop_size_variable(const Config& tree) {
  const Config::Item* item = tree.find("crop_size");
  if (!item || item->value.is_null()) return std::nullopt;
  Diagnostics problems;
  const auto size = Convert<Size2>::from(item->value, "crop_size", problems);
  if (size && (size->h < 1 || size->w < 1)) {
    problems.error(item->value.origin, "crop_size",
                   text("must be at least 1, got ", Convert<Size2>::show(*size)));
  }
  if (problems.has_errors()) throw ConfigError(problems);
  return size;
}

}  // namespace

std::optional<Size2> training_size(const Segmentor& model, const Config& tree) {
  if (const auto size = model.data_preprocessor().train_size()) return size;
  if (const auto size = crop_size_variable(tree)) return size;
  return model.test_cfg().crop_size;
}

Size2 window_size(const Segmentor& model, const Config& tree) {
  if (const auto window = model.test_cfg().crop_size) return *window;
  return training_size(model, tree).value_or(Size2(512));
}

}  // namespace seg
