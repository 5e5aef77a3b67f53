#include <algorithm>
#include <cmath>
#include <set>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/blocks/named_chain.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/ops/dcnv3/dcnv3.hpp"
#include "segcore/ops/linear/linear.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct InternImageParams {
  std::string core_op = "DCNv3";
  int64_t in_channels = 3;
  int64_t channels = 64;
  std::vector<int64_t> depths{3, 4, 18, 5};
  std::vector<int64_t> groups{3, 6, 12, 24};
  double mlp_ratio = 4;
  double drop_rate = 0;
  double drop_path_rate = 0.2;
  std::string drop_path_type = "linear";
  std::string act_layer = "GELU";
  std::string norm_layer = "LN";
  std::optional<double> layer_scale;
  double offset_scale = 1;
  bool post_norm = false;
  bool with_cp = false;
  std::optional<int64_t> dw_kernel_size;
  bool level2_post_norm = false;
  std::optional<std::vector<int64_t>> level2_post_norm_block_ids;
  bool res_post_norm = false;
  bool center_feature_scale = false;
  std::vector<int64_t> out_indices{0, 1, 2, 3};
  int64_t frozen_stages = -1;
  InitCfg init_cfg;

  int64_t width(size_t level) const { return channels << level; }
  /// Blocks of the third level that a norm follows.
  std::vector<int64_t> normed_blocks(size_t level) const {
    if (level != 2 || !level2_post_norm || !level2_post_norm_block_ids) return {};
    return *level2_post_norm_block_ids;
  }
  /// Stochastic depth of each block.
  std::vector<double> drop_path_rates_of_blocks() const;
};

std::vector<double> InternImageParams::drop_path_rates_of_blocks() const {
  int64_t blocks = 0;
  for (const int64_t depth : depths) blocks += depth;
  if (drop_path_type == "uniform") {
    return std::vector<double>(static_cast<size_t>(blocks), drop_path_rate);
  }
  return drop_path_rates(drop_path_rate, blocks);
}

namespace {

std::shared_ptr<Layer> intern_permuted(std::vector<int64_t> order) {
  return std::make_shared<Lambda>(
      [order = std::move(order)](const torch::Tensor& x) { return x.permute(order); });
}
std::shared_ptr<Layer> to_channels_first() { return intern_permuted({0, 3, 1, 2}); }
std::shared_ptr<Layer> to_channels_last() { return intern_permuted({0, 2, 3, 1}); }

/// A norm among the layers that permute maps for it, which count in the names of its tensors.
std::shared_ptr<Sequential> intern_norm(int64_t channels, const std::string& type, bool from_first,
                                        bool to_first) {
  const bool batch = type == "BN";
  auto out = std::make_shared<Sequential>();
  if (batch && !from_first) out->push_back(to_channels_first());
  if (!batch && from_first) out->push_back(to_channels_last());
  out->push_back(batch ? Spec<Norm>::of("{type: BN}").build(channels)
                       : Spec<Norm>::of("{type: LN, eps: 1.0e-6}").build(channels));
  if (batch && !to_first) out->push_back(to_channels_last());
  if (!batch && to_first) out->push_back(to_channels_first());
  return out;
}

/// A layer norm of maps whose channels come last.
std::shared_ptr<Sequential> intern_layer_norm(int64_t channels) {
  return intern_norm(channels, "LN", false, false);
}

std::shared_ptr<Activation> intern_act(const InternImageParams& p) {
  return Spec<Activation>::of("{type: " + p.act_layer + "}").build(false);
}

std::shared_ptr<Conv2d> halving_conv(int64_t in, int64_t out, bool bias) {
  return std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                              .out_channels = out,
                                              .kernel_size = 3,
                                              .stride = 2,
                                              .padding = 1,
                                              .bias = bias});
}

