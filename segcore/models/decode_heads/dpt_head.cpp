#include "segcore/models/blocks/upsample.hpp"
#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/nn/plain_list.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct DPTHeadParams : DecodeHeadParams {
  DPTHeadParams() {
    norm_cfg = norm_cfg_of("{type: BN}");
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{0, 1, 2, 3};
  }
  int64_t embed_dims = 768;
  std::vector<int64_t> post_process_channels{96, 192, 384, 768};
  std::string readout_type = "ignore";
  bool expand_channels = false;
};

namespace {

/// Makes a pyramid from maps of a vision transformer and their class tokens: children `projects`,
/// `resize_layers`, `readout_projects`.
class ReassembleBlocks final : public BaseModule {
 public:
  explicit ReassembleBlocks(const DPTHeadParams& p) : readout_(p.readout_type) {
    projects_ = register_module("projects", std::make_shared<PlainListOf<ConvModule>>());
    resizes_ = register_module("resize_layers", std::make_shared<PlainListOf<Layer>>());
    const auto& widths = p.post_process_channels;
    for (const int64_t width : widths) {
      projects_->push_back(std::make_shared<ConvModule>(
          ConvModuleOptions{.in_channels = p.embed_dims, .out_channels = width, .act_cfg = {}}));
    }
    resizes_->push_back(std::make_shared<ConvTranspose2d>(widths[0], widths[0], 4, 4, 0));
    resizes_->push_back(std::make_shared<ConvTranspose2d>(widths[1], widths[1], 2, 2, 0));
    resizes_->push_back(std::make_shared<Identity>());
    resizes_->push_back(std::make_shared<Conv2d>(ConvOptions{.in_channels = widths[3],
                                                             .out_channels = widths[3],
                                                             .kernel_size = 3,
                                                             .stride = 2,
                                                             .padding = 1}));
    if (readout_ != "project") return;
    readouts_ = register_module("readout_projects", std::make_shared<PlainListOf<Sequential>>());
    for (size_t i = 0; i < widths.size(); ++i) {
      auto row = std::make_shared<Sequential>();
      row->push_back(std::make_shared<Linear>(2 * p.embed_dims, p.embed_dims));
      row->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) { return at::gelu(x); }));
      readouts_->push_back(row);
    }
  }

  /// \param tokens  of the maps; empty for the readout "ignore".
  std::vector<torch::Tensor> forward(const std::vector<torch::Tensor>& maps,
                                     const std::vector<torch::Tensor>& tokens) {
    std::vector<torch::Tensor> out;
    for (size_t i = 0; i < maps.size(); ++i) {
      const auto x = readout_ == "ignore" ? maps[i] : read(i, maps[i], tokens[i]);
      out.push_back((*resizes_)[i].forward((*projects_)[i].forward(x)));
    }
    return out;
  }

 private:
  torch::Tensor read(size_t i, const torch::Tensor& map, const torch::Tensor& token) {
    if (readout_ == "add") return map + token.unsqueeze(2).unsqueeze(3);
    const auto pixels = map.flatten(2).transpose(1, 2);  // [N, h * w, C]
    const auto joined = at::cat({pixels, token.unsqueeze(1).expand_as(pixels)}, 2);
    return (*readouts_)[i].forward(joined).transpose(1, 2).reshape(map.sizes());
  }

  std::string readout_;
  std::shared_ptr<PlainListOf<ConvModule>> projects_;
  std::shared_ptr<PlainListOf<Layer>> resizes_;
  std::shared_ptr<PlainListOf<Sequential>> readouts_;  ///< null unless the readout is "project"
};

/// Two convolutions, each after its activation, and a shortcut.
class PreActResidualConvUnit final : public BaseModule {
 public:
  explicit PreActResidualConvUnit(const DPTHeadParams& p) {
    const auto conv = [&p] {
      return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = p.channels,
                                                            .out_channels = p.channels,
                                                            .kernel_size = 3,
                                                            .padding = 1,
                                                            .bias = false,
                                                            .norm_cfg = p.norm_cfg,
                                                            .act_cfg = p.act_cfg,
                                                            .inplace = false,
                                                            .order = {'a', 'c', 'n'}});
    };
    conv1_ = register_module("conv1", conv());
    conv2_ = register_module("conv2", conv());
  }
  torch::Tensor forward(const torch::Tensor& x) { return conv2_->forward(conv1_->forward(x)) + x; }

 private:
  std::shared_ptr<ConvModule> conv1_, conv2_;
};

/// Adds a finer map and doubles the size.
class FeatureFusionBlock final : public BaseModule {
 public:
  FeatureFusionBlock(const DPTHeadParams& p, bool first) {
    project_ = register_module(
        "project",
        std::make_shared<ConvModule>(ConvModuleOptions{
            .in_channels = p.channels, .out_channels = p.channels, .bias = true, .act_cfg = {}}));
    if (!first) {
      unit1_ = register_module("res_conv_unit1", std::make_shared<PreActResidualConvUnit>(p));
    }
    unit2_ = register_module("res_conv_unit2", std::make_shared<PreActResidualConvUnit>(p));
  }
  /// \param finer  undefined for the first block.
  torch::Tensor forward(const torch::Tensor& in, const torch::Tensor& finer) {
    auto x = in;
    if (unit1_) x = x + unit1_->forward(resize(finer, map_size(x)));
    return project_->forward(resize_by(unit2_->forward(x), 2, /*align_corners=*/true));
  }

