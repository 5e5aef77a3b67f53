#include <vector>

#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/unpool.hpp"
#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ENetParams {
  int64_t in_channels = 3;
  double first_drop_rate = 0.01;
  double drop_rate = 0.1;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: BN, eps: 1e-3}");
  InitCfg init_cfg;
};

namespace {

constexpr int64_t kENetReduction = 4;  ///< of the width inside a bottleneck
constexpr int64_t kENetStem = 16;

std::shared_ptr<Activation> enet_act(int64_t channels, bool decoder) {
  return decoder ? relu_cfg()->build(/*inplace=*/false)
                 : act_cfg_of(text("{type: PReLU, num_parameters: ", channels, "}"))
                       ->build(/*inplace=*/false);
}

std::shared_ptr<Conv2d> enet_conv(int64_t in, int64_t out, Size2 kernel, int64_t stride = 1,
                                  int64_t dilation = 1) {
  return std::make_shared<Conv2d>(
      ConvOptions{.in_channels = in,
                  .out_channels = out,
                  .kernel_size = kernel,
                  .stride = stride,
                  .padding = {kernel.h / 2 * dilation, kernel.w / 2 * dilation},
                  .dilation = dilation,
                  .bias = false});
}

/// Rows and columns of zeros after the last, so that both sides are even.
torch::Tensor padded_to_even(const torch::Tensor& x) {
  return pad2d(x, 0, x.size(3) % 2, 0, x.size(2) % 2);
}

/// Halves an image by a convolution and by pooling side by side: children `conv`, `bn`, `act`.
class ENetInitial final : public Layer {
 public:
  explicit ENetInitial(const ENetParams& p) {
    conv_ = register_module("conv",
                            enet_conv(p.in_channels, kENetStem - p.in_channels, 3, /*stride=*/2));
    norm_ = register_module("bn", p.norm_cfg.build(kENetStem));
    act_ = register_module("act", enet_act(kENetStem, /*decoder=*/false));
  }
  torch::Tensor forward(const torch::Tensor& images) override {
    const auto pooled = pool_with_places(images).values;
    return act_->forward(norm_->forward(joined_maps({conv_->forward(images), pooled})));
  }

 private:
  std::shared_ptr<Conv2d> conv_;
  std::shared_ptr<Norm> norm_;
  std::shared_ptr<Activation> act_;
};

/// What stands in the middle of a bottleneck.
struct ENetMiddle {
  enum class Kind { kPlain, kAsymmetric, kDown, kUp };
  Kind kind = Kind::kPlain;
  int64_t dilation = 1;
};

/// A narrow branch beside the map itself: children `branch` and, where the width of a map that is
/// enlarged changes, `shortcut`; the last activation is `act`.
class ENetBottleneck final : public BaseModule {
 public:
  using Kind = ENetMiddle::Kind;
  ENetBottleneck(const ENetParams& p, int64_t in, int64_t out, const ENetMiddle& middle,
                 double drop_rate, bool decoder)
      : kind_(middle.kind), in_(in), out_(out) {
    const int64_t width = in / kENetReduction;
    const auto push = [&](const std::shared_ptr<Layer>& layer, int64_t channels) {
      branch_->push_back(layer);
      if (channels == 0) return;
      branch_->push_back(p.norm_cfg.build(channels));
      branch_->push_back(enet_act(channels, decoder));
    };
    branch_ = std::make_shared<Sequential>();
    if (kind_ == Kind::kDown) {
      push(std::make_shared<Lambda>(padded_to_even), 0);
      push(std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                .out_channels = width,
                                                .kernel_size = 2,
                                                .stride = 2,
                                                .bias = false}),
           width);
    } else {
      push(enet_conv(in, width, 1), width);
    }
    if (kind_ == Kind::kAsymmetric) {
      push(enet_conv(width, width, {5, 1}), 0);
      push(enet_conv(width, width, {1, 5}), width);
    } else if (kind_ == Kind::kUp) {
      push(std::make_shared<ConvTranspose2d>(width, width, /*kernel_size=*/3, /*stride=*/2,
                                             /*padding=*/1, /*output_padding=*/1, /*bias=*/false),
           width);
    } else {
      push(enet_conv(width, width, 3, 1, middle.dilation), width);
    }
    branch_->push_back(enet_conv(width, out, 1));
    branch_->push_back(p.norm_cfg.build(out));
    branch_->push_back(std::make_shared<Dropout2d>(drop_rate));
    register_module("branch", branch_);
    if (kind_ == Kind::kUp) {
      shortcut_ = register_module(
          "shortcut", std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
                          enet_conv(in, out, 1), p.norm_cfg.build(out)}));
    }
    act_ = register_module("act", enet_act(out, decoder));
  }

  /// Of one size.
  torch::Tensor forward(const torch::Tensor& x) { return act_->forward(branch_->forward(x) + x); }
  /// Halves the map. \return it, and where the maxima were that it took of x.
  PlacedMaxima down(const torch::Tensor& x) {
    auto pooled = pool_with_places(x);
    const auto zeros = pooled.values.new_zeros(
        {x.size(0), out_ - in_, pooled.values.size(2), pooled.values.size(3)});
    pooled.values = act_->forward(branch_->forward(x) + at::cat({pooled.values, zeros}, 1));
    return pooled;
  }
  /// Doubles the map to a size, with the places of the stage that halved it.
  torch::Tensor up(const torch::Tensor& x, const torch::Tensor& places, Size2 size) {
    const auto main = unpool(shortcut_->forward(x), places, size);
    const auto extra = branch_->forward(x).slice(2, 0, size.h).slice(3, 0, size.w);
    return act_->forward(main + extra);
  }

 private:
  Kind kind_;
  int64_t in_, out_;
  std::shared_ptr<Sequential> branch_;
  std::shared_ptr<Sequential> shortcut_;  ///< of the kind that enlarges
  std::shared_ptr<Activation> act_;
};

}  // namespace

