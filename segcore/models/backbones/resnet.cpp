#include "segcore/models/backbones/resnet.hpp"

#include <algorithm>
#include <utility>

#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

std::shared_ptr<Layer> resnet_relu() {
  return std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); });
}

std::shared_ptr<Conv2d> resnet_conv(const ConvCfg& cfg, int64_t in, int64_t out, int64_t kernel,
                                    int64_t stride, int64_t dilation, int64_t groups = 1) {
  return build_conv(cfg, {.in_channels = in,
                          .out_channels = out,
                          .kernel_size = kernel,
                          .stride = stride,
                          .padding = kernel / 2 * dilation,
                          .dilation = dilation,
                          .groups = groups,
                          .bias = false});
}

void check_dcn(const ResNetParams& p, Problems& problems) {
  const bool deforms = std::ranges::find(p.stage_with_dcn, true) != p.stage_with_dcn.end();
  if (!p.dcn) {
    if (deforms) problems.warn("stage_with_dcn", "has no effect without dcn");
    return;
  }
  if (p.depth < 50) {
    problems.error("dcn", text("fits only the blocks of depth 50 and more, not ", p.depth));
  }
  if (p.stage_with_dcn.size() != static_cast<size_t>(p.num_stages)) {
    problems.error("stage_with_dcn", text("has ", p.stage_with_dcn.size(),
                                          " values, but num_stages is ", p.num_stages));
  } else if (!deforms) {
    problems.warn("dcn", "has no effect: stage_with_dcn names no stage");
  } else if (p.conv_cfg) {
    problems.error("conv_cfg", "must be null with dcn");
  }
}

}  // namespace

std::vector<int64_t> resnet_blocks(int64_t depth) {
  switch (depth) {
    case 18:
      return {2, 2, 2, 2};
    case 34:
    case 50:
      return {3, 4, 6, 3};
    case 101:
      return {3, 4, 23, 3};
    case 152:
      return {3, 8, 36, 3};
    default:
      return {3, 24, 36, 3};
  }
}

// --- Blocks -------------------------------------------------------------------------------------

std::shared_ptr<Sequential> make_res_downsample(const ResBlockOptions& o, int64_t out_channels) {
  auto out = std::make_shared<Sequential>();
  const int64_t stride = o.stride;
  if (o.avg_down) {
    out->push_back(std::make_shared<Lambda>([stride](const torch::Tensor& x) {
      return at::avg_pool2d(x, stride, stride, /*padding=*/0, /*ceil_mode=*/true,
                            /*count_include_pad=*/false);
    }));
  }
  out->push_back(resnet_conv(o.conv_cfg, o.in_channels, out_channels, 1, o.avg_down ? 1 : stride,
                             /*dilation=*/1));
  out->push_back(o.norm_cfg.build(out_channels));
  return out;
}

ResBasicBlock::ResBasicBlock(const ResBlockOptions& o)
    : with_cp_(o.with_cp), zero_init_(o.zero_init) {
  conv1_ = register_module(
      "conv1", resnet_conv(o.conv_cfg, o.in_channels, o.planes, 3, o.stride, o.dilation));
  norm1_ = register_norm(*this, o.norm_cfg, o.planes, "1");
  conv2_ = register_module("conv2",
                           resnet_conv(o.conv_cfg, o.planes, o.planes, 3, 1, o.second_dilation));
  norm2_ = register_norm(*this, o.norm_cfg, o.planes, "2");
  if (o.downsample) {
    downsample_ = register_module("downsample", make_res_downsample(o, o.planes));
  }
}

torch::Tensor ResBasicBlock::forward(const torch::Tensor& x) {
  const auto body = [this](const torch::Tensor& in) {
    const auto out = norm1_->forward_relu(conv1_->forward(in));
    return norm2_->forward_relu(conv2_->forward(out), downsample_ ? downsample_->forward(in) : in);
  };
  return run_block(with_cp_, body, x);
}

void ResBasicBlock::init_weights() {
  Layer::init_weights();
  if (zero_init_) constant_init(*norm2_, 0);
}