/// Offsets and factors of taps from a depthwise convolution, then the operator between two layers
/// over channels: children `dw_conv`, `offset`, `mask`, `input_proj`, `output_proj`. Maps are
/// [N, H, W, C].
class DeformedMap final : public Layer {
 public:
  DeformedMap(const InternImageParams& p, int64_t channels, int64_t groups)
      : window_{.groups = groups, .offset_scale = p.offset_scale} {
    const int64_t kernel = p.dw_kernel_size.value_or(3), taps = groups * 9;
    if (p.center_feature_scale) {
      center_weight_ =
          register_parameter("center_feature_scale_proj_weight", torch::zeros({groups, channels}));
      center_bias_ = register_parameter("center_feature_scale_proj_bias", torch::zeros({groups}));
    }
    dw_conv_ = register_module("dw_conv", std::make_shared<Sequential>());
    dw_conv_->push_back(std::make_shared<Conv2d>(ConvOptions{.in_channels = channels,
                                                             .out_channels = channels,
                                                             .kernel_size = kernel,
                                                             .padding = kernel / 2,
                                                             .groups = channels}));
    dw_conv_->push_back(intern_norm(channels, p.norm_layer, true, false));
    dw_conv_->push_back(intern_act(p));
    const auto linear = [this](const char* name, int64_t in, int64_t out) {
      return register_module(name, std::make_shared<Linear>(in, out));
    };
    offset_ = linear("offset", channels, 2 * taps);
    mask_ = linear("mask", channels, taps);
    input_proj_ = linear("input_proj", channels, channels);
    output_proj_ = linear("output_proj", channels, channels);
  }

  torch::Tensor forward(const torch::Tensor& x) override {
    const auto values = input_proj_->forward(x);
    const auto seen = dw_conv_->forward(x.permute({0, 3, 1, 2}));  // [N, H, W, C]
    const auto factors =
        mask_->forward(seen).unflatten(-1, {window_.groups, -1}).softmax(-1).flatten(-2);
    auto out = dcnv3(values, offset_->forward(seen), factors, window_);
    if (center_weight_.defined()) {
      // How much of a group stays as it was.
      const auto stays = linear_rows(seen, center_weight_, center_bias_)
                             .sigmoid()
                             .repeat_interleave(x.size(3) / window_.groups, -1);
      out = out * (1 - stays) + values * stays;
    }
    return output_proj_->forward(out);
  }

  /// Begins as the mean of 3x3 pixels.
  void init_weights() override {
    constant_init(*offset_, 0);
    constant_init(*mask_, 0);
    xavier_init(*input_proj_, 1, 0, /*uniform_distribution=*/true);
    xavier_init(*output_proj_, 1, 0, /*uniform_distribution=*/true);
  }

 private:
  Dcnv3Window window_;
  torch::Tensor center_weight_, center_bias_;  ///< undefined without center_feature_scale
  std::shared_ptr<Sequential> dw_conv_;
  std::shared_ptr<Linear> offset_, mask_, input_proj_, output_proj_;
};

/// The operator and two layers over channels, each a residual branch: children `norm1`, `dcn`,
/// `drop_path`, `norm2`, `mlp`, `res_post_norm1`, `res_post_norm2`, parameters `gamma1`, `gamma2`.
class InternImageLayer final : public Layer {
 public:
  InternImageLayer(const InternImageParams& p, int64_t channels, int64_t groups, double drop_path)
      : post_norm_(p.post_norm), with_cp_(p.with_cp) {
    if (p.layer_scale) {
      gamma1_ = register_parameter("gamma1", torch::full({channels}, *p.layer_scale));
      gamma2_ = register_parameter("gamma2", torch::full({channels}, *p.layer_scale));
    }
    norm1_ = register_module("norm1", intern_layer_norm(channels));
    dcn_ = register_module("dcn", std::make_shared<DeformedMap>(p, channels, groups));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
    norm2_ = register_module("norm2", intern_layer_norm(channels));
    const auto inner = static_cast<int64_t>(static_cast<double>(channels) * p.mlp_ratio);
    mlp_ = register_module("mlp", std::make_shared<NamedChain>());
    const auto drop = std::make_shared<Dropout>(p.drop_rate);
    mlp_->add("fc1", std::make_shared<Linear>(channels, inner));
    mlp_->add("act", intern_act(p));
    mlp_->add("drop", drop);
    mlp_->add("fc2", std::make_shared<Linear>(inner, channels));
    mlp_->then([drop](const torch::Tensor& x) { return drop->forward(x); });
    if (p.res_post_norm) {
      res_norm1_ = register_module("res_post_norm1", intern_layer_norm(channels));
      res_norm2_ = register_module("res_post_norm2", intern_layer_norm(channels));
    }
  }