/// Narrow bottlenecks at an eighth of the image's size and a small decoder. Its one map is at half
/// the size; a transposed convolution classifies it (ClassifierHead).
///
/// The last activation of the original's decoder is ReLU, all of its encoder are PReLU.
class ENet final : public Backbone {
 public:
  using Params = ENetParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("A small network of bottlenecks for fast segmentation.")
        .source("Paszke et al. 2016, arXiv:1606.02147")
        .optional("in_channels", &P::in_channels, "bands of the images", in_range(1, kENetStem - 1))
        .optional("first_drop_rate", &P::first_drop_rate,
                  "probability of a channel to be dropped in the first stage", in_range(0, 1))
        .optional("drop_rate", &P::drop_rate, "the same in all others", in_range(0, 1))
        .optional("norm_cfg", &P::norm_cfg, "type of the norms")
        .optional("init_cfg", &P::init_cfg, "initialisation");
  }

  explicit ENet(const Params& p) : Backbone(p.init_cfg) {
    using Kind = ENetMiddle::Kind;
    initial_ = register_module("initial", std::make_shared<ENetInitial>(p));
    down1_ = add("down1", p, kENetStem, 64, {.kind = Kind::kDown}, p.first_drop_rate);
    for (int i = 1; i <= 4; ++i) {
      stage1_.push_back(add(text("regular1_", i), p, 64, 64, {}, p.first_drop_rate));
    }
    down2_ = add("down2", p, 64, 128, {.kind = Kind::kDown}, p.drop_rate);
    const std::vector<ENetMiddle> middles{
        {}, {.dilation = 2}, {.kind = Kind::kAsymmetric}, {.dilation = 4},
        {}, {.dilation = 8}, {.kind = Kind::kAsymmetric}, {.dilation = 16}};
    for (const int stage : {2, 3}) {
      for (size_t i = 0; i < middles.size(); ++i) {
        stages23_.push_back(
            add(text("stage", stage, "_", i + 1), p, 128, 128, middles[i], p.drop_rate));
      }
    }
    up4_ = add("up4", p, 128, 64, {.kind = Kind::kUp}, p.drop_rate, /*decoder=*/true);
    for (int i = 1; i <= 2; ++i) {
      stage4_.push_back(add(text("regular4_", i), p, 64, 64, {}, p.drop_rate, /*decoder=*/true));
    }
    up5_ = add("up5", p, 64, kENetStem, {.kind = Kind::kUp}, p.drop_rate, /*decoder=*/true);
    last_ = add("regular5_1", p, kENetStem, kENetStem, {}, p.drop_rate, /*decoder=*/true);
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const auto half = initial_->forward(images);
    const auto quarter = down1_->down(half);
    auto x = quarter.values;
    for (const auto& block : stage1_) x = forward_block(*block, x);
    const Size2 quarter_size = map_size(x);
    const auto eighth = down2_->down(x);
    x = eighth.values;
    for (const auto& block : stages23_) x = forward_block(*block, x);
    x = up4_->up(x, eighth.places, quarter_size);
    for (const auto& block : stage4_) x = forward_block(*block, x);
    x = up5_->up(x, quarter.places, map_size(half));
    return {forward_block(*last_, x)};
  }
  std::vector<FeatureInfo> features() const override {
    return {{.channels = kENetStem, .stride = 2}};
  }

 private:
  std::shared_ptr<ENetBottleneck> add(const std::string& name, const ENetParams& p, int64_t in,
                                      int64_t out, const ENetMiddle& middle, double drop_rate,
                                      bool decoder = false) {
    return register_module(
        name, std::make_shared<ENetBottleneck>(p, in, out, middle, drop_rate, decoder));
  }

  std::shared_ptr<ENetInitial> initial_;
  std::shared_ptr<ENetBottleneck> down1_, down2_, up4_, up5_, last_;
  std::vector<std::shared_ptr<ENetBottleneck>> stage1_, stages23_, stage4_;
};
SEG_REGISTER(Backbone, ENet);

}  // namespace seg
