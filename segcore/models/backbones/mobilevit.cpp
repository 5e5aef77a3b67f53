#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/backbones/mobilenet.hpp"
#include "segcore/models/backbones/out_indices.hpp"
#include "segcore/models/blocks/inverted_residual.hpp"
#include "segcore/models/blocks/vit_block.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// A stage as configs write it: its kind, then its numbers.
using MobileViTRow = std::vector<std::variant<int64_t, std::string>>;

struct MobileViTStage {
  int64_t channels = 0;
  int64_t stride = 1;                ///< of the first block
  int64_t num_blocks = 1;            ///< inverted residuals, or the transformer's blocks
  int64_t expand_ratio = 4;          ///< of the inverted residuals
  int64_t transformer_channels = 0;  ///< 0: no transformer
  int64_t ffn_channels = 0;
};

struct MobileViTParams : MobileNetParams {
  MobileViTParams() { out_indices = {4}; }
  std::variant<std::string, std::vector<MobileViTRow>> arch = std::string("small");
  int64_t stem_channels = 16;
  int64_t last_exp_factor = 4;
  int64_t output_stride = 32;
  double drop_rate = 0;
  ActCfg act_cfg = act_cfg_of("{type: Swish}");

  /// \throws std::out_of_range for an `arch` that the schema refuses.
  std::vector<MobileViTStage> stages() const;
};

namespace {

constexpr int64_t kMobileViTHeads = 4;
constexpr int64_t kMobileViTPatch = 2;  ///< side of the patches

/// The stages of the three sizes of the paper, which expands by 2 in the smallest only.
const std::map<std::string, std::vector<MobileViTStage>>& mobilevit_archs() {
  static const std::map<std::string, std::vector<MobileViTStage>> archs{
      {"small",
       {{32, 1, 1, 4},
        {64, 2, 3, 4},
        {96, 2, 2, 4, 144, 288},
        {128, 2, 4, 4, 192, 384},
        {160, 2, 3, 4, 240, 480}}},
      {"x_small",
       {{32, 1, 1, 4},
        {48, 2, 3, 4},
        {64, 2, 2, 4, 96, 192},
        {80, 2, 4, 4, 120, 240},
        {96, 2, 3, 4, 144, 288}}},
      {"xx_small",
       {{16, 1, 1, 2},
        {24, 2, 3, 2},
        {48, 2, 2, 2, 64, 128},
        {64, 2, 4, 2, 80, 160},
        {80, 2, 3, 2, 96, 192}}}};
  return archs;
}

/// Nothing for a row that describes no stage.
std::optional<MobileViTStage> mobilevit_stage(const MobileViTRow& row) {
  std::vector<int64_t> n;
  for (size_t i = 1; i < row.size(); ++i) {
    const auto* number = std::get_if<int64_t>(&row[i]);
    if (!number || *number < 1) return std::nullopt;
    n.push_back(*number);
  }
  const auto* kind = row.empty() ? nullptr : std::get_if<std::string>(&row[0]);
  if (!kind || n.size() < 2 || n[1] > 2) return std::nullopt;
  MobileViTStage out{.channels = n[0], .stride = n[1]};
  size_t read = 2;
  if (*kind == "mobilevit" && n.size() > 3) {
    out.transformer_channels = n[2];
    out.ffn_channels = n[3];
    read = 4;
  } else if (*kind != "mobilenetv2") {
    return std::nullopt;
  }
  if (n.size() <= read || n.size() > read + 2) return std::nullopt;
  out.num_blocks = n[read];
  if (n.size() > read + 1) out.expand_ratio = n[read + 1];
  if (out.transformer_channels % kMobileViTHeads != 0) return std::nullopt;
  return out;
}

/// \return whether `arch` describes stages.
bool check_mobilevit_arch(const MobileViTParams& p, Problems& problems) {
  if (const auto* name = std::get_if<std::string>(&p.arch)) {
    if (mobilevit_archs().contains(*name)) return true;
    std::vector<std::string> known;
    for (const auto& [arch, stages] : mobilevit_archs()) known.push_back(arch);
    problems.error("arch", text("unknown value '", *name, "'. Known: ", join(known, ", "),
                                ", or a list of stages"));
    return false;
  }
  const auto& rows = std::get<std::vector<MobileViTRow>>(p.arch);
  if (rows.empty()) problems.error("arch", "must have a stage");
  bool good = !rows.empty();
  for (size_t i = 0; i < rows.size(); ++i) {
    if (mobilevit_stage(rows[i])) continue;
    good = false;
    problems.error(
        "arch",
        text("stage ", i,
             " must be [mobilenetv2, channels, stride, blocks, expand_ratio] or [mobilevit, "
             "channels, stride, transformer_channels, ffn_channels, blocks, expand_ratio], with "
             "a stride of 1 or 2 and transformer_channels a multiple of ",
             kMobileViTHeads));
  }
  return good;
}

/// Convolutions for what is near, attention for the rest: pixels at the same place of all patches
/// are one sequence. Children `local_rep`, `global_rep`, `conv_proj`, `conv_fusion`.
class MobileViTBlock final : public Layer {
 public:
  MobileViTBlock(const MobileViTParams& p, const MobileViTStage& stage) {
    const int64_t width = stage.channels, inner = stage.transformer_channels;
    const auto conv = [&p](int64_t in, int64_t out, int64_t kernel_size) {
      return padded_conv(in, out, kernel_size, 1, p.norm_cfg, p.act_cfg, 1, p.conv_cfg);
    };
    local_rep_ = register_module(
        "local_rep", std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{
                         conv(width, width, 3),
                         std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = width,
                                                                        .out_channels = inner,
                                                                        .bias = false,
                                                                        .conv_cfg = p.conv_cfg,
                                                                        .act_cfg = {}})}));
    const ViTBlockOptions block{.embed_dims = inner,
                                .num_heads = kMobileViTHeads,
                                .feedforward_channels = stage.ffn_channels,
                                .drop_rate = p.drop_rate,
                                .act_cfg = p.act_cfg,
                                .with_cp = p.with_cp};
    global_rep_ = register_module("global_rep", vit_blocks(stage.num_blocks, block));
    // The original drops nothing between the layers of the feed-forward blocks.
    for (const auto& module : global_rep_->named_modules("", /*include_self=*/false)) {
      if (module.key().ends_with("ffn.layers.0")) set_drop_probability(*module.value(), 0);
    }
    norm_ = global_rep_->register_module(std::to_string(stage.num_blocks),
                                         block.norm_cfg->build(inner));
    conv_proj_ = register_module("conv_proj", conv(inner, width, 1));
    conv_fusion_ = register_module("conv_fusion", conv(2 * width, width, 3));
  }

  torch::Tensor forward(const torch::Tensor& x) override {
    auto y = local_rep_->forward(x);
    constexpr int64_t kSide = kMobileViTPatch;
    const Size2 size = map_size(y);
    const int64_t n = y.size(0), c = y.size(1);
    const int64_t rows = (size.h + kSide - 1) / kSide, columns = (size.w + kSide - 1) / kSide;
    const Size2 whole{rows * kSide, columns * kSide};
    if (whole != size) y = resize(y, whole);
    y = y.reshape({n, c, rows, kSide, columns, kSide}).permute({0, 3, 5, 2, 4, 1});
    y = y.reshape({n * kSide * kSide, rows * columns, c});
    for (const auto& block : *global_rep_) y = block->forward(y);
    y = norm_->forward(y).view({n, kSide, kSide, rows, columns, c});
    y = y.permute({0, 5, 3, 1, 4, 2}).reshape({n, c, whole.h, whole.w});
    if (whole != size) y = resize(y, size);
    return conv_fusion_->forward(joined_maps({x, conv_proj_->forward(y)}));
  }

 private:
  std::shared_ptr<Sequential> local_rep_;
  std::shared_ptr<ListOf<ViTBlock>> global_rep_;
  std::shared_ptr<Norm> norm_;
  std::shared_ptr<ConvModule> conv_proj_, conv_fusion_;
};

}  // namespace

