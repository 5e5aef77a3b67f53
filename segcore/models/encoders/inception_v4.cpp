#include <utility>

#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/inception_block.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// segmentation_models_pytorch pads what the papers and timm do not, so that maps have exact
/// shares of the images' size, and takes another second map of Inception v4.
struct InceptionDialect {
  bool of_smp = false;
};

/// Inception v4 and Inception-ResNet v2, Szegedy et al. 2016, arXiv:1602.07261.
class InceptionChain : public ChainEncoder {
 protected:
  InceptionChain(EncoderFacts facts, const InceptionDialect& dialect, const EncoderOptions& options)
      : ChainEncoder(std::move(facts), options), padded_(dialect.of_smp), width_(in_channels()) {}

  /// A convolution that strides or takes only as many pixels as fit.
  InceptionStep narrowing(int64_t out, int64_t stride = 2) const {
    return inception_conv(out, 3, stride, padded_);
  }
  InceptionStep max_pool() const {
    return inception_max_pool(/*stride=*/2, /*padding=*/padded_ ? 1 : 0);
  }
  static InceptionBranch pool_branch(int64_t out) {
    return inception_branch(
        "branch3", {inception_average_pool(/*counts_padding=*/false), inception_conv(out)});
  }

  void add_first_unit(const std::string& name) {
    const auto unit = add_unit(name, narrowing(32));
    set_first_conv(name + ".conv.weight",
                   std::static_pointer_cast<Conv2d>(unit->named_children()["conv"]));
  }
  std::shared_ptr<Layer> add_unit(const std::string& name, const InceptionStep& step) {
    return add(name, inception_unit(std::exchange(width_, step.conv.out), step.conv));
  }
  void add_block(const std::string& name, const InceptionBlockOptions& o) {
    width_ = add(name, std::make_shared<InceptionBlock>(width_, o))->out_channels();
  }

 private:
  bool padded_;
  int64_t width_;  ///< of what was added last
};

class InceptionV4 final : public InceptionChain {
 public:
  InceptionV4(const std::string& name, const InceptionDialect& dialect,
              std::vector<EncoderWeights> published, const EncoderOptions& options)
      : InceptionChain({.name = name,
                        .channels = {64, dialect.of_smp ? 192 : 160, 384, 1024, 1536},
                        .published = std::move(published),
                        .classifier = {"last_linear."},
                        .dilates = false,
                        .halves = dialect.of_smp,
                        .init = EncoderFacts::kPyTorchInit},
                       dialect, options) {
    if (dialect.of_smp) run_one_level_more();
    add_first_unit(next());
    add_unit(next(), narrowing(32, /*stride=*/1));
    add_unit(next(), inception_conv(64, 3));
    end_level();
    add_block(next(), {.branches = {{max_pool()}, inception_branch("conv", {narrowing(96)})}});
    if (!dialect.of_smp) end_level();
    add_block(next(), mixed_4a());
    if (dialect.of_smp) end_level();
    add_block(next(), {.branches = {inception_branch("conv", {narrowing(192)}), {max_pool()}}});
    for (int i = 0; i < 4; ++i) {
      add_block(next(), block_a());
      // Of four equal blocks, that library gives the third.
      if (i == (dialect.of_smp ? 2 : 3)) end_level();
    }
    add_block(next(), reduction_a());
    for (int i = 0; i < 7; ++i) {
      add_block(next(), block_b());
      if (i == (dialect.of_smp ? 3 : 6)) end_level();
    }
    add_block(next(), reduction_b());
    for (int i = 0; i < 3; ++i) add_block(next(), block_c());
    end_level();
  }

 private:
  std::string next() { return text("features.", count_++); }

