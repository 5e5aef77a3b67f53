#include <utility>

#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/inception_block.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct BnInceptionBlock {
  const char* name;
  int64_t width1;                  ///< of the branch of 1x1; 0: the block strides and has none
  int64_t narrow3, width3;         ///< of the branch of 3x3
  int64_t narrow_double, double3;  ///< of the branch of two 3x3
  int64_t pooled = 0;              ///< 0: the pool alone
  bool pools_maxima = false;
};

constexpr BnInceptionBlock kBnInceptionBlocks[] = {
    {"inception_3a_", 64, 64, 64, 64, 96, 32},
    {"inception_3b_", 64, 64, 96, 64, 96, 64},
    {"inception_3c_", 0, 128, 160, 64, 96},
    {"inception_4a_", 224, 64, 96, 96, 128, 128},
    {"inception_4b_", 192, 96, 128, 96, 128, 128},
    {"inception_4c_", 160, 128, 160, 128, 160, 128},
    {"inception_4d_", 96, 128, 192, 160, 192, 128},
    {"inception_4e_", 0, 128, 192, 192, 256},
    {"inception_5a_", 352, 192, 320, 160, 224, 128},
    {"inception_5b_", 352, 192, 320, 192, 224, 128, true},
};

InceptionStep named_inception_conv(const std::string& name, int64_t out, int64_t kernel = 1,
                                   int64_t stride = 1) {
  auto step = inception_conv(out, kernel, stride);
  step.name = name;
  return step;
}

/// Inception with batch norms, which is Inception v2, as R. Cadene's package pretrainedmodels has
/// it. The blocks that end at strides 8 and 16 stride themselves: the maps are what they take.
class BnInception final : public ChainEncoder {
 public:
  BnInception(const std::string& name, const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = {64, 192, 320, 608, 1024},
                      .published = {{"imagenet",
                                     "http://data.lip6.fr/cadene/pretrainedmodels/"
                                     "bn_inception-52deb4733.pth"}},
                      .classifier = {"last_linear."},
                      .dilates = false,
                      .init = EncoderFacts::kPyTorchInit},
                     options) {
    const auto first =
        add_unit("conv1_7x7_s2", in_channels(), {.out = 64, .kernel = 7, .stride = 2});
    set_first_conv("conv1_7x7_s2.weight",
                   std::static_pointer_cast<Conv2d>(first->named_children()["conv1_7x7_s2"]));
    end_level();
    add_pool("pool1_3x3_s2");
    add_unit("conv2_3x3_reduce", 64, {.out = 64});
    add_unit("conv2_3x3", 64, {.out = 192, .kernel = 3});
    end_level();
    add_pool("pool2_3x3_s2");
    int64_t width = 192;
    for (const auto& b : kBnInceptionBlocks) {
      if (b.width1 == 0) end_level();
      const auto block = std::make_shared<InceptionBlock>(width, block_options(b));
      add_children_of(b.name, block);
      width = block->out_channels();
    }
    end_level();
  }

 private:
  std::shared_ptr<Layer> add_unit(const std::string& name, int64_t in, const InceptionConv& conv) {
    auto unit = biased_inception_unit(in, conv, name);
    add_children_of("", unit);
    return unit;
  }
  void add_pool(const std::string& name) {
    add(name, inception_max_pool(/*stride=*/2, /*padding=*/0, /*ceil_mode=*/true).pool);
  }

  static InceptionBlockOptions block_options(const BnInceptionBlock& b) {
    const bool strides = b.width1 == 0;
    const int64_t stride = strides ? 2 : 1;
    InceptionBlockOptions o{.biased = true};
    if (!strides) o.branches.push_back({named_inception_conv("1x1", b.width1)});
    o.branches.push_back({named_inception_conv("3x3_reduce", b.narrow3),
                          named_inception_conv("3x3", b.width3, 3, stride)});
    o.branches.push_back({named_inception_conv("double_3x3_reduce", b.narrow_double),
                          named_inception_conv("double_3x3_1", b.double3, 3),
                          named_inception_conv("double_3x3_2", b.double3, 3, stride)});
    if (strides) {
      o.branches.push_back({inception_halving_max_pool()});
    } else {
      o.branches.push_back({b.pools_maxima ? inception_max_pool(/*stride=*/1, /*padding=*/1)
                                           : inception_average_pool(/*counts_padding=*/true),
                            named_inception_conv("pool_proj", b.pooled)});
    }
    return o;
  }
};

std::vector<EncoderEntry> bn_inception_encoders() {
  const std::string name = "bninception";
  return {{.name = name,
           .summary = "BN-Inception, which is Inception v2. Its published weights expect images of "
                      "the channels BGR with mean (104, 117, 128) and std 1.",
           .source = "Ioffe and Szegedy 2015, arXiv:1502.03167",
           .build = [name](const EncoderOptions& options) {
             return std::make_shared<BnInception>(name, options);
           }}};
}
SEG_REGISTER_ENCODERS(bn_inception_encoders);

}  // namespace
}  // namespace seg