ResBottleneck::ResBottleneck(const ResBlockOptions& o, const Middle& middle)
    : with_cp_(o.with_cp), zero_init_(o.zero_init) {
  const int64_t width = middle.width ? middle.width : o.planes, out = o.planes * kExpansion;
  const bool first_strides = o.style == "caffe";
  conv1_ = register_module(
      "conv1", resnet_conv(o.conv_cfg, o.in_channels, width, 1, first_strides ? o.stride : 1, 1));
  norm1_ = register_norm(*this, o.norm_cfg, width, "1");
  if (middle.layer) {
    conv2_ = register_module("conv2", middle.layer);
  } else {
    conv2_ = register_module(
        "conv2", resnet_conv(o.middle_cfg(), width, width, 3, first_strides ? 1 : o.stride,
                             o.dilation, middle.groups));
    norm2_ = register_norm(*this, o.norm_cfg, width, "2");
  }
  conv3_ = register_module("conv3", resnet_conv(o.conv_cfg, width, out, 1, 1, 1));
  norm3_ = register_norm(*this, o.norm_cfg, out, "3");
  if (o.downsample) downsample_ = register_module("downsample", make_res_downsample(o, out));
  const std::array<const char*, 3> positions{"after_conv1", "after_conv2", "after_conv3"};
  for (size_t i = 0; i < positions.size(); ++i) {
    for (const PluginEntry& entry : o.plugins) {
      if (entry.position != positions[i]) continue;
      auto plugin = entry.cfg.build(i < 2 ? o.planes : out);
      const std::string name = plugin->child_name();
      if (named_children().contains(name)) {
        throw OptionError("plugins", text("two plugins of a block have the name '", name,
                                          "': give them a postfix"));
      }
      plugins_[i].push_back(register_module(name, plugin));
    }
  }
}

torch::Tensor ResBottleneck::run(const Plugins& plugins, const torch::Tensor& x) {
  // Each is given the same map and the last one's is taken, as in MMSegmentation.
  torch::Tensor out = x;
  for (const auto& plugin : plugins) out = plugin->forward(x);
  return out;
}

torch::Tensor ResBottleneck::forward(const torch::Tensor& x) {
  const auto body = [this](const torch::Tensor& in) {
    auto out = run(plugins_[0], norm1_->forward_relu(conv1_->forward(in)));
    out = conv2_->forward(out);
    out = run(plugins_[1], norm2_ ? norm2_->forward_relu(out) : out);
    const auto shortcut = downsample_ ? downsample_->forward(in) : in;
    if (plugins_[2].empty()) return norm3_->forward_relu(conv3_->forward(out), shortcut);
    return (run(plugins_[2], norm3_->forward(conv3_->forward(out))) + shortcut).relu_();
  };
  return run_block(with_cp_, body, x);
}

void ResBottleneck::init_weights() {
  Layer::init_weights();
  if (zero_init_) constant_init(*norm3_, 0);
}

// --- The network --------------------------------------------------------------------------------

Schema<DcnCfg> DcnCfg::schema() {
  using P = DcnCfg;
  return Schema<P>("Deformable convolutions.")
      .required("type", &P::type, "DCN, with offsets of taps; DCNv2, with factors, too",
                one_of({"DCN", "DCNv2"}))
      .optional("deform_groups", &P::deform_groups, "parts of the channels with offsets apart",
                at_least(1))
      .optional("fallback_on_stride", &P::fallback_on_stride,
                "the first block that would be deformable is plain; as in MMSegmentation, others "
                "that stride are not")
      .accepted("im2col_step", "has no effect: how many images mmcv's operator takes at a time");
}

ConvCfg DcnCfg::conv() const {
  return Spec<Conv2d>::of(text("{type: ", type, ", deform_groups: ", deform_groups, "}"));
}

