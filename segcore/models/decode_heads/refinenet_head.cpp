#include "segcore/models/decode_head.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct RefineNetHeadParams : DecodeHeadParams {
  RefineNetHeadParams() {
    channels = 256;
    dropout_ratio = 0.5;
    align_corners = true;
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{0, 1, 2, 3};
  }
  int64_t coarsest_channels = 512;
};

namespace {

std::shared_ptr<Conv2d> refine_conv(int64_t in, int64_t out, bool bias = false) {
  return std::make_shared<Conv2d>(ConvOptions{
      .in_channels = in, .out_channels = out, .kernel_size = 3, .padding = 1, .bias = bias});
}

/// Residual blocks without norms: children "0_0", "0_1", "1_0", ... of block and convolution.
class ResidualConvUnits final : public Layer {
 public:
  ResidualConvUnits(int64_t channels, int64_t blocks) {
    for (int64_t b = 0; b < blocks; ++b) {
      for (int64_t c = 0; c < kConvs; ++c) {
        convs_.push_back(
            register_module(text(b, "_", c), refine_conv(channels, channels, /*bias=*/c == 0)));
      }
    }
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    auto out = x;
    for (size_t i = 0; i < convs_.size(); i += kConvs) {
      auto branch = out;
      for (size_t c = 0; c < kConvs; ++c) branch = convs_[i + c]->forward(branch.relu());
      out = out + branch;
    }
    return out;
  }

 private:
  static constexpr int64_t kConvs = 2;
  std::vector<std::shared_ptr<Conv2d>> convs_;
};

/// Pools over ever larger windows, convolves each result and adds all to the map.
class ChainedResidualPooling final : public Layer {
 public:
  ChainedResidualPooling(int64_t channels, int64_t stages) {
    for (int64_t i = 0; i < stages; ++i) {
      convs_.push_back(register_module(text(i), refine_conv(channels, channels)));
    }
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    auto out = x, path = x;
    for (const auto& conv : convs_) {
      path = conv->forward(at::max_pool2d(path, /*kernel_size=*/5, /*stride=*/1, /*padding=*/2));
      out = out + path;
    }
    return out;
  }

 private:
  std::vector<std::shared_ptr<Conv2d>> convs_;
};

/// One of the four blocks: adapts the backbone's map, adds what comes from the coarser block,
/// pools, convolves.
class RefineBlock final : public BaseModule {
 public:
  RefineBlock(int64_t in, int64_t channels, int64_t coarser, int64_t out) {
    reduce_ = register_module("reduce", refine_conv(in, channels));
    adapt_ = register_module("adapt", std::make_shared<ResidualConvUnits>(channels, 2));
    // The coarsest block has one input: nothing to fuse.
    if (coarser > 0) fuse_ = register_module("fuse", refine_conv(channels, channels));
    pool_ = register_module("pool", std::make_shared<ChainedResidualPooling>(channels, 4));
    output_ = register_module("output", std::make_shared<ResidualConvUnits>(channels, 3));
    // What the finer block adds has that block's width.
    if (out > 0) next_ = register_module("next", refine_conv(channels, out));
  }
  /// \param coarser  of the block before, at its size; undefined for the coarsest.
  torch::Tensor forward(const torch::Tensor& map, const torch::Tensor& coarser,
                        bool align_corners) {
    auto x = adapt_->forward(reduce_->forward(map));
    if (coarser.defined()) {
      x = fuse_->forward(x) + resize(coarser, map_size(x), align_corners);
    }
    x = output_->forward(pool_->forward(x.relu()));
    return next_ ? next_->forward(x) : x;
  }

 private:
  std::shared_ptr<Conv2d> reduce_, fuse_, next_;  ///< the last two may be null
  std::shared_ptr<ResidualConvUnits> adapt_, output_;
  std::shared_ptr<ChainedResidualPooling> pool_;
};

}  // namespace

/// Refines the coarsest map by ever finer ones, a block for each map of the backbone.
class RefineNetHead final : public DecodeHead {
 public:
  using Params = RefineNetHeadParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("RefineNet: residual units and chained pooling, from coarse to fine.")
        .source("Lin et al. 2016, arXiv:1611.06612")
        .include(DecodeHead::base_schema(/*channels_required=*/false))
        .optional("coarsest_channels", &P::coarsest_channels,
                  "width of the block of the coarsest map; that of the others is channels",
                  at_least(1))
        .validate([](const P& p, Problems& problems) {
          if (p.input_transform != "multiple_select") {
            problems.error("input_transform", "must be multiple_select: each block takes a map");
          }
        });
  }
  RefineNetHead(const Params& p, const std::vector<FeatureInfo>& maps) : DecodeHead(p, maps) {
    blocks_ = register_module("blocks", std::make_shared<ListOf<RefineBlock>>());
    for (size_t i = inputs().size(); i-- > 0;) {
      const bool coarsest = i + 1 == inputs().size();
      blocks_->push_back(std::make_shared<RefineBlock>(
          inputs()[i].channels, coarsest && i > 0 ? p.coarsest_channels : p.channels,
          coarsest ? 0 : p.channels, i > 0 ? p.channels : 0));
    }
    remove_conv_seg();
    conv_seg_ = register_module("conv_seg", refine_conv(p.channels, out_channels(), /*bias=*/true));
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(forward_feature(features));
  }
  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features) override {
    const auto maps = select(features);
    torch::Tensor x;
    for (size_t i = 0; i < maps.size(); ++i) {
      x = (*blocks_)[i].forward(maps[maps.size() - 1 - i], x, align_corners());
    }
    return x.relu();
  }

 private:
  std::shared_ptr<ListOf<RefineBlock>> blocks_;  ///< coarsest first
};
SEG_REGISTER(DecodeHead, RefineNetHead);

}  // namespace seg
