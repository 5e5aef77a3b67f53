#include "segcore/evaluation/prediction_writer.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "segcore/evaluation/class_raster.hpp"
#include "segcore/evaluation/depth_picture.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {

void PredictionWriter::write(const Prediction& prediction, const std::string& name,
                             const SampleMeta& meta, const Palette& palette) const {
  const std::string path = fitting_path(folder() + "/" + name, ".png");
  if (prediction.depth.defined()) {
    write_depth(path, prediction.depth, output_.depth_scale);
    return;
  }
  const auto& values_of = output_.values;
  const at::Tensor& ids = prediction.ids;
  if (values_of.empty()) {
    const auto source = raster_source(meta.img_path);
    if (source && !source->georeference.empty()) {
      write_class_raster(fitting_path(folder() + "/" + name, ".tif"), ids, meta.reduce_zero_label,
                         palette, *source, meta.window);
      return;
    }
    write_class_ids(path, ids, meta.reduce_zero_label, palette);
    return;
  }
  Palette colors(size_t{*std::max_element(values_of.begin(), values_of.end())} + 1);
  const at::Tensor values = at::zeros({static_cast<int64_t>(values_of.size())}, at::kLong);
  for (size_t i = 0; i < values_of.size(); ++i) {
    values[static_cast<int64_t>(i)] = static_cast<int64_t>(values_of[i]);
    if (i < palette.size()) colors[values_of[i]] = palette[i];
  }
  const at::Tensor flat = ids.to(at::kCPU).flatten();
  write_class_ids(path, values.index_select(0, flat).view_as(ids), /*one_up=*/false, colors);
}

std::vector<PredictionWriter> prediction_writers(
    const std::vector<std::unique_ptr<Metric>>& metrics) {
  std::vector<PredictionWriter> out;
  for (const auto& metric : metrics) {
    const auto output = metric->output();
    if (!output || output->folder.empty()) continue;
    const bool known = std::any_of(out.begin(), out.end(), [&](const PredictionWriter& writer) {
      return writer.folder() == output->folder;
    });
    if (!known) out.emplace_back(*output);
  }
  return out;
}

}  // namespace seg