 private:
  std::shared_ptr<ConvModule> project_;
  std::shared_ptr<PreActResidualConvUnit> unit1_, unit2_;  ///< null in the first block
};

/// Places of the class tokens that follow the maps of these indices; empty if one has none.
std::vector<size_t> dpt_token_places(const std::vector<int64_t>& indices,
                                     const std::vector<FeatureInfo>& all) {
  std::vector<size_t> maps, out;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].is_token()) maps.push_back(i);
  }
  for (const int64_t index : indices) {
    const auto count = static_cast<int64_t>(maps.size());
    const size_t place = maps.at(static_cast<size_t>(index < 0 ? index + count : index)) + 1;
    if (place >= all.size() || !all[place].is_token()) return {};
    out.push_back(place);
  }
  return out;
}

}  // namespace

/// Makes a pyramid from four maps of a vision transformer and fuses it from the coarsest map on.
class DPTHead final : public DecodeHead {
 public:
  using Params = DPTHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Dense prediction transformer: fuses four maps of a vision transformer.")
        .source("Ranftl et al. 2021, arXiv:2103.13413")
        .include(DecodeHead::base_schema())
        .optional("embed_dims", &Params::embed_dims, "width of the transformer", at_least(1))
        .optional("post_process_channels", &Params::post_process_channels,
                  "widths of the four maps, finest first", at_least(1))
        .optional("readout_type", &Params::readout_type,
                  "what becomes of class tokens: ignore; add to all pixels; project together with "
                  "each pixel",
                  one_of({"ignore", "add", "project"}))
        .optional("expand_channels", &Params::expand_channels, "must be false")
        .accepted("patch_size", "has no effect, as in MMSegmentation")
        .validate([](const Params& p, Problems& problems) {
          const auto* maps = std::get_if<std::vector<int64_t>>(&p.in_index);
          if (p.input_transform != "multiple_select" || !maps || maps->size() != 4) {
            problems.error("in_index",
                           "must be a list of 4 maps, with input_transform multiple_select");
          }
          if (p.post_process_channels.size() != 4) {
            problems.error("post_process_channels",
                           text("needs 4 values, got ", p.post_process_channels.size()));
          }
          if (p.expand_channels) {
            problems.error("expand_channels",
                           "must be false: the wider convolutions would not fit their maps");
          }
        });
  }

  DPTHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all) {
    for (const auto& input : inputs()) {
      if (input.channels == p.embed_dims) continue;
      throw OptionError("embed_dims",
                        text("is ", p.embed_dims, ", but a map has ", input.channels, " channels"));
    }
    if (p.readout_type != "ignore") {
      tokens_ = dpt_token_places(std::get<std::vector<int64_t>>(p.in_index), all);
      if (tokens_.empty()) {
        throw OptionError("readout_type", text("'", p.readout_type,
                                               "' needs class tokens: set output_cls_token of the "
                                               "backbone, and no neck"));
      }
    }
    reassemble_ = register_module("reassemble_blocks", std::make_shared<ReassembleBlocks>(p));
    convs_ = register_module("convs", std::make_shared<PlainListOf<ConvModule>>());
    fusions_ =
        register_module("fusion_blocks", std::make_shared<PlainListOf<FeatureFusionBlock>>());
    for (const int64_t width : p.post_process_channels) {
      convs_->push_back(std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = width,
                                                                       .out_channels = p.channels,
                                                                       .kernel_size = 3,
                                                                       .padding = 1,
                                                                       .bias = false,
                                                                       .act_cfg = {}}));
      fusions_->push_back(std::make_shared<FeatureFusionBlock>(p, fusions_->size() == 0));
    }
    project_ = register_module(
        "project", std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = p.channels,
                                                                  .out_channels = p.channels,
                                                                  .kernel_size = 3,
                                                                  .padding = 1,
                                                                  .norm_cfg = p.norm_cfg}));
  }

  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    std::vector<torch::Tensor> tokens;
    for (const size_t place : tokens_) tokens.push_back(features.at(place));
    const auto maps = reassemble_->forward(select(features), tokens);
    torch::Tensor x;
    for (size_t i = 0; i < maps.size(); ++i) {
      const size_t k = maps.size() - 1 - i;
      const auto map = (*convs_)[k].forward(maps[k]);
      x = (*fusions_)[i].forward(i == 0 ? map : x, map);
    }
    return cls_seg(project_->forward(x));
  }

 private:
  std::vector<size_t> tokens_;  ///< places among the features; empty for the readout "ignore"
  std::shared_ptr<ReassembleBlocks> reassemble_;
  std::shared_ptr<PlainListOf<ConvModule>> convs_;
  std::shared_ptr<PlainListOf<FeatureFusionBlock>> fusions_;
  std::shared_ptr<ConvModule> project_;
};

SEG_REGISTER(DecodeHead, DPTHead);

}  // namespace seg
