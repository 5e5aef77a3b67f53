#include <algorithm>
#include <map>
#include <utility>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/backbones/out_indices.hpp"
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// Sizes of a variant that has no name.
struct PoolFormerArch {
  std::vector<int64_t> layers, embed_dims;
  std::vector<double> mlp_ratios{4, 4, 4, 4};
  double layer_scale_init_value = 1e-5;
  static Schema<PoolFormerArch> schema() {
    using P = PoolFormerArch;
    return Schema<P>("Sizes of the stages.")
        .required("layers", &P::layers, "blocks of each stage", at_least(1))
        .required("embed_dims", &P::embed_dims, "width of each stage", at_least(1))
        .optional("mlp_ratios", &P::mlp_ratios,
                  "width of each stage's layers over channels over that of its maps", above(0))
        .optional("layer_scale_init_value", &P::layer_scale_init_value,
                  "first value of the scales of blocks")
        .validate([](const P& p, Problems& problems) {
          if (p.layers.empty()) problems.error("layers", "must have a value for each stage");
          const auto wrong = [&](const char* name, size_t entries) {
            problems.error(name,
                           text("has ", entries, " entries for ", p.layers.size(), " stages"));
          };
          if (p.embed_dims.size() != p.layers.size()) wrong("embed_dims", p.embed_dims.size());
          if (p.mlp_ratios.size() < p.layers.size()) wrong("mlp_ratios", p.mlp_ratios.size());
        });
  }
};

struct PoolFormerParams {
  std::variant<std::string, PoolFormerArch> arch = std::string("s12");
  int64_t in_channels = 3;
  int64_t pool_size = 3;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: GN, num_groups: 1}");
  Spec<Activation> act_cfg = Spec<Activation>::of("{type: GELU}");
  int64_t in_patch_size = 7;
  int64_t in_stride = 4;
  int64_t in_pad = 2;
  int64_t down_patch_size = 3;
  int64_t down_stride = 2;
  int64_t down_pad = 1;
  double drop_rate = 0;
  double drop_path_rate = 0;
  OutIndices out_indices = int64_t{-1};
  int64_t frozen_stages = 0;
  InitCfg init_cfg;

  PoolFormerArch sizes() const;
  /// Parts of the network, stages and what is between them.
  int64_t parts() const;
  /// Parts whose maps are returned; negative ones count from the last of seven.
  std::vector<int64_t> parts_given() const { return indices_among(out_indices, 7); }
};

namespace {

const std::map<std::string, PoolFormerArch>& poolformer_archs() {
  const auto arch = [](std::vector<int64_t> layers, bool wide, double scale) {
    using Widths = std::vector<int64_t>;
    return PoolFormerArch{
        .layers = std::move(layers),
        .embed_dims = wide ? Widths{96, 192, 384, 768} : Widths{64, 128, 320, 512},
        .layer_scale_init_value = scale};
  };
  static const std::map<std::string, PoolFormerArch> archs{
      {"s12", arch({2, 2, 6, 2}, false, 1e-5)},
      {"s24", arch({4, 4, 12, 4}, false, 1e-5)},
      {"s36", arch({6, 6, 18, 6}, false, 1e-6)},
      {"m36", arch({6, 6, 18, 6}, true, 1e-6)},
      {"m48", arch({8, 8, 24, 8}, true, 1e-6)}};
  return archs;
}

/// A strided convolution: child `proj`.
class PoolFormerEmbed final : public Layer {
 public:
  explicit PoolFormerEmbed(const ConvOptions& o) {
    proj_ = register_module("proj", std::make_shared<Conv2d>(o));
  }
  torch::Tensor forward(const torch::Tensor& x) override { return proj_->forward(x); }

 private:
  std::shared_ptr<Conv2d> proj_;
};

/// Two 1x1 convolutions: children `fc1`, `act`, `fc2`, `drop`.
class PoolFormerMlp final : public Layer {
 public:
  PoolFormerMlp(const PoolFormerParams& p, int64_t width, int64_t inner) {
    fc1_ = register_module(
        "fc1", std::make_shared<Conv2d>(ConvOptions{.in_channels = width, .out_channels = inner}));
    act_ = register_module("act", p.act_cfg.build(false));
    fc2_ = register_module(
        "fc2", std::make_shared<Conv2d>(ConvOptions{.in_channels = inner, .out_channels = width}));
    drop_ = register_module("drop", std::make_shared<Dropout>(p.drop_rate));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto inner = drop_->forward(act_->forward(fc1_->forward(x)));
    return drop_->forward(fc2_->forward(inner));
  }

