#include "runners/evaluate/input_errors.hpp"

#include <algorithm>

#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

std::string named_image(const ModelInput& input) {
  return input.metas.empty() ? "" : input.metas[0].img_path + ": ";
}

}  // namespace

void check_bands(const Segmentor& model, const ModelInput& input) {
  const int64_t given = input.images.size(1);
  const auto expected = model.bands();
  if (!expected || *expected == given) return;
  // What LoadImageFromFile has to be told: without an option it makes three bands of any file.
  const char* loaded = *expected == 1 ? "grayscale" : *expected == 3 ? "color" : "unchanged";
  throw DataError(text(named_image(input), "has ", given, given == 1 ? " band" : " bands",
                       ", the model takes ", *expected,
                       ": set model.backbone.in_channels, or color_type: ", loaded,
                       " of LoadImageFromFile"));
}

void check_failed_input(const Segmentor& model, const ModelInput& input, const c10::Error& error) {
  check_bands(model, input);
  // Networks halve their input five or six times and then apply windows to the rest.
  constexpr int64_t kSmall = 64;
  const int64_t height = input.images.size(2), width = input.images.size(3);
  if (std::min(height, width) >= kSmall) return;
  const std::string why = error.what_without_backtrace();
  throw DataError(
      text(named_image(input), height, "x", width, " pixels are too few for this model (",
           why.substr(0, why.find('\n')),
           "); pad images with model.data_preprocessor.test_cfg: {size_divisor: ", kSmall, "}"));
}

}  // namespace seg