Schema<ResNetParams> ResNetParams::schema(std::vector<int64_t> depths) {
  using P = ResNetParams;
  return Schema<P>("")
      .required("depth", &P::depth, text("layers: ", join(depths, ", ")))
      .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
      .optional("stem_channels", &P::stem_channels, "width of the stem", at_least(2))
      .optional("base_channels", &P::base_channels, "width of the first stage", at_least(1))
      .optional("num_stages", &P::num_stages, "stages built", in_range(1, 4))
      .optional("strides", &P::strides, "stride of the first block of each stage", at_least(1))
      .optional("dilations", &P::dilations, "dilation of each stage", at_least(1))
      .optional("out_indices", &P::out_indices, "stages whose maps are returned", in_range(0, 3))
      .optional("style", &P::style,
                "where a bottleneck strides: pytorch, its 3x3 convolution; caffe, its first",
                one_of({"pytorch", "caffe"}))
      .optional("frozen_stages", &P::frozen_stages,
                "stages to freeze, with the stem; 0: only the stem; -1: nothing", in_range(-1, 4))
      .optional("conv_cfg", &P::conv_cfg, "type of the convolutions")
      .optional("norm_cfg", &P::norm_cfg, "type of the norms")
      .optional("norm_eval", &P::norm_eval, "batch norms keep their running statistics")
      .optional("dcn", &P::dcn, "deformable convolutions in the place of 3x3 ones; null: none")
      .optional("stage_with_dcn", &P::stage_with_dcn, "stages with deformable convolutions")
      .optional("plugins", &P::plugins, "layers inside the blocks")
      .optional("multi_grid", &P::multi_grid, "dilation of each block of the last stage",
                at_least(1))
      .optional("contract_dilation", &P::contract_dilation,
                "the first block of a dilated stage has half its dilation")
      .optional("with_cp", &P::with_cp, "recompute blocks in the backward pass to save memory")
      .optional("zero_init_residual", &P::zero_init_residual,
                "the last norm of each block starts at zero")
      .optional("pretrained", &P::pretrained, "checkpoint to start from; older form of init_cfg")
      .optional("init_cfg", &P::init_cfg, "initialisation")
      .validate([depths](const P& p, Problems& problems) {
        const auto stages = static_cast<size_t>(p.num_stages);
        if (std::find(depths.begin(), depths.end(), p.depth) == depths.end()) {
          problems.error("depth", text("must be one of ", join(depths, ", "), ", got ", p.depth));
        }
        const auto one_each = [&](const char* option, size_t given) {
          if (given == stages) return;
          problems.error(option, text("has ", given, " values, but num_stages is ", stages));
        };
        one_each("strides", p.strides.size());
        one_each("dilations", p.dilations.size());
        for (const int64_t i : p.out_indices) {
          if (i >= p.num_stages) {
            problems.error("out_indices", text("names stage ", i, " of ", stages));
          }
        }
        if (p.frozen_stages > p.num_stages) {
          problems.error("frozen_stages", text("names ", p.frozen_stages, " stages of ", stages));
        }
        check_dcn(p, problems);
        if (p.plugins) {
          if (p.depth < 50 && !p.plugins->empty()) {
            problems.error("plugins",
                           text("fit only the blocks of depth 50 and more, not ", p.depth));
          }
          for (const PluginEntry& entry : *p.plugins) {
            if (entry.stages) one_each("plugins", entry.stages->size());
          }
        }
        if (p.pretrained && p.init_cfg) {
          problems.error("pretrained", "cannot be combined with init_cfg");
        }
      });
}

Schema<ResNet::Params> ResNet::schema() {
  return Schema<Params>("Residual network.")
      .source("He et al. 2015, arXiv:1512.03385")
      .include(ResNetParams::schema())
      .optional("deep_stem", &Params::deep_stem, "a stem of three 3x3 convolutions")
      .optional("avg_down", &Params::avg_down, "shortcuts that stride pool first");
}

ResNet::ResNet(const Params& p)
    : ResNet(p, resnet_blocks(p.depth), p.depth < 50 ? 1 : 4,
             [depth = p.depth](const ResBlockOptions& o) -> std::shared_ptr<Layer> {
               if (depth < 50) return std::make_shared<ResBasicBlock>(o);
               return std::make_shared<ResBottleneck>(o);
             }) {}

