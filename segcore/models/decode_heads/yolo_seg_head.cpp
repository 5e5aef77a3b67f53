#include "segcore/models/blocks/csp_layers.hpp"
#include "segcore/models/decode_heads/several_maps.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct YOLOSegHeadParams : ResizedMapsParams {
  std::string block = "C2f";
  int64_t num_blocks = 1;
  std::optional<std::vector<int64_t>> widths;
  YOLOSegHeadParams() {
    interpolate_mode = "nearest";
    act_cfg = act_cfg_of("{type: SiLU}");
  }

  /// Of the map that is made at each input but the coarsest.
  std::vector<int64_t> level_widths(size_t inputs) const {
    if (widths) return *widths;
    std::vector<int64_t> out;
    for (size_t i = 0; i + 1 < inputs; ++i) out.push_back(channels << i);
    return out;
  }
};

/// Goes down from the coarsest map to the finest: a 1x1 convolution, enlarging, joining with the
/// backbone's map, a YOLO layer. Children `reduces` and `blocks`, finest first.
///
/// The path from coarse to fine of YOLO's necks (Wang et al. 2022, arXiv:2207.02696, figure 2;
/// ultralytics 8.4), which ends at stride 8 there, down to the finest map that the head is given.
/// The way back up, which detection needs, is left out. Convolutions have no bias, batch norms
/// YOLO's options unless `norm_cfg` is given.
class YOLOSegHead final : public DecodeHead {
 public:
  using Params = YOLOSegHeadParams;
  static Schema<Params> schema();

  YOLOSegHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all), p_(p) {
    check_fine_to_coarse(inputs());
    const auto widths = p.level_widths(inputs().size());
    reduces_ = register_module("reduces", std::make_shared<ListOf<Layer>>());
    blocks_ = register_module("blocks", std::make_shared<ListOf<Layer>>());
    for (size_t i = 0; i < widths.size(); ++i) {
      const bool last = i + 1 == widths.size();
      const int64_t coarser = last ? inputs().back().channels : widths[i + 1];
      reduces_->push_back(yolo_conv({.in = coarser, .out = widths[i], .norm_cfg = p.norm_cfg}));
      const int64_t joined = widths[i] + inputs()[i].channels;
      blocks_->push_back(p.block == "C2f"
                             ? csp_of_2(joined, widths[i], p.num_blocks, p.norm_cfg)
                             : csp_of_3(joined, widths[i], p.num_blocks, p.conv_cfg, p.norm_cfg));
    }
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(forward_feature(features));
  }

  torch::Tensor forward_feature(const std::vector<torch::Tensor>& features) override {
    const auto maps = select(features);
    auto x = maps.back();
    for (size_t i = blocks_->size(); i-- > 0;) {
      x = resize((*reduces_)[i].forward(x), map_size(maps[i]), align_corners(),
                 p_.interpolate_mode);
      x = (*blocks_)[i].forward(joined_maps({x, maps[i]}));  // [N, widths[i], H_i, W_i]
    }
    return x;
  }

 private:
  Params p_;
  std::shared_ptr<ListOf<Layer>> reduces_, blocks_;
};

Schema<YOLOSegHeadParams> YOLOSegHead::schema() {
  return resized_maps_schema<Params>("The path of YOLO's necks from coarse to fine.")
      .source("ultralytics 8.4; Wang et al. 2022, arXiv:2207.02696")
      .optional("block", &Params::block, "layer behind each joining: C3 of YOLOv5, C2f of YOLOv8",
                one_of({"C3", "C2f"}))
      .optional("num_blocks", &Params::num_blocks, "blocks of each such layer", at_least(1))
      .optional("widths", &Params::widths,
                "widths of the maps that are made, finest first, one less than in_index names; "
                "null: channels, then twice as wide from map to map",
                at_least(2))
      .validate([](const Params& p, Problems& problems) {
        check_several_maps(p, problems);
        const auto* maps = std::get_if<std::vector<int64_t>>(&p.in_index);
        if (!maps) return;
        if (maps->size() < 2) {
          problems.error("in_index", "must name at least two maps, which are joined");
        } else if (p.widths && p.widths->size() + 1 != maps->size()) {
          problems.error("widths", text("has ", p.widths->size(), " values for ", maps->size(),
                                        " maps: all but the coarsest need one"));
        } else if (p.level_widths(maps->size()).front() != p.channels) {
          problems.error("widths", text("the first must be channels, ", p.channels));
        }
        if (p.channels < 2)
          problems.error("channels", "must be at least 2: layers have two halves");
        if (p.conv_cfg && p.block == "C2f") {
          problems.error("conv_cfg", "is for the 3x3 convolutions of C3; C2f has plain ones");
        }
        if (problems.given("act_cfg")) {
          problems.warn("act_cfg", "has no effect: YOLO's layers have SiLU");
        }
      });
}

SEG_REGISTER(DecodeHead, YOLOSegHead);

}  // namespace seg