  InceptionBlockOptions mixed_4a() const {
    return {.branches = {
                inception_branch("branch0", {inception_conv(64), narrowing(96, /*stride=*/1)}),
                inception_branch("branch1",
                                 {inception_conv(64), inception_conv(64, Size2(1, 7)),
                                  inception_conv(64, Size2(7, 1)), narrowing(96, /*stride=*/1)})}};
  }
  static InceptionBlockOptions block_a() {
    return {.branches = {inception_branch("branch0", {inception_conv(96)}),
                         inception_branch("branch1", {inception_conv(64), inception_conv(96, 3)}),
                         inception_branch("branch2", {inception_conv(64), inception_conv(96, 3),
                                                      inception_conv(96, 3)}),
                         pool_branch(96)}};
  }
  InceptionBlockOptions reduction_a() const {
    return {.branches = {inception_branch("branch0", {narrowing(384)}),
                         inception_branch("branch1", {inception_conv(192), inception_conv(224, 3),
                                                      narrowing(256)}),
                         {max_pool()}}};
  }
  static InceptionBlockOptions block_b() {
    const Size2 row(1, 7), column(7, 1);
    return {.branches = {
                inception_branch("branch0", {inception_conv(384)}),
                inception_branch("branch1", {inception_conv(192), inception_conv(224, row),
                                             inception_conv(256, column)}),
                inception_branch("branch2", {inception_conv(192), inception_conv(192, column),
                                             inception_conv(224, row), inception_conv(224, column),
                                             inception_conv(256, row)}),
                pool_branch(128)}};
  }
  InceptionBlockOptions reduction_b() const {
    return {.branches = {
                inception_branch("branch0", {inception_conv(192), narrowing(192)}),
                inception_branch("branch1", {inception_conv(256), inception_conv(256, Size2(1, 7)),
                                             inception_conv(320, Size2(7, 1)), narrowing(320)}),
                {max_pool()}}};
  }
  static InceptionBlockOptions block_c() {
    const Size2 row(1, 3), column(3, 1);
    const auto fork = [&](InceptionBranch& branch, const std::string& name) {
      branch.push_back(inception_conv(256, row));
      branch.back().name = name + "a";
      branch.push_back(inception_conv(256, column));
      branch.back().name = name + "b";
      branch.back().beside = true;
    };
    InceptionBranch single{inception_conv(384)};
    single[0].name = "branch1_0";
    fork(single, "branch1_1");
    InceptionBranch twice{inception_conv(384), inception_conv(448, column),
                          inception_conv(512, row)};
    for (size_t i = 0; i < twice.size(); ++i) twice[i].name = text("branch2_", i);
    fork(twice, "branch2_3");
    return {.branches = {inception_branch("branch0", {inception_conv(256)}), single, twice,
                         pool_branch(256)}};
  }

  int64_t count_ = 0;
};

class InceptionResNetV2 final : public InceptionChain {
 public:
  InceptionResNetV2(const std::string& name, const InceptionDialect& dialect,
                    std::vector<EncoderWeights> published, const EncoderOptions& options)
      : InceptionChain({.name = name,
                        .channels = {64, 192, 320, 1088, 1536},
                        .published = std::move(published),
                        .classifier = {"classif.", "last_linear."},
                        .dilates = false,
                        .halves = dialect.of_smp,
                        .init = EncoderFacts::kPyTorchInit},
                       dialect, options) {
    add_first_unit("conv2d_1a");
    add_unit("conv2d_2a", narrowing(32, /*stride=*/1));
    add_unit("conv2d_2b", inception_conv(64, 3));
    end_level();
    add("maxpool_3a", max_pool().pool);
    add_unit("conv2d_3b", inception_conv(80));
    add_unit("conv2d_4a", narrowing(192, /*stride=*/1));
    end_level();
    add("maxpool_5a", max_pool().pool);
    add_block("mixed_5b", mixed_5b());
    for (int i = 0; i < 10; ++i) add_block(text("repeat.", i), block_35());
    end_level();
    add_block("mixed_6a", mixed_6a());
    for (int i = 0; i < 20; ++i) add_block(text("repeat_1.", i), block_17());
    end_level();
    add_block("mixed_7a", mixed_7a());
    for (int i = 0; i < 9; ++i) add_block(text("repeat_2.", i), block_8(0.2));
    auto last = block_8(1);
    last.residual_relu = false;
    add_block("block8", last);
    add_unit("conv2d_7b", inception_conv(1536));
    end_level();
  }