  torch::Tensor forward(const torch::Tensor& in) override {
    const auto block = [this](const torch::Tensor& x) {
      const auto y = x + drop_path_->forward(branch(*dcn_, *norm1_, res_norm1_, gamma1_, x));
      return y + drop_path_->forward(branch(*mlp_, *norm2_, res_norm2_, gamma2_, y));
    };
    return run_block(with_cp_, block, in);
  }

 private:
  torch::Tensor branch(Layer& layer, Layer& norm, const std::shared_ptr<Sequential>& res_norm,
                       const torch::Tensor& gamma, const torch::Tensor& x) const {
    auto out = post_norm_ ? norm.forward(layer.forward(x)) : layer.forward(norm.forward(x));
    if (res_norm) out = res_norm->forward(out);
    return gamma.defined() ? gamma * out : out;
  }

  bool post_norm_, with_cp_;
  torch::Tensor gamma1_, gamma2_;  ///< undefined without layer_scale
  std::shared_ptr<Sequential> norm1_, norm2_, res_norm1_, res_norm2_;  ///< the last may be null
  std::shared_ptr<DeformedMap> dcn_;
  std::shared_ptr<NamedChain> mlp_;
  std::shared_ptr<DropPath> drop_path_;
};

/// Blocks of one width: children `blocks`, `norm`, `post_norms`, `downsample`.
class InternImageLevel final : public BaseModule {
 public:
  /// \param rates  stochastic depth of its blocks.
  InternImageLevel(const InternImageParams& p, size_t level, const std::vector<double>& rates)
      : normed_(p.normed_blocks(level)) {
    const int64_t channels = p.width(level);
    blocks_ = register_module("blocks", std::make_shared<ListOf<InternImageLayer>>());
    for (const double rate : rates) {
      blocks_->push_back(std::make_shared<InternImageLayer>(p, channels, p.groups[level], rate));
    }
    if (!p.post_norm || p.center_feature_scale) {
      norm_ = register_module("norm", intern_layer_norm(channels));
    }
    if (!normed_.empty()) {
      post_norms_ = register_module("post_norms", std::make_shared<ListOf<Sequential>>());
      for (size_t i = 0; i < normed_.size(); ++i) {
        post_norms_->push_back(intern_layer_norm(channels));
      }
    }
    if (level + 1 == p.depths.size()) return;
    downsample_ = register_module("downsample", std::make_shared<NamedChain>());
    downsample_->then([](const torch::Tensor& x) { return x.permute({0, 3, 1, 2}); });
    downsample_->add("conv", halving_conv(channels, 2 * channels, /*bias=*/false));
    downsample_->add("norm", intern_norm(2 * channels, p.norm_layer, true, false));
  }

  /// The map of the level.
  torch::Tensor forward(torch::Tensor x) {
    for (size_t i = 0; i < blocks_->size(); ++i) {
      x = (*blocks_)[i].forward(x);
      const auto found = std::ranges::find(normed_, static_cast<int64_t>(i));
      if (found == normed_.end()) continue;
      x = (*post_norms_)[static_cast<size_t>(found - normed_.begin())].forward(x);
    }
    return norm_ ? norm_->forward(x) : x;
  }
  /// What the next level begins with.
  torch::Tensor next(const torch::Tensor& x) { return downsample_ ? downsample_->forward(x) : x; }

 private:
  std::vector<int64_t> normed_;
  std::shared_ptr<ListOf<InternImageLayer>> blocks_;
  std::shared_ptr<Sequential> norm_;                ///< may be null
  std::shared_ptr<ListOf<Sequential>> post_norms_;  ///< may be null
  std::shared_ptr<NamedChain> downsample_;          ///< null in the last
};

void check_intern_levels(const InternImageParams& p, Problems& problems) {
  const size_t levels = p.depths.size();
  if (levels == 0) problems.error("depths", "must have a value for each level");
  if (p.groups.size() != levels) {
    problems.error("groups", text("has ", p.groups.size(), " entries for ", levels, " levels"));
    return;
  }
  for (size_t i = 0; i < levels; ++i) {
    if (p.width(i) % p.groups[i] == 0) continue;
    problems.error("groups",
                   text("level ", i, ": ", p.groups[i], " does not divide its width ", p.width(i)));
  }
  for (const int64_t i : p.out_indices) {
    if (i < 0 || i >= static_cast<int64_t>(levels)) {
      problems.error("out_indices", text("there is no level ", i, " among ", levels));
    }
  }
  if (p.frozen_stages > static_cast<int64_t>(levels)) {
    problems.error("frozen_stages", text("there are only ", levels, " levels"));
  }
}