ResNet::ResNet(const Params& p, const std::vector<int64_t>& blocks, int64_t expansion,
               const BlockFactory& make_block)
    : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)), p_(p) {
  const bool own_recipe = !p.init_cfg && !p.pretrained;
  bool plain_next = p.dcn && p.dcn->fallback_on_stride;
  make_stem();
  int64_t width = p.stem_channels, stride = 4;
  for (int64_t i = 0; i < p.num_stages; ++i) {
    ResBlockOptions o{.in_channels = width,
                      .planes = p.base_channels << i,
                      .avg_down = p.avg_down,
                      .style = p.style,
                      .with_cp = p.with_cp,
                      .conv_cfg = p.conv_cfg,
                      .norm_cfg = p.norm_cfg,
                      .zero_init = own_recipe && p.zero_init_residual};
    for (const PluginEntry& entry : p.plugins.value_or(std::vector<PluginEntry>{})) {
      if (!entry.stages || (*entry.stages)[i]) o.plugins.push_back(entry);
    }
    const bool grid = p.multi_grid && i == p.num_stages - 1;
    if (grid && static_cast<int64_t>(p.multi_grid->size()) < blocks[i]) {
      throw OptionError("multi_grid",
                        text("has ", p.multi_grid->size(), " values, but the last stage has ",
                             blocks[i], " blocks"));
    }
    auto layer = std::make_shared<Sequential>();
    for (int64_t b = 0; b < blocks[i]; ++b) {
      o.stride = b == 0 ? p.strides[i] : 1;
      o.dilation = p.dilations[i];
      if (b == 0 && p.contract_dilation && o.dilation > 1) o.dilation /= 2;
      if (grid) o.dilation = (*p.multi_grid)[b];
      if (p.dcn && p.stage_with_dcn[i]) {
        o.dcn = std::exchange(plain_next, false) ? ConvCfg() : p.dcn->conv();
      }
      o.downsample = b == 0 && (o.stride != 1 || o.in_channels != o.planes * expansion);
      layer->push_back(make_block(o));
      o.in_channels = o.planes * expansion;
    }
    width = o.in_channels;
    stride *= p.strides[i];
    layers_.push_back(register_module(text("layer", i + 1), layer));
    stages_.push_back({.channels = width, .stride = stride});
    if (gives_stage(p.out_indices, i)) features_.push_back(stages_.back());
  }
  freeze_stages();
}

void ResNet::make_stem() {
  const ResBlockOptions o{.conv_cfg = p_.conv_cfg, .norm_cfg = p_.norm_cfg};
  if (p_.deep_stem) {
    const int64_t half = p_.stem_channels / 2;
    const std::array<std::array<int64_t, 3>, 3> steps{
        {{p_.in_channels, half, 2}, {half, half, 1}, {half, p_.stem_channels, 1}}};
    stem_ = std::make_shared<Sequential>();
    for (const auto& [in, out, stride] : steps) {
      stem_->push_back(resnet_conv(o.conv_cfg, in, out, 3, stride, 1));
      stem_->push_back(p_.norm_cfg.build(out));
      stem_->push_back(resnet_relu());
    }
    register_module("stem", stem_);
    return;
  }
  conv1_ =
      register_module("conv1", resnet_conv(o.conv_cfg, p_.in_channels, p_.stem_channels, 7, 2, 1));
  norm1_ = register_norm(*this, p_.norm_cfg, p_.stem_channels, "1");
}