 private:
  static InceptionBlockOptions mixed_5b() {
    return {.branches = {inception_branch("branch0", {inception_conv(96)}),
                         inception_branch("branch1", {inception_conv(48), inception_conv(64, 5)}),
                         inception_branch("branch2", {inception_conv(64), inception_conv(96, 3),
                                                      inception_conv(96, 3)}),
                         pool_branch(64)}};
  }
  static InceptionBlockOptions block_35() {
    return {.branches = {inception_branch("branch0", {inception_conv(32)}),
                         inception_branch("branch1", {inception_conv(32), inception_conv(32, 3)}),
                         inception_branch("branch2", {inception_conv(32), inception_conv(48, 3),
                                                      inception_conv(64, 3)})},
            .residual_scale = 0.17};
  }
  InceptionBlockOptions mixed_6a() const {
    return {.branches = {inception_branch("branch0", {narrowing(384)}),
                         inception_branch("branch1", {inception_conv(256), inception_conv(256, 3),
                                                      narrowing(384)}),
                         {max_pool()}}};
  }
  static InceptionBlockOptions block_17() {
    return {.branches = {inception_branch("branch0", {inception_conv(192)}),
                         inception_branch("branch1",
                                          {inception_conv(128), inception_conv(160, Size2(1, 7)),
                                           inception_conv(192, Size2(7, 1))})},
            .residual_scale = 0.1};
  }
  InceptionBlockOptions mixed_7a() const {
    return {.branches = {inception_branch("branch0", {inception_conv(256), narrowing(384)}),
                         inception_branch("branch1", {inception_conv(256), narrowing(288)}),
                         inception_branch("branch2", {inception_conv(256), inception_conv(288, 3),
                                                      narrowing(320)}),
                         {max_pool()}}};
  }
  static InceptionBlockOptions block_8(double scale) {
    return {.branches = {inception_branch("branch0", {inception_conv(192)}),
                         inception_branch("branch1",
                                          {inception_conv(192), inception_conv(224, Size2(1, 3)),
                                           inception_conv(256, Size2(3, 1))})},
            .residual_scale = scale};
  }
};

template <class Network>
EncoderEntry inception_entry(const std::string& name, const std::string& summary, bool of_smp,
                             const std::vector<EncoderWeights>& published) {
  return {.name = name,
          .summary = summary,
          .source = "Szegedy et al. 2016, arXiv:1602.07261",
          .build = [name, of_smp, published](const EncoderOptions& options) {
            return std::make_shared<Network>(name, InceptionDialect{of_smp}, published, options);
          }};
}

std::vector<EncoderEntry> inception_v4_encoders() {
  const auto smp = [](const std::string& name, const std::string& revision,
                      const std::string& background_revision) {
    EncoderWeights background = smp_weights(name, "imagenet-background", background_revision);
    background.name = "imagenet+background";
    return std::vector<EncoderWeights>{smp_weights(name, "imagenet", revision), background};
  };
  return {
      inception_entry<InceptionV4>("inceptionv4", "Inception v4.", /*of_smp=*/true,
                                   smp("inceptionv4", "918fb54f07811d82a4ecde3a51156041d0facba9",
                                       "8c2a48e20d2709ee64f8421c61be309f05bfa536")),
      inception_entry<InceptionV4>("tu-inception_v4", "Inception v4.", /*of_smp=*/false,
                                   timm_weights_of_tags("inception_v4", "tf_in1k")),
      inception_entry<InceptionResNetV2>(
          "inceptionresnetv2", "Inception-ResNet v2.", /*of_smp=*/true,
          smp("inceptionresnetv2", "120c5afdbb80a1c989db0a7423ebb7a9db9b1e6c",
              "3ecf3491658dc0f6a76d69c9d1cb36511b1ee56c")),
      inception_entry<InceptionResNetV2>(
          "tu-inception_resnet_v2", "Inception-ResNet v2.", /*of_smp=*/false,
          timm_weights_of_tags("inception_resnet_v2", "tf_in1k tf_ens_adv_in1k"))};
}
SEG_REGISTER_ENCODERS(inception_v4_encoders);

}  // namespace
}  // namespace seg