void check_intern_norms(const InternImageParams& p, Problems& problems) {
  if (p.dw_kernel_size && *p.dw_kernel_size % 2 == 0) {
    problems.error("dw_kernel_size", text("must be odd, got ", *p.dw_kernel_size));
  }
  if (p.res_post_norm && (p.post_norm || p.layer_scale)) {
    problems.error("res_post_norm",
                   text("cannot be combined with ", p.post_norm ? "post_norm" : "layer_scale",
                        ": its norms would not be used"));
  }
  const char* const ids = "level2_post_norm_block_ids";
  if (!p.level2_post_norm) {
    if (p.level2_post_norm_block_ids) problems.warn(ids, "has no effect without level2_post_norm");
    return;
  }
  if (p.depths.size() < 3) {
    problems.error("level2_post_norm", "is for the third level, which there is not");
  } else if (!p.level2_post_norm_block_ids || p.level2_post_norm_block_ids->empty()) {
    problems.error("level2_post_norm", text("needs ", ids, ", the blocks that norms follow"));
  } else {
    std::set<int64_t> seen;
    for (const int64_t id : *p.level2_post_norm_block_ids) {
      if (id < 0 || id >= p.depths[2]) {
        problems.error(ids, text("there is no block ", id, " among ", p.depths[2]));
      } else if (!seen.insert(id).second) {
        problems.error(ids, text("names block ", id, " twice"));
      }
    }
  }
}

}  // namespace

/// Levels of blocks whose core is a deformable convolution with softmax over its taps.
///
/// InternImage, Wang et al. 2022, arXiv:2211.05778. Names and options are those of OpenGVLab's
/// repository; `in_channels` is an addition. Offsets always begin at 0, as at its construction,
/// while its segmentation code draws them at random when it trains without pretrained weights.
class InternImage final : public Backbone {
 public:
  using Params = InternImageParams;
  static Schema<Params> schema();

