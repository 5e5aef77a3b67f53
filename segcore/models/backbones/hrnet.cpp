#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/backbones/resnet.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// One of the four stages.
struct HRNetStage {
  int64_t num_modules = 1;
  int64_t num_branches = 1;
  std::string block = "BASIC";
  std::vector<int64_t> num_blocks;
  std::vector<int64_t> num_channels;

  int64_t expansion() const { return block == "BASIC" ? 1 : 4; }
  /// Width of a branch's map.
  int64_t width(size_t branch) const { return num_channels[branch] * expansion(); }

  static Schema<HRNetStage> schema() {
    return Schema<HRNetStage>("A stage.")
        .required("num_modules", &HRNetStage::num_modules, "exchanges between the branches",
                  at_least(1))
        .required("num_branches", &HRNetStage::num_branches, "resolutions", at_least(1))
        .required("block", &HRNetStage::block, "type of the residual blocks",
                  one_of({"BASIC", "BOTTLENECK"}))
        .required("num_blocks", &HRNetStage::num_blocks, "blocks of each branch in a module",
                  at_least(1))
        .required("num_channels", &HRNetStage::num_channels, "width of each branch", at_least(1))
        .validate([](const HRNetStage& s, Problems& problems) {
          const auto branches = static_cast<size_t>(s.num_branches);
          if (s.num_blocks.size() != branches) {
            problems.error("num_blocks", text("needs ", branches, " values (num_branches), got ",
                                              s.num_blocks.size()));
          }
          if (s.num_channels.size() != branches) {
            problems.error("num_channels", text("needs ", branches, " values (num_branches), got ",
                                                s.num_channels.size()));
          }
        });
  }
};

struct HRNetExtra {
  HRNetStage stage1, stage2, stage3, stage4;
  static Schema<HRNetExtra> schema() {
    return Schema<HRNetExtra>("The stages.")
        .required("stage1", &HRNetExtra::stage1, "one resolution")
        .required("stage2", &HRNetExtra::stage2, "two resolutions")
        .required("stage3", &HRNetExtra::stage3, "three resolutions")
        .required("stage4", &HRNetExtra::stage4, "four resolutions");
  }
};

struct HRNetParams {
  HRNetExtra extra;
  int64_t in_channels = 3;
  ConvCfg conv_cfg;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: BN, requires_grad: true}");
  bool norm_eval = false;
  bool with_cp = false;
  int64_t frozen_stages = -1;
  bool multiscale_output = true;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

namespace {

using HRMaps = std::vector<torch::Tensor>;

/// Convolution without bias, norm and, where wanted, ReLU: children "0", "1", "2".
std::shared_ptr<Sequential> hrnet_conv(const HRNetParams& p, int64_t in, int64_t out,
                                       int64_t kernel_size, int64_t stride, bool relu) {
  auto row = std::make_shared<Sequential>();
  row->push_back(build_conv(p.conv_cfg, {.in_channels = in,
                                         .out_channels = out,
                                         .kernel_size = kernel_size,
                                         .stride = stride,
                                         .padding = kernel_size / 2,
                                         .bias = false}));
  row->push_back(p.norm_cfg.build(out));
  if (relu) {
    row->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); }));
  }
  return row;
}

std::shared_ptr<Sequential> hrnet_blocks(const HRNetParams& p, const std::string& block, int64_t in,
                                         int64_t planes, int64_t count) {
  auto row = std::make_shared<Sequential>();
  const int64_t out = planes * (block == "BASIC" ? 1 : 4);
  ResBlockOptions o{.in_channels = in,
                    .planes = planes,
                    .with_cp = p.with_cp,
                    .conv_cfg = p.conv_cfg,
                    .norm_cfg = p.norm_cfg};
  for (int64_t i = 0; i < count; ++i) {
    o.downsample = o.in_channels != out;
    if (block == "BASIC") {
      row->push_back(std::make_shared<ResBasicBlock>(o));
    } else {
      row->push_back(std::make_shared<ResBottleneck>(o));
    }
    o.in_channels = out;
  }
  return row;
}

/// A module list with gaps, for children that Python keeps as None.
class HRSparseList final : public BaseModule {
 public:
  void add(size_t index, std::shared_ptr<Layer> layer) {
    if (layer) register_module(std::to_string(index), layer);
    layers_.push_back(std::move(layer));
  }
  Layer* operator[](size_t i) const { return layers_.at(i).get(); }
  size_t size() const { return layers_.size(); }

 private:
  std::vector<std::shared_ptr<Layer>> layers_;
};

