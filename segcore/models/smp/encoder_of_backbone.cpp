#include "segcore/models/smp/encoder_of_backbone.hpp"

#include <algorithm>
#include <utility>

#include "registry/log.hpp"
#include "segcore/torch.hpp"

namespace seg::smp {
namespace {

/// Which of a backbone's maps each level of a decoder takes.
struct EncoderLevels {
  static constexpr size_t kNone = static_cast<size_t>(-1);
  std::vector<int64_t> channels;  ///< of the levels below the images
  std::vector<size_t> maps;       ///< of the same; kNone: a map without channels
};

EncoderLevels encoder_levels(const Backbone& backbone, const EncoderOptions& options) {
  const auto features = backbone.features();
  std::vector<int64_t> given, needed;  // strides
  for (const auto& f : features) {
    if (!f.is_token()) given.push_back(f.stride);
  }
  for (int64_t i = 1; i <= options.depth; ++i) {
    needed.push_back(std::min(int64_t{1} << i, options.output_stride));
  }
  EncoderLevels out;
  std::vector<bool> used(features.size(), false);
  size_t next = 0;
  for (size_t level = 0; level < needed.size(); ++level) {
    size_t i = next;
    while (i < features.size() && features[i].stride != needed[level]) ++i;
    if (i < features.size()) {
      out.channels.push_back(features[i].channels);
      out.maps.push_back(i);
      used[i] = true;
      next = i + 1;
    } else if (level == 0 && needed.size() > 1) {
      out.channels.push_back(0);
      out.maps.push_back(EncoderLevels::kNone);
    } else {
      throw OptionError(
          "encoder", text(backbone.python_names().front(), " gives maps of the strides ",
                          join(given, ", "), ", but this model takes maps of ", join(needed, ", "),
                          " (encoder_depth ", options.depth, "): one of ", needed[level],
                          " is missing. Change its out_indices, strides or dilations, or "
                          "encoder_depth"));
    }
  }
  for (size_t i = 0; i < features.size(); ++i) {
    if (!used[i] && !features[i].is_token()) {
      log::warn("encoder: the map of stride ", features[i].stride,
                " is not used: layers that only it depends on are not trained");
    }
  }
  return out;
}

class BackboneEncoder final : public Encoder {
 public:
  BackboneEncoder(std::shared_ptr<Backbone> backbone, const EncoderOptions& options,
                  EncoderLevels levels)
      : Encoder({.name = backbone->python_names().front(), .channels = levels.channels}, options),
        backbone_(std::move(backbone)),
        maps_(std::move(levels.maps)) {}

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto maps = backbone_->forward(images);
    std::vector<torch::Tensor> out{images};
    for (const size_t i : maps_) {
      out.push_back(i == EncoderLevels::kNone ? empty_half(images, maps.front()) : maps[i]);
    }
    return out;
  }
  std::shared_ptr<BaseModule> module() override { return backbone_; }

 private:
  std::shared_ptr<Backbone> backbone_;
  std::vector<size_t> maps_;
};

}  // namespace

std::shared_ptr<Encoder> encoder_of(std::shared_ptr<Backbone> backbone,
                                    const EncoderOptions& options) {
  auto levels = encoder_levels(*backbone, options);
  return std::make_shared<BackboneEncoder>(std::move(backbone), options, std::move(levels));
}

}  // namespace seg::smp