std::vector<MobileViTStage> MobileViTParams::stages() const {
  if (const auto* name = std::get_if<std::string>(&arch)) return mobilevit_archs().at(*name);
  std::vector<MobileViTStage> out;
  for (const MobileViTRow& row : std::get<std::vector<MobileViTRow>>(arch)) {
    out.push_back(mobilevit_stage(row).value());
  }
  return out;
}

/// Inverted residuals and, from the third stage on, transformers on patches of 2x2 pixels.
///
/// Differs from mmpretrain: `conv_cfg`, `norm_cfg` and `act_cfg` are those of all layers, not of
/// the first and last alone; the attention's parameters have mmcv's names.
class MobileViT final : public Backbone {
 public:
  using Params = MobileViTParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Inverted residuals and small transformers, as mmpretrain has it.")
        .source("MobileViT, Mehta and Rastegari 2022, arXiv:2110.02178")
        .optional("arch", &P::arch,
                  "size: small, x_small, xx_small, or a list of stages, [mobilenetv2, channels, "
                  "stride, blocks, expand_ratio] or [mobilevit, channels, stride, "
                  "transformer_channels, ffn_channels, blocks, expand_ratio]")
        .optional("stem_channels", &P::stem_channels, "width of the first convolution", at_least(1))
        .optional("last_exp_factor", &P::last_exp_factor,
                  "how many times wider a 1x1 convolution makes the last map; 0: without it",
                  at_least(0))
        .optional("output_stride", &P::output_stride,
                  "of the last map, 8, 16 or 32: stages that would stride further are dilated "
                  "instead")
        .optional("drop_rate", &P::drop_rate,
                  "dropout after the attention and the feed-forward part of the transformers",
                  in_range(0, 1))
        .optional("out_indices", &P::out_indices,
                  "stages whose maps are returned; negative: from the last")
        .optional("frozen_stages", &P::frozen_stages,
                  "number of stages to freeze, without the first convolution", at_least(-1))
        .optional("act_cfg", &P::act_cfg, "type of the activations")
        .include(MobileNetParams::schema())
        .validate([](const P& p, Problems& problems) {
          if (p.output_stride != 8 && p.output_stride != 16 && p.output_stride != 32) {
            problems.error("output_stride", text("must be 8, 16 or 32, got ", p.output_stride));
          }
          if (!check_mobilevit_arch(p, problems)) return;
          const auto stages = static_cast<int64_t>(p.stages().size());
          for (const int64_t index : indices_among(p.out_indices, stages)) {
            if (index < 0 || index >= stages) {
              problems.error("out_indices", text("there is no stage ", index, " among ", stages));
            }
          }
          if (p.frozen_stages > stages) {
            problems.error("frozen_stages", text("there are only ", stages, " stages"));
          }
        });
  }

  explicit MobileViT(const Params& p)
      : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)),
        frozen_stages_(p.frozen_stages),
        norm_eval_(p.norm_eval) {
    const auto stages = p.stages();
    out_indices_ = indices_among(p.out_indices, static_cast<int64_t>(stages.size()));
    stem_ = register_module("stem", padded_conv(p.in_channels, p.stem_channels, 3, 2, p.norm_cfg,
                                                p.act_cfg, 1, p.conv_cfg));
    layers_ = register_module("layers", std::make_shared<ListOf<Sequential>>());
    FeatureInfo map{.channels = p.stem_channels, .stride = 2};
    int64_t dilation = 1;
    for (size_t i = 0; i < stages.size(); ++i) {
      layers_->push_back(make_stage(p, stages[i], map, dilation));
      const bool last = i + 1 == stages.size();
      if (last && p.last_exp_factor > 0) {
        const int64_t wide = p.last_exp_factor * map.channels;
        conv_1x1_exp_ = register_module(
            "conv_1x1_exp",
            padded_conv(map.channels, wide, 1, 1, p.norm_cfg, p.act_cfg, 1, p.conv_cfg));
        map.channels = wide;
      }
      if (gives_stage(out_indices_, i)) features_.push_back(map);
    }
    freeze();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out;
    auto x = stem_->forward(images);
    for (size_t i = 0; i < layers_->size(); ++i) {
      x = (*layers_)[i].forward(x);
      if (!gives_stage(out_indices_, i)) continue;
      const bool widened = conv_1x1_exp_ && i + 1 == layers_->size();
      out.push_back(widened ? conv_1x1_exp_->forward(x) : x);
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override { return features_; }

  void train(bool on = true) override {
    Backbone::train(on);
    freeze();
    if (on && norm_eval_) freeze_batch_norms(*this);
  }

 private:
  /// \param map  what the stage is given; what it gives, afterwards.
  /// \param dilation  of depthwise convolutions; doubled by a stage that is dilated instead of
  ///                  striding. As in the original, its own first block is not dilated yet, and
  ///                  the convolutions around transformers never are.
  static std::shared_ptr<Sequential> make_stage(const Params& p, const MobileViTStage& stage,
                                                FeatureInfo& map, int64_t& dilation) {
    const bool dilates = stage.stride > 1 && map.stride * stage.stride > p.output_stride;
    auto out = std::make_shared<Sequential>();
    const bool attends = stage.transformer_channels > 0;
    for (int64_t k = 0; k < (attends ? 1 : stage.num_blocks); ++k) {
      out->push_back(std::make_shared<InvertedResidual>(
          InvertedResidualOptions{.in_channels = k == 0 ? map.channels : stage.channels,
                                  .out_channels = stage.channels,
                                  .stride = k == 0 && !dilates ? stage.stride : 1,
                                  .expand_ratio = static_cast<double>(stage.expand_ratio),
                                  .dilation = dilation,
                                  .conv_cfg = p.conv_cfg,
                                  .norm_cfg = p.norm_cfg,
                                  .act_cfg = p.act_cfg,
                                  .with_cp = p.with_cp}));
      if (k == 0 && dilates) dilation *= 2;
    }
    if (attends) out->push_back(std::make_shared<MobileViTBlock>(p, stage));
    map = {.channels = stage.channels, .stride = map.stride * (dilates ? 1 : stage.stride)};
    return out;
  }

  void freeze() {
    for (int64_t i = 0; i < frozen_stages_; ++i) freeze_module((*layers_)[static_cast<size_t>(i)]);
  }

  int64_t frozen_stages_;
  bool norm_eval_;
  std::vector<int64_t> out_indices_;
  std::shared_ptr<ConvModule> stem_;
  std::shared_ptr<ListOf<Sequential>> layers_;
  std::shared_ptr<ConvModule> conv_1x1_exp_;  ///< may be null
  std::vector<FeatureInfo> features_;
};

SEG_REGISTER(Backbone, MobileViT);

}  // namespace seg