/// Residual blocks at each resolution, then an exchange: each map receives all others, resized.
class HRModule final : public BaseModule {
 public:
  HRModule(const HRNetParams& p, const HRNetStage& s, bool all_outputs) {
    const auto branches = static_cast<size_t>(s.num_branches);
    branches_ = register_module("branches", std::make_shared<ListOf<Sequential>>());
    for (size_t i = 0; i < branches; ++i) {
      branches_->push_back(
          hrnet_blocks(p, s.block, s.width(i), s.num_channels[i], s.num_blocks[i]));
    }
    if (branches == 1) return;
    fuse_layers_ = register_module("fuse_layers", std::make_shared<ListOf<HRSparseList>>());
    for (size_t i = 0; i < (all_outputs ? branches : 1); ++i) {
      auto row = std::make_shared<HRSparseList>();
      for (size_t j = 0; j < branches; ++j) row->add(j, exchange(p, s, j, i));
      fuse_layers_->push_back(row);
    }
  }

  HRMaps forward(HRMaps x) {
    for (size_t i = 0; i < x.size(); ++i) x[i] = (*branches_)[i].forward(x[i]);
    if (!fuse_layers_) return x;
    HRMaps out;
    for (size_t i = 0; i < fuse_layers_->size(); ++i) {
      const HRSparseList& row = (*fuse_layers_)[i];
      torch::Tensor sum;
      for (size_t j = 0; j < x.size(); ++j) {
        auto part = row[j] ? row[j]->forward(x[j]) : x[j];
        if (j > i) part = resize(part, map_size(x[i]));
        sum = sum.defined() ? sum + part : part;
      }
      out.push_back(sum.relu());
    }
    return out;
  }

 private:
  static std::shared_ptr<Layer> exchange(const HRNetParams& p, const HRNetStage& s, size_t from,
                                         size_t to) {
    if (from == to) return nullptr;
    const int64_t in = s.width(from), out = s.width(to);
    if (from > to) {
      auto row = hrnet_conv(p, in, out, 1, 1, false);
      const auto factor = static_cast<double>(int64_t{1} << (from - to));
      row->push_back(std::make_shared<Lambda>(
          [factor](const torch::Tensor& x) { return resize_by(x, factor); }));
      return row;
    }
    auto row = std::make_shared<Sequential>();
    for (size_t k = from; k < to; ++k) {
      const bool last = k + 1 == to;
      row->push_back(hrnet_conv(p, in, last ? out : in, 3, 2, !last));
    }
    return row;
  }

  std::shared_ptr<ListOf<Sequential>> branches_;
  std::shared_ptr<ListOf<HRSparseList>> fuse_layers_;  ///< null for one branch
};

}  // namespace

/// Keeps a map of high resolution through the whole network, beside coarser ones.
class HRNet final : public Backbone {
 public:
  using Params = HRNetParams;
  static Schema<Params> schema() {
    return Schema<Params>("Parallel branches of several resolutions that exchange maps.")
        .source("Wang et al. 2019, arXiv:1908.07919")
        .required("extra", &Params::extra, "the four stages")
        .optional("in_channels", &Params::in_channels, "bands of the images", at_least(1))
        .optional("conv_cfg", &Params::conv_cfg, "type of the convolutions")
        .optional("norm_cfg", &Params::norm_cfg, "type of the norms")
        .optional("norm_eval", &Params::norm_eval, "batch norms keep their running statistics")
        .optional("with_cp", &Params::with_cp,
                  "recompute blocks in the backward pass to save memory")
        .optional("frozen_stages", &Params::frozen_stages,
                  "stages to freeze, with the stem; 0: only the stem; -1: nothing", in_range(-1, 4))
        .accepted("zero_init_residual",
                  "has no effect, as in MMSegmentation, whose condition for it is never true")
        .optional("multiscale_output", &Params::multiscale_output,
                  "return the maps of all resolutions, not only the finest")
        .optional("pretrained", &Params::pretrained,
                  "checkpoint to start from; older form of init_cfg")
        .optional("init_cfg", &Params::init_cfg, "initialisation")
        .validate([](const Params& p, Problems& problems) {
          if (p.pretrained && p.init_cfg) {
            problems.error("pretrained", "cannot be combined with init_cfg");
          }
          const auto& e = p.extra;
          if (e.stage2.num_branches > e.stage3.num_branches ||
              e.stage3.num_branches > e.stage4.num_branches) {
            problems.error("extra", "a stage has fewer branches than the one before");
          }
        });
  }

