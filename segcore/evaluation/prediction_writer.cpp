#include "segcore/evaluation/prediction_writer.hpp"

#include <algorithm>

#include "segcore/evaluation/pictures.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {

void PredictionWriter::write(const at::Tensor& ids, const std::string& name, const SampleMeta& meta,
                             const Palette& palette) const {
  write_class_ids(fitting_path(folder_ + "/" + name, ".png"), ids, meta.reduce_zero_label, palette);
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
    if (!known) out.emplace_back(output->folder);
  }
  return out;
}

}  // namespace seg