  explicit InternImage(const Params& p) : Backbone(p.init_cfg), p_(p) {
    patch_embed_ = register_module("patch_embed", std::make_shared<NamedChain>());
    const int64_t half = p.channels / 2;
    patch_embed_->add("conv1", halving_conv(p.in_channels, half, true));
    patch_embed_->add("norm1", intern_norm(half, p.norm_layer, true, true));
    patch_embed_->add("act", intern_act(p));
    patch_embed_->add("conv2", halving_conv(half, p.channels, true));
    patch_embed_->add("norm2", intern_norm(p.channels, p.norm_layer, true, false));
    pos_drop_ = register_module("pos_drop", std::make_shared<Dropout>(p.drop_rate));
    levels_ = register_module("levels", std::make_shared<ListOf<InternImageLevel>>());
    const auto rates = p.drop_path_rates_of_blocks();
    auto next = rates.begin();
    for (size_t i = 0; i < p.depths.size(); ++i) {
      const auto end = next + p.depths[i];
      levels_->push_back(std::make_shared<InternImageLevel>(p, i, std::vector<double>(next, end)));
      next = end;
      if (gives_stage(p.out_indices, i)) {
        features_.push_back({.channels = p.width(i), .stride = int64_t{4} << i});
      }
    }
    freeze();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    auto x = pos_drop_->forward(patch_embed_->forward(images));  // [N, H/4, W/4, C]
    std::vector<torch::Tensor> out;
    for (size_t i = 0; i < levels_->size(); ++i) {
      x = (*levels_)[i].forward(x);
      if (gives_stage(p_.out_indices, i)) out.push_back(x.permute({0, 3, 1, 2}).contiguous());
      x = (*levels_)[i].next(x);
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  /// As the repository's constructor of optimizers, by which the norm behind a level and what
  /// halves its map count with the first block of the next level, and those of the last level with
  /// its own first block.
  LayerOrder layer_order() const override {
    std::vector<StageNames> stages;
    for (size_t i = 0; i < p_.depths.size(); ++i) {
      stages.push_back({.embedding = {},
                        .blocks = text("levels.", i, ".blocks."),
                        .num_blocks = p_.depths[i],
                        .after = {text("levels.", i, ".post_norms.")}});
      const auto leads = [&stages](size_t level, size_t into) {
        for (const char* part : {".norm.", ".downsample."}) {
          stages[into].embedding.push_back(text("levels.", level, part));
        }
      };
      if (i > 0) leads(i - 1, i);
      if (i > 0 && i + 1 == p_.depths.size()) leads(i, i);
    }
    stages.front().embedding.emplace_back("patch_embed.");
    return LayerOrder(std::move(stages));
  }

  void train(bool on = true) override {
    Backbone::train(on);
    freeze();
  }

  void init_weights() override {
    for_each_module(*this, [](torch::nn::Module& m) {
      if (dynamic_cast<Linear*>(&m)) {
        trunc_normal_init(m, 0, 0.02);
      } else if (is_norm(m)) {
        constant_init(m, 1, 0);
      }
    });
    for_each_module(*this, [](torch::nn::Module& m) {
      if (auto* deformed = dynamic_cast<DeformedMap*>(&m)) deformed->init_weights();
    });
    apply_init_cfg();
  }

 private:
  void freeze() {
    for (int64_t i = 0; i < p_.frozen_stages; ++i) {
      freeze_module((*levels_)[static_cast<size_t>(i)]);
    }
  }

  Params p_;
  std::shared_ptr<NamedChain> patch_embed_;
  std::shared_ptr<Dropout> pos_drop_;
  std::shared_ptr<ListOf<InternImageLevel>> levels_;
  std::vector<FeatureInfo> features_;
};

Schema<InternImageParams> InternImage::schema() {
  using P = Params;
  return Schema<P>("Levels of blocks around deformable convolutions (DCNv3).")
      .source("InternImage, Wang et al. 2022, arXiv:2211.05778")
      .optional("core_op", &P::core_op, "the operator; both names stand for the same one",
                one_of({"DCNv3", "DCNv3_pytorch"}))
      .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
      .optional("channels", &P::channels, "width of the first level; doubles from level to level",
                at_least(2))
      .optional("depths", &P::depths, "blocks of each level", at_least(1))
      .optional("groups", &P::groups, "groups of channels with offsets apart, in each level",
                at_least(1))
      .optional("mlp_ratio", &P::mlp_ratio, "inner width of the layers over channels", above(0))
      .optional("drop_rate", &P::drop_rate, "dropout after the stem and over channels",
                in_range(0, 1))
      .optional("drop_path_rate", &P::drop_path_rate, "stochastic depth of the last block",
                in_range(0, 1))
      .optional("drop_path_type", &P::drop_path_type,
                "linear: rises from 0; uniform: the same for all blocks",
                one_of({"linear", "uniform"}))
      .optional("act_layer", &P::act_layer, "activation", one_of({"ReLU", "SiLU", "GELU"}))
      .optional("norm_layer", &P::norm_layer,
                "norm of the stem, of depthwise convolutions and between levels; blocks have LN",
                one_of({"BN", "LN"}))
      .optional("layer_scale", &P::layer_scale,
                "first value of the scales of branches; null: no scales")
      .optional("offset_scale", &P::offset_scale, "stretches windows and their offsets", above(0))
      .optional("post_norm", &P::post_norm, "norms follow branches instead of preceding them")
      .optional("with_cp", &P::with_cp, "recompute blocks in the backward pass to save memory")
      .optional("dw_kernel_size", &P::dw_kernel_size,
                "kernel of the depthwise convolutions, odd; null: 3", at_least(1))
      .optional("level2_post_norm", &P::level2_post_norm,
                "norms behind some blocks of the third level")
      .optional("level2_post_norm_block_ids", &P::level2_post_norm_block_ids,
                "the blocks of level2_post_norm, from 0")
      .optional("res_post_norm", &P::res_post_norm, "norms before and behind each branch")
      .optional("center_feature_scale", &P::center_feature_scale,
                "groups learn how much of a pixel stays as it was")
      .accepted("use_dcn_v4_op",
                "has no effect: the repository computes the same by another kernel with it")
      .optional("out_indices", &P::out_indices, "levels whose maps are returned")
      .optional("frozen_stages", &P::frozen_stages, "levels to freeze, without the stem",
                at_least(-1))
      .optional("init_cfg", &P::init_cfg, "initialisation")
      .validate(check_intern_levels)
      .validate(check_intern_norms);
}

SEG_REGISTER(Backbone, InternImage);

}  // namespace seg
