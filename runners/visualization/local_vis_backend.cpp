#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

#include "runners/visualization/scalar_rows.hpp"
#include "runners/visualization/visualizer.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

/// A text file that grows by whole lines: each is one call of the system, so that a killed run
/// leaves none cut.
class LineFile {
 public:
  explicit LineFile(std::string path) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd_ < 0) fail();
    drop_cut_line();
  }
  ~LineFile() { ::close(fd_); }
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  void add(const std::string& line) {
    const std::string row = line + "\n";
    size_t done = 0;
    while (done < row.size()) {
      const ssize_t n = ::write(fd_, row.data() + done, row.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail();
      done += static_cast<size_t>(n);
    }
  }
  void sync() { ::fsync(fd_); }

 private:
  [[noreturn]] void fail() const {
    throw FileError(text("cannot write ", path_, ": ", std::strerror(errno)));
  }
  /// A machine that lost its power may leave half a line at the end.
  void drop_cut_line() {
    off_t end = ::lseek(fd_, 0, SEEK_END);
    const off_t whole = end;
    char last = '\n';
    while (end > 0 && ::pread(fd_, &last, 1, end - 1) == 1 && last != '\n') --end;
    if (end != whole && ::ftruncate(fd_, end) != 0) fail();
  }

  std::string path_;
  int fd_ = -1;
};

}  // namespace

struct LocalVisBackendParams {
  std::optional<std::string> save_dir;
  std::string img_save_dir = "vis_image";
  std::string config_save_file = "config.yaml";
  std::string scalar_save_file = "scalars.json";
};

/// Files that need no program to be read: scalars.json, pictures, the configuration.
class LocalVisBackend final : public VisBackend {
 public:
  using Params = LocalVisBackendParams;
  static Schema<Params> schema() {
    return Schema<Params>("Writes values as JSON lines and pictures as PNG files.")
        .source("MMEngine 0.10, LocalVisBackend")
        .optional("save_dir", &Params::save_dir, "folder; null: the run's")
        .optional("img_save_dir", &Params::img_save_dir, "folder of pictures in it")
        .optional("config_save_file", &Params::config_save_file,
                  "name of the configuration's copy; .py becomes .yaml")
        .optional("scalar_save_file", &Params::scalar_save_file, "name of the file of values");
  }
  LocalVisBackend(const Params& params, const VisPlace& place)
      : params_(params), folder_(params.save_dir.value_or(place.folder)), place_(place) {}

  void add_config(const std::string& yaml) override {
    std::filesystem::path name = params_.config_save_file;
    if (name.extension() == ".py") name.replace_extension(".yaml");
    make_folders(folder_);
    write_file_atomically(folder_ + "/" + name.string(), yaml);
  }
  void add_scalars(const Scalars& scalars, int64_t step) override {
    if (!scalars_) {
      make_folders(folder_);
      scalars_.emplace(folder_ + "/" + params_.scalar_save_file);
      const std::string named = place_.timestamp + ".json";
      if (!place_.timestamp.empty() && named != params_.scalar_save_file) {
        copy_.emplace(folder_ + "/" + named);
      }
    }
    const std::string row = scalar_row(scalars, step);
    scalars_->add(row);
    if (copy_) copy_->add(row);
  }
  void add_image(const std::string& name, const cv::Mat& image, int64_t step) override {
    const std::string path = text(folder_, "/", params_.img_save_dir, "/", name, "_", step, ".png");
    write_png(path, image);
  }
  void flush() override {
    if (scalars_) scalars_->sync();
    if (copy_) copy_->sync();
  }

 private:
  Params params_;
  std::string folder_;
  VisPlace place_;
  std::optional<LineFile> scalars_, copy_;
};
SEG_REGISTER(VisBackend, LocalVisBackend);

}  // namespace seg