  explicit HRNet(const Params& p) : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)), p_(p) {
    const auto stem = [&](int64_t in) {
      return build_conv(p.conv_cfg, {.in_channels = in,
                                     .out_channels = 64,
                                     .kernel_size = 3,
                                     .stride = 2,
                                     .padding = 1,
                                     .bias = false});
    };
    conv1_ = register_module("conv1", stem(p.in_channels));
    norm1_ = register_norm(*this, p.norm_cfg, 64, "1");
    conv2_ = register_module("conv2", stem(64));
    norm2_ = register_norm(*this, p.norm_cfg, 64, "2");
    const HRNetStage& first = p.extra.stage1;
    layer1_ = register_module(
        "layer1", hrnet_blocks(p, first.block, 64, first.num_channels[0], first.num_blocks[0]));
    std::vector<int64_t> widths{first.width(0)};
    const HRNetStage* stages[] = {&p.extra.stage2, &p.extra.stage3, &p.extra.stage4};
    for (size_t k = 0; k < 3; ++k) {
      const HRNetStage& s = *stages[k];
      auto transition = std::make_shared<HRSparseList>();
      for (size_t i = 0; i < static_cast<size_t>(s.num_branches); ++i) {
        transition->add(i, make_transition(widths, i, s.width(i)));
      }
      transitions_.push_back(register_module(text("transition", k + 1), transition));
      auto modules = std::make_shared<ListOf<HRModule>>();
      for (int64_t m = 0; m < s.num_modules; ++m) {
        const bool all = k < 2 || m < s.num_modules - 1 || p.multiscale_output;
        modules->push_back(std::make_shared<HRModule>(p, s, all));
      }
      stages_.push_back(register_module(text("stage", k + 2), modules));
      widths.clear();
      for (size_t i = 0; i < static_cast<size_t>(s.num_branches); ++i) widths.push_back(s.width(i));
    }
    for (size_t i = 0; i < (p.multiscale_output ? widths.size() : 1); ++i) {
      features_.push_back({.channels = widths[i], .stride = int64_t{4} << i});
    }
    freeze_stages();
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    auto x = norm1_->forward(conv1_->forward(images)).relu_();
    x = norm2_->forward(conv2_->forward(x)).relu_();
    HRMaps maps{layer1_->forward(x)};
    for (size_t k = 0; k < stages_.size(); ++k) {
      const HRSparseList& transition = *transitions_[k];
      HRMaps next;
      for (size_t i = 0; i < transition.size(); ++i) {
        const auto& source = i < maps.size() ? maps[i] : maps.back();
        next.push_back(transition[i] ? transition[i]->forward(source) : source);
      }
      maps = std::move(next);
      for (const auto& module : *stages_[k]) maps = module->forward(std::move(maps));
    }
    return maps;
  }

  void train(bool on = true) override {
    Backbone::train(on);
    freeze_stages();
    if (on && p_.norm_eval) freeze_batch_norms(*this);
  }

 private:
  /// From the maps of the stage before to branch `i`; null if nothing changes.
  std::shared_ptr<Layer> make_transition(const std::vector<int64_t>& from, size_t i,
                                         int64_t width) const {
    if (i < from.size()) {
      if (from[i] == width) return nullptr;
      return hrnet_conv(p_, from[i], width, 3, 1, true);
    }
    auto row = std::make_shared<Sequential>();
    for (size_t j = from.size(); j <= i; ++j) {
      row->push_back(hrnet_conv(p_, from.back(), j == i ? width : from.back(), 3, 2, true));
    }
    return row;
  }

  void freeze_stages() {
    if (p_.frozen_stages < 0) return;
    std::vector<torch::nn::Module*> frozen{conv1_.get(), norm1_.get(), conv2_.get(), norm2_.get()};
    for (int64_t i = 1; i <= p_.frozen_stages; ++i) {
      frozen.push_back(i == 1 ? static_cast<torch::nn::Module*>(layer1_.get())
                              : stages_[static_cast<size_t>(i - 2)].get());
      if (i < 4) frozen.push_back(transitions_[static_cast<size_t>(i - 1)].get());
    }
    for (auto* module : frozen) freeze_module(*module);
  }

  Params p_;
  std::shared_ptr<Conv2d> conv1_, conv2_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Sequential> layer1_;
  std::vector<std::shared_ptr<HRSparseList>> transitions_;
  std::vector<std::shared_ptr<ListOf<HRModule>>> stages_;
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, HRNet);

}  // namespace seg