std::vector<torch::Tensor> ResNet::forward(const torch::Tensor& images) {
  auto x = at::max_pool2d(forward_stem(images), /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
  std::vector<torch::Tensor> out;
  for (size_t i = 0; i < layers_.size(); ++i) {
    x = forward_stage(i, x);
    if (gives_stage(p_.out_indices, i)) out.push_back(x);
  }
  return out;
}

torch::Tensor ResNet::forward_stem(const torch::Tensor& images) {
  return stem_ ? stem_->forward(images) : norm1_->forward_relu(conv1_->forward(images));
}

torch::Tensor ResNet::forward_stage(size_t stage, const torch::Tensor& x) {
  return layers_.at(stage)->forward(x);
}

LayerOrder ResNet::layer_order() const {
  std::vector<StageNames> stages;
  for (size_t i = 0; i < layers_.size(); ++i) {
    stages.push_back({.embedding = {},
                      .blocks = text("layer", i + 1, "."),
                      .num_blocks = static_cast<int64_t>(layers_[i]->size())});
  }
  auto& stem = stages.front().embedding;
  if (stem_) {
    stem = {"stem."};
  } else {
    stem = {"conv1.", norm1_->abbreviation() + "1."};
  }
  return LayerOrder(std::move(stages));
}

void ResNet::freeze_stages() {
  if (p_.frozen_stages < 0) return;
  std::vector<torch::nn::Module*> frozen;
  if (stem_) {
    frozen.push_back(stem_.get());
  } else {
    frozen = {conv1_.get(), norm1_.get()};
  }
  for (int64_t i = 0; i < p_.frozen_stages; ++i) frozen.push_back(layers_[i].get());
  for (auto* module : frozen) freeze_module(*module);
}

void ResNet::train(bool on) {
  Backbone::train(on);
  freeze_stages();
  if (on && p_.norm_eval) freeze_batch_norms(*this);
}

SEG_REGISTER(Backbone, ResNet);

// --- Variants -----------------------------------------------------------------------------------

struct ResNetV1cParams : ResNetParams {
  ResNetV1cParams() { deep_stem = true; }
};

/// A ResNet whose stem is three 3x3 convolutions.
class ResNetV1c final : public ResNet {
 public:
  using Params = ResNetV1cParams;
  static Schema<Params> schema() {
    return Schema<Params>("Residual network with a stem of three convolutions.")
        .source("He et al. 2018, arXiv:1812.01187")
        .include(ResNetParams::schema());
  }
  explicit ResNetV1c(const Params& p) : ResNet(p) {}
};

struct ResNetV1dParams : ResNetParams {
  ResNetV1dParams() { deep_stem = avg_down = true; }
};

/// A ResNet whose stem is three 3x3 convolutions and whose shortcuts pool before they stride.
class ResNetV1d final : public ResNet {
 public:
  using Params = ResNetV1dParams;
  static Schema<Params> schema() {
    return Schema<Params>("Residual network with a stem of three convolutions, pooled shortcuts.")
        .source("He et al. 2018, arXiv:1812.01187")
        .include(ResNetParams::schema());
  }
  explicit ResNetV1d(const Params& p) : ResNet(p) {}
};

SEG_REGISTER(Backbone, ResNetV1c);
SEG_REGISTER(Backbone, ResNetV1d);

Schema<GroupedResNetParams> GroupedResNetParams::schema(std::vector<int64_t> depths) {
  using P = GroupedResNetParams;
  return Schema<P>("")
      .include(ResNetParams::schema(std::move(depths)))
      .optional("groups", &P::groups, "groups of the 3x3 convolutions", at_least(1))
      .optional("base_width", &P::base_width,
                "width of a group in a stage of base_channels; without effect for one group",
                at_least(1))
      .validate([](const P& p, Problems& problems) {
        if (p.dcn && p.dcn->fallback_on_stride) {
          problems.warn("dcn",
                        "fallback_on_stride has no effect: as in MMSegmentation, only ResNet "
                        "itself heeds it");
        }
        if (problems.given("zero_init_residual")) {
          problems.warn("zero_init_residual",
                        "has no effect: as in MMSegmentation, only ResNet's own blocks heed it");
        }
      });
}

ResNetParams GroupedResNetParams::heeded() const {
  ResNetParams out = *this;
  if (out.dcn) out.dcn->fallback_on_stride = false;
  return out;
}

ResBottleneck::Middle GroupedResNetParams::middle(const ResBlockOptions& o) const {
  if (groups == 1) return {.width = o.planes, .layer = {}};
  return {.width = o.planes * base_width / base_channels * groups, .groups = groups, .layer = {}};
}

}  // namespace seg
