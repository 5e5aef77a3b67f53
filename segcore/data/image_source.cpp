#include "segcore/data/image_source.hpp"

#include <string_view>

namespace seg {
namespace {

class EncodedSource final : public ImageSource {
 public:
  EncodedSource(std::vector<uint8_t> bytes, std::string path, ImageFlag flag, cv::Size size)
      : bytes_(std::move(bytes)), path_(std::move(path)), flag_(flag), size_(size) {}
  cv::Size size() const override { return size_; }
  int type() const override { return CV_8UC3; }
  cv::Mat part(const cv::Rect& rect) const override {
    return decode_image_part(bytes_, path_, rect, flag_);
  }

 private:
  std::vector<uint8_t> bytes_;
  std::string path_;
  ImageFlag flag_;
  cv::Size size_;
};

}  // namespace

std::shared_ptr<const ImageSource> encoded_source(std::vector<uint8_t>& bytes,
                                                  const std::string& path, ImageFlag flag) {
  const bool color = flag == ImageFlag::kColor || flag == ImageFlag::kColorIgnoreOrientation;
  if (!color) return nullptr;
  const ImageInfo info = image_info(bytes, path);
  const std::string_view format(info.format);
  if ((format != "JPEG" && format != "PNG") || info.orientation != 1) return nullptr;
  const cv::Size size(static_cast<int>(info.width), static_cast<int>(info.height));
  return std::make_shared<EncodedSource>(std::move(bytes), path, flag, size);
}

}  // namespace seg
