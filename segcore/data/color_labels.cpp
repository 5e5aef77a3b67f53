#include <map>
#include <mutex>
#include <set>
#include <unordered_map>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/data/label_coding.hpp"
#include "segcore/data/sample.hpp"
#include "segcore/data/sample_picture.hpp"

namespace seg {
namespace {

constexpr size_t kReportedColorFiles = 20;  ///< so that a wrong palette does not fill the log

uint32_t color_key(int r, int g, int b) {
  return static_cast<uint32_t>(r) << 16 | static_cast<uint32_t>(g) << 8 | static_cast<uint32_t>(b);
}

std::string color_text(uint32_t key) {
  return text("(", key >> 16, ", ", key >> 8 & 255, ", ", key & 255, ")");
}

class ColorLabels final : public LabelCoding {
 public:
  explicit ColorLabels(const Palette& palette) {
    for (size_t i = 0; i < palette.size(); ++i) {
      const uint32_t key = color_key(palette[i][0], palette[i][1], palette[i][2]);
      const auto [known, fresh] = ids_.emplace(key, static_cast<int32_t>(i));
      if (!fresh) {
        throw OptionError("label_colors",
                          text("classes ", known->second, " and ", i, " have one colour, ",
                               color_text(key), ", in the palette: labels cannot be told apart"));
      }
    }
  }

  RawLabels decode(const Sample& sample, const ReadOptions& options) const override {
    const std::string& path = sample.meta.seg_map_path;
    const cv::Mat image =
        read_sample_image(sample, path, ImageFlag::kColorIgnoreOrientation, options);
    RawLabels out;
    out.ids = cv::Mat(image.size(), CV_32S, cv::Scalar(0));
    std::map<uint32_t, size_t> unknown;
    uint32_t last_key = 0;
    int32_t last_id = 0;
    bool known = false;
    for (int y = 0; y < image.rows; ++y) {
      const auto* pixels = image.ptr<cv::Vec3b>(y);
      auto* ids = out.ids.ptr<int32_t>(y);
      for (int x = 0; x < image.cols; ++x) {
        const uint32_t key = color_key(pixels[x][2], pixels[x][1], pixels[x][0]);
        if (!known || key != last_key) {
          const auto found = ids_.find(key);
          last_key = key;
          last_id = found == ids_.end() ? -1 : found->second;
          known = true;
        }
        if (last_id >= 0) {
          ids[x] = last_id;
        } else {
          if (out.missing.empty()) out.missing = cv::Mat(image.size(), CV_8U, cv::Scalar(0));
          out.missing.at<uint8_t>(y, x) = 255;
          ++unknown[key];
        }
      }
    }
    if (!unknown.empty()) report(path, unknown);
    return out;
  }

 private:
  void report(const std::string& path, const std::map<uint32_t, size_t>& unknown) const {
    {
      const std::lock_guard lock(mutex_);
      if (reported_.size() > kReportedColorFiles || !reported_.insert(path).second) return;
      if (reported_.size() > kReportedColorFiles) {
        log::warn("more annotations have colours that are not in the palette; they are not named");
        return;
      }
    }
    size_t pixels = 0;
    const auto* most = &*unknown.begin();
    for (const auto& entry : unknown) {
      pixels += entry.second;
      if (entry.second > most->second) most = &entry;
    }
    log::warn(path, ": ", pixels, pixels == 1 ? " pixel has " : " pixels have ",
              unknown.size() == 1 ? "a colour that is" : text(unknown.size(), " colours that are"),
              " not in the palette, and ", pixels == 1 ? "is" : "are",
              " ignored: ", color_text(most->first), " at ", most->second, " of them");
  }

  std::unordered_map<uint32_t, int32_t> ids_;
  mutable std::mutex mutex_;
  mutable std::set<std::string> reported_;
};

}  // namespace

std::unique_ptr<LabelCoding> color_coding(const Palette& palette) {
  return std::make_unique<ColorLabels>(palette);
}

}  // namespace seg
