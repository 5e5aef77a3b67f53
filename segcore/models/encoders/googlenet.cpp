#include <array>
#include <utility>

#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/inception_block.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct GoogLeNetBlock {
  const char* name;
  int64_t width1;           ///< of the branch of 1x1
  int64_t narrow2, width2;  ///< of the first branch of 3x3
  int64_t narrow3, width3;  ///< of the second; the paper has 5x5
  int64_t pooled;
  bool ends_level = false;
};

constexpr GoogLeNetBlock kGoogLeNetBlocks[] = {
    {"inception3a", 64, 96, 128, 16, 32, 32},
    {"inception3b", 128, 128, 192, 32, 96, 64, true},
    {"inception4a", 192, 96, 208, 16, 48, 64},
    {"inception4b", 160, 112, 224, 24, 64, 64},
    {"inception4c", 128, 128, 256, 24, 64, 64},
    {"inception4d", 112, 144, 288, 32, 64, 64},
    {"inception4e", 256, 160, 320, 32, 128, 128, true},
    {"inception5a", 256, 160, 320, 32, 128, 128},
    {"inception5b", 384, 192, 384, 48, 128, 128, true},
};

/// GoogLeNet with batch norms, as torchvision has it, without its auxiliary classifiers.
class GoogLeNet final : public ChainEncoder {
 public:
  GoogLeNet(const std::string& name, std::vector<EncoderWeights> published,
            const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = {64, 192, 480, 832, 1024},
                      .published = std::move(published),
                      .classifier = {"fc.", "aux1.", "aux2."},
                      .dilates = false,
                      .init = "[{type: TruncNormal, layer: Conv2d, std: 0.01}]"},
                     options) {
    const auto first = inception_unit(in_channels(), {.out = 64, .kernel = 7, .stride = 2});
    set_first_conv("conv1.conv.weight",
                   std::static_pointer_cast<Conv2d>(first->named_children()["conv"]));
    add("conv1", first);
    end_level();
    add_pool("maxpool1", 3);
    add("conv2", inception_unit(64, {.out = 64}));
    add("conv3", inception_unit(64, {.out = 192, .kernel = 3}));
    end_level();
    add_pool("maxpool2", 3);
    int64_t width = 192, pools = 2;
    for (const auto& b : kGoogLeNetBlocks) {
      const InceptionBlockOptions o{
          .branches = {
              inception_branch("branch1", {inception_conv(b.width1)}),
              inception_branch("branch2", {inception_conv(b.narrow2), inception_conv(b.width2, 3)}),
              inception_branch("branch3", {inception_conv(b.narrow3), inception_conv(b.width3, 3)}),
              inception_branch("branch4", {inception_max_pool(/*stride=*/1, /*padding=*/1),
                                           inception_conv(b.pooled)})}};
      width = add(b.name, std::make_shared<InceptionBlock>(width, o))->out_channels();
      if (!b.ends_level) continue;
      end_level();
      ++pools;
      if (pools < 5) add_pool(text("maxpool", pools), pools == 3 ? 3 : 2);
    }
  }

 private:
  void add_pool(const std::string& name, int64_t kernel) {
    add(name, [kernel](const torch::Tensor& x) {
      return at::max_pool2d(x, kernel, /*stride=*/2, /*padding=*/0, /*dilation=*/1,
                            /*ceil_mode=*/true);
    });
  }
};

std::vector<EncoderEntry> googlenet_encoders() {
  const std::string name = "tv-googlenet";
  return {{.name = name,
           .summary = "GoogLeNet, Inception v1. Its published weights expect images with mean and "
                      "std 127.5, to which torchvision converts those of ImageNet.",
           .source = "Szegedy et al. 2014, arXiv:1409.4842",
           .build = [name](const EncoderOptions& options) {
             return std::make_shared<GoogLeNet>(name, torchvision_versions("googlenet", "1378be20"),
                                                options);
           }}};
}
SEG_REGISTER_ENCODERS(googlenet_encoders);

}  // namespace
}  // namespace seg
