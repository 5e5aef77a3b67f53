#include <utility>

#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/inception_block.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

const Size2 kRow(1, 7), kColumn(7, 1);  // kernels of the branches of 7x7

InceptionStep named_step(const std::string& name, InceptionStep step, bool beside = false) {
  step.name = name;
  step.beside = beside;
  return step;
}

/// Two convolutions of 1x3 and 3x1 side by side.
void push_fork(InceptionBranch& branch, const std::string& name) {
  branch.push_back(named_step(name + "a", inception_conv(384, Size2(1, 3))));
  branch.push_back(named_step(name + "b", inception_conv(384, Size2(3, 1)), /*beside=*/true));
}

/// A mean over 3x3 pixels and a convolution.
InceptionBranch pool_branch(int64_t out) {
  return {inception_average_pool(/*counts_padding=*/true),
          named_step("branch_pool", inception_conv(out))};
}

InceptionBlockOptions block_a(int64_t pooled) {
  return {.branches = {{named_step("branch1x1", inception_conv(64))},
                       {named_step("branch5x5_1", inception_conv(48)),
                        named_step("branch5x5_2", inception_conv(64, 5))},
                       {named_step("branch3x3dbl_1", inception_conv(64)),
                        named_step("branch3x3dbl_2", inception_conv(96, 3)),
                        named_step("branch3x3dbl_3", inception_conv(96, 3))},
                       pool_branch(pooled)}};
}

InceptionBlockOptions reduction_b() {
  return {.branches = {{named_step("branch3x3", inception_conv(384, 3, 2, /*padded=*/false))},
                       {named_step("branch3x3dbl_1", inception_conv(64)),
                        named_step("branch3x3dbl_2", inception_conv(96, 3)),
                        named_step("branch3x3dbl_3", inception_conv(96, 3, 2, /*padded=*/false))},
                       {inception_max_pool(/*stride=*/2, /*padding=*/0)}}};
}

InceptionBlockOptions block_c(int64_t narrow) {
  return {.branches = {{named_step("branch1x1", inception_conv(192))},
                       {named_step("branch7x7_1", inception_conv(narrow)),
                        named_step("branch7x7_2", inception_conv(narrow, kRow)),
                        named_step("branch7x7_3", inception_conv(192, kColumn))},
                       {named_step("branch7x7dbl_1", inception_conv(narrow)),
                        named_step("branch7x7dbl_2", inception_conv(narrow, kColumn)),
                        named_step("branch7x7dbl_3", inception_conv(narrow, kRow)),
                        named_step("branch7x7dbl_4", inception_conv(narrow, kColumn)),
                        named_step("branch7x7dbl_5", inception_conv(192, kRow))},
                       pool_branch(192)}};
}

InceptionBlockOptions reduction_d() {
  return {.branches = {{named_step("branch3x3_1", inception_conv(192)),
                        named_step("branch3x3_2", inception_conv(320, 3, 2, /*padded=*/false))},
                       {named_step("branch7x7x3_1", inception_conv(192)),
                        named_step("branch7x7x3_2", inception_conv(192, kRow)),
                        named_step("branch7x7x3_3", inception_conv(192, kColumn)),
                        named_step("branch7x7x3_4", inception_conv(192, 3, 2, /*padded=*/false))},
                       {inception_max_pool(/*stride=*/2, /*padding=*/0)}}};
}

InceptionBlockOptions block_e() {
  InceptionBranch single{named_step("branch3x3_1", inception_conv(384))};
  push_fork(single, "branch3x3_2");
  InceptionBranch twice{named_step("branch3x3dbl_1", inception_conv(448)),
                        named_step("branch3x3dbl_2", inception_conv(384, 3))};
  push_fork(twice, "branch3x3dbl_3");
  return {.branches = {
              {named_step("branch1x1", inception_conv(320))}, single, twice, pool_branch(192)}};
}

/// Inception v3 without its auxiliary classifier, whose tensors timm and torchvision name alike.
/// Most convolutions and pools that stride take only as many pixels as fit: maps are a little
/// smaller than a share of the image.
class InceptionV3 final : public ChainEncoder {
 public:
  InceptionV3(const std::string& name, std::vector<EncoderWeights> published,
              const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = {64, 192, 288, 768, 2048},
                      .published = std::move(published),
                      .classifier = {"fc.", "AuxLogits."},
                      .dilates = false,
                      .halves = false,
                      .init = "[{type: TruncNormal, layer: Conv2d, std: 0.1}]"},
                     options),
        width_(in_channels()) {
    const auto first =
        add_unit("Conv2d_1a_3x3", {.out = 32, .kernel = 3, .stride = 2, .padded = false});
    set_first_conv("Conv2d_1a_3x3.conv.weight",
                   std::static_pointer_cast<Conv2d>(first->named_children()["conv"]));
    add_unit("Conv2d_2a_3x3", {.out = 32, .kernel = 3, .padded = false});
    add_unit("Conv2d_2b_3x3", {.out = 64, .kernel = 3});
    end_level();
    add("maxpool1", inception_max_pool(/*stride=*/2, /*padding=*/0).pool);
    add_unit("Conv2d_3b_1x1", {.out = 80});
    add_unit("Conv2d_4a_3x3", {.out = 192, .kernel = 3, .padded = false});
    end_level();
    add("maxpool2", inception_max_pool(/*stride=*/2, /*padding=*/0).pool);
    add_block("Mixed_5b", block_a(32));
    add_block("Mixed_5c", block_a(64));
    add_block("Mixed_5d", block_a(64));
    end_level();
    add_block("Mixed_6a", reduction_b());
    add_block("Mixed_6b", block_c(128));
    add_block("Mixed_6c", block_c(160));
    add_block("Mixed_6d", block_c(160));
    add_block("Mixed_6e", block_c(192));
    end_level();
    add_block("Mixed_7a", reduction_d());
    add_block("Mixed_7b", block_e());
    add_block("Mixed_7c", block_e());
    end_level();
  }

 private:
  std::shared_ptr<Layer> add_unit(const std::string& name, const InceptionConv& conv) {
    return add(name, inception_unit(std::exchange(width_, conv.out), conv));
  }
  void add_block(const std::string& name, const InceptionBlockOptions& o) {
    width_ = add(name, std::make_shared<InceptionBlock>(width_, o))->out_channels();
  }

  int64_t width_;  ///< of what was added last
};

std::vector<EncoderEntry> inception_v3_encoders() {
  const auto entry = [](const std::string& name, const std::string& note,
                        const std::vector<EncoderWeights>& published) {
    return EncoderEntry{.name = name,
                        .summary = "Inception v3." + note,
                        .source = "Szegedy et al. 2015, arXiv:1512.00567",
                        .build = [name, published](const EncoderOptions& options) {
                          return std::make_shared<InceptionV3>(name, published, options);
                        }};
  };
  return {
      entry("tu-inception_v3", "",
            timm_weights_of_tags("inception_v3", "tv_in1k tf_in1k tf_adv_in1k gluon_in1k")),
      entry("tv-inception_v3",
            " Its published weights expect images with mean and std 127.5, to which torchvision "
            "converts those of ImageNet.",
            torchvision_versions("inception_v3_google", "0cc3c7bd"))};
}
SEG_REGISTER_ENCODERS(inception_v3_encoders);

}  // namespace
}  // namespace seg
