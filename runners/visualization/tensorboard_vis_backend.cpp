#include <filesystem>
#include <memory>
#include <optional>

#include "runners/visualization/event_file.hpp"
#include "runners/visualization/visualizer.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {

struct TensorboardVisBackendParams {
  std::optional<std::string> save_dir;
};

/// Event files for TensorBoard; the tags are the names in scalars.json.
class TensorboardVisBackend final : public VisBackend {
 public:
  using Params = TensorboardVisBackendParams;
  static Schema<Params> schema() {
    return Schema<Params>("Writes values and pictures as event files that TensorBoard shows.")
        .source("MMEngine 0.10, TensorboardVisBackend")
        .optional("save_dir", &Params::save_dir, "folder; null: the run's");
  }
  TensorboardVisBackend(const Params& params, const VisPlace& place)
      : folder_(params.save_dir.value_or(place.folder)) {}

  void add_config(const std::string& yaml) override {
    file().add_text("config", "```yaml\n" + yaml + "\n```", 0);
  }
  void add_scalars(const Scalars& scalars, int64_t step) override {
    for (const auto& [name, value] : scalars) file().add_scalar(name, value, step);
  }
  void add_image(const std::string& name, const cv::Mat& image, int64_t step) override {
    const std::vector<uint8_t> png = encode_png(image);
    file().add_image(name, {reinterpret_cast<const char*>(png.data()), png.size()}, image.rows,
                     image.cols, step);
  }
  void flush() override {
    if (file_) file_->flush();
  }

 private:
  /// Made with the first record: TensorBoard lists every file as a run.
  EventFile& file() {
    if (!file_) {
      make_folders(folder_);
      file_ = std::make_unique<EventFile>(folder_);
    }
    return *file_;
  }

  std::string folder_;
  std::unique_ptr<EventFile> file_;
};
SEG_REGISTER(VisBackend, TensorboardVisBackend);

}  // namespace seg