 private:
  std::shared_ptr<Conv2d> fc1_, fc2_;
  std::shared_ptr<Activation> act_;
  std::shared_ptr<Dropout> drop_;
};

/// Mixes pixels by a mean and channels by two convolutions: children `norm1`, `norm2`, `mlp`,
/// parameters `layer_scale_1`, `layer_scale_2`.
class PoolFormerBlock final : public Layer {
 public:
  PoolFormerBlock(const PoolFormerParams& p, const PoolFormerArch& sizes, size_t stage,
                  double drop_path)
      : pool_size_(p.pool_size) {
    const int64_t width = sizes.embed_dims[stage];
    const auto inner = static_cast<int64_t>(static_cast<double>(width) * sizes.mlp_ratios[stage]);
    const auto scale = [&](const char* name) {
      return register_parameter(name, torch::full({width}, sizes.layer_scale_init_value));
    };
    scale1_ = scale("layer_scale_1");
    scale2_ = scale("layer_scale_2");
    norm1_ = register_module("norm1", p.norm_cfg.build(width));
    norm2_ = register_module("norm2", p.norm_cfg.build(width));
    mlp_ = register_module("mlp", std::make_shared<PoolFormerMlp>(p, width, inner));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto normed = norm1_->forward(x);
    const auto mixed = at::avg_pool2d(normed, pool_size_, 1, pool_size_ / 2, /*ceil_mode=*/false,
                                      /*count_include_pad=*/false) -
                       normed;
    const auto y = x + drop_path_->forward(scale1_.view({-1, 1, 1}) * mixed);
    const auto out = mlp_->forward(norm2_->forward(y));
    return y + drop_path_->forward(scale2_.view({-1, 1, 1}) * out);
  }

 private:
  int64_t pool_size_;
  torch::Tensor scale1_, scale2_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<PoolFormerMlp> mlp_;
  std::shared_ptr<DropPath> drop_path_;
};

/// Whether a strided convolution follows a stage.
bool poolformer_strides_after(const PoolFormerArch& sizes, size_t stage) {
  return stage + 1 < sizes.embed_dims.size() &&
         sizes.embed_dims[stage] != sizes.embed_dims[stage + 1];
}

}  // namespace

PoolFormerArch PoolFormerParams::sizes() const {
  const auto* name = std::get_if<std::string>(&arch);
  return name ? poolformer_archs().at(*name) : std::get<PoolFormerArch>(arch);
}

int64_t PoolFormerParams::parts() const {
  const PoolFormerArch sizes = this->sizes();
  int64_t out = 0;
  for (size_t i = 0; i < sizes.layers.size(); ++i) {
    out += poolformer_strides_after(sizes, i) ? 2 : 1;
  }
  return out;
}

/// Stages whose blocks mix pixels by nothing but a mean.
///
/// PoolFormer, Yu et al. 2022, arXiv:2111.11418.
class PoolFormer final : public Backbone {
 public:
  using Params = PoolFormerParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Stages whose blocks mix pixels by a mean, as mmpretrain has it.")
        .source("PoolFormer, Yu et al. 2022, arXiv:2111.11418")
        .optional("arch", &P::arch,
                  "size: s12, s24, s36, m36, m48, or layers, embed_dims and others")
        .optional("in_channels", &P::in_channels, "bands of the image", at_least(1))
        .optional("pool_size", &P::pool_size, "side of the square of the mean, odd", at_least(1))
        .optional("norm_cfg", &P::norm_cfg, "norms")
        .optional("act_cfg", &P::act_cfg, "activation inside blocks")
        .optional("in_patch_size", &P::in_patch_size, "kernel of the first convolution",
                  at_least(1))
        .optional("in_stride", &P::in_stride, "its stride", at_least(1))
        .optional("in_pad", &P::in_pad, "its padding", at_least(0))
        .optional("down_patch_size", &P::down_patch_size,
                  "kernel of the convolutions between stages", at_least(1))
        .optional("down_stride", &P::down_stride, "their stride", at_least(1))
        .optional("down_pad", &P::down_pad, "their padding", at_least(0))
        .optional("drop_rate", &P::drop_rate, "dropout inside blocks", in_range(0, 1))
        .optional("drop_path_rate", &P::drop_path_rate,
                  "stochastic depth of the last block; rises from 0", in_range(0, 1))
        .optional("out_indices", &P::out_indices,
                  "parts whose maps are returned, stages (0, 2, 4, 6) and the convolutions between "
                  "them; negative: from the last of seven")
        .optional("frozen_stages", &P::frozen_stages,
                  "parts to freeze, with the first convolution; 0: only that; -1: nothing",
                  at_least(-1))
        .optional("init_cfg", &P::init_cfg, "initialisation; null: as PyTorch's")
        .validate([](const P& p, Problems& problems) {
          const auto* name = std::get_if<std::string>(&p.arch);
          if (name && !poolformer_archs().contains(*name)) {
            std::vector<std::string> known;
            for (const auto& [arch, sizes] : poolformer_archs()) known.push_back(arch);
            problems.error("arch", text("unknown value '", *name, "'. Known: ", join(known, ", "),
                                        ", or a mapping of layers, embed_dims and others"));
            return;
          }
          if (p.pool_size % 2 == 0) {
            problems.error("pool_size", text("must be odd, got ", p.pool_size));
          }
          const int64_t parts = p.parts();
          for (const int64_t index : p.parts_given()) {
            if (index < 0 || index >= parts) {
              problems.error("out_indices", text("there is no part ", index, " among ", parts));
            }
          }
          if (p.frozen_stages > parts) {
            problems.error("frozen_stages", text("there are only ", parts, " parts"));
          }
        });
  }

  explicit PoolFormer(const Params& p) : Backbone(p.init_cfg), frozen_stages_(p.frozen_stages) {
    const PoolFormerArch sizes = p.sizes();
    out_indices_ = p.parts_given();
    int64_t blocks = 0;
    for (const int64_t count : sizes.layers) blocks += count;
    const auto rates = drop_path_rates(p.drop_path_rate, blocks);
    patch_embed_ = register_module("patch_embed", std::make_shared<PoolFormerEmbed>(ConvOptions{
                                                      .in_channels = p.in_channels,
                                                      .out_channels = sizes.embed_dims[0],
                                                      .kernel_size = p.in_patch_size,
                                                      .stride = p.in_stride,
                                                      .padding = p.in_pad}));
    network_ = register_module("network", std::make_shared<ListOf<Layer>>());
    size_t block = 0;
    FeatureInfo map{.channels = sizes.embed_dims[0], .stride = p.in_stride};
    std::vector<FeatureInfo> maps;  // of all parts
    std::vector<std::string> before{"patch_embed."};
    for (size_t i = 0; i < sizes.layers.size(); ++i) {
      auto stage = std::make_shared<Sequential>();
      for (int64_t k = 0; k < sizes.layers[i]; ++k) {
        stage->push_back(std::make_shared<PoolFormerBlock>(p, sizes, i, rates[block++]));
      }
      stage_names_.push_back({.embedding = std::exchange(before, {}),
                              .blocks = text("network.", network_->size(), "."),
                              .num_blocks = sizes.layers[i]});
      network_->push_back(stage);
      maps.push_back(map);
      if (!poolformer_strides_after(sizes, i)) continue;
      before = {text("network.", network_->size(), ".")};
      network_->push_back(
          std::make_shared<PoolFormerEmbed>(ConvOptions{.in_channels = map.channels,
                                                        .out_channels = sizes.embed_dims[i + 1],
                                                        .kernel_size = p.down_patch_size,
                                                        .stride = p.down_stride,
                                                        .padding = p.down_pad}));
      map = {.channels = sizes.embed_dims[i + 1], .stride = map.stride * p.down_stride};
      maps.push_back(map);
    }
    norms_.resize(maps.size());
    for (const int64_t index : out_indices_) {
      const auto i = static_cast<size_t>(index);
      norms_[i] = register_module(text("norm", i), p.norm_cfg.build(maps[i].channels));
    }
    for (size_t i = 0; i < maps.size(); ++i) {
      if (norms_[i]) features_.push_back(maps[i]);
    }
    freeze();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out;
    auto x = patch_embed_->forward(images);
    for (size_t i = 0; i < network_->size(); ++i) {
      x = (*network_)[i].forward(x);
      if (norms_[i]) out.push_back(norms_[i]->forward(x));
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  LayerOrder layer_order() const override { return LayerOrder(stage_names_); }

  void train(bool on = true) override {
    Backbone::train(on);
    freeze();
  }

 private:
  void freeze() {
    if (frozen_stages_ < 0) return;
    freeze_module(*patch_embed_);
    for (int64_t i = 0; i < frozen_stages_; ++i) {
      const auto k = static_cast<size_t>(i);
      freeze_module((*network_)[k]);
      if (norms_[k]) freeze_module(*norms_[k]);
    }
  }

  int64_t frozen_stages_;
  std::vector<int64_t> out_indices_;
  std::shared_ptr<PoolFormerEmbed> patch_embed_;
  std::shared_ptr<ListOf<Layer>> network_;
  std::vector<StageNames> stage_names_;
  std::vector<std::shared_ptr<Norm>> norms_;  ///< null where a part is not given
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, PoolFormer);

}  // namespace seg
