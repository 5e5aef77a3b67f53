#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct PSAHeadParams : DecodeHeadParams {
  std::array<int64_t, 2> mask_size{};
  std::string psa_type = "bi-direction";
  bool compact = false;
  int64_t shrink_factor = 2;
  std::optional<double> normalization_factor = 1.0;
  bool psa_softmax = true;
};

/// Point-wise spatial attention: each position predicts a mask around itself, of the positions that
/// it collects from or distributes to.
class PSAHead final : public DecodeHead {
 public:
  using Params = PSAHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Point-wise spatial attention.")
        .source("PSANet, Zhao et al. 2018, ECCV, pages 267-283")
        .include(DecodeHead::base_schema())
        .required("mask_size", &Params::mask_size, "height and width of the masks", at_least(1))
        .optional("psa_type", &Params::psa_type, "direction of the attention",
                  one_of({"collect", "distribute", "bi-direction"}))
        .optional("compact", &Params::compact,
                  "masks are of the map's own size, not around each position")
        .optional("shrink_factor", &Params::shrink_factor, "factor that the map is shrunk by first",
                  at_least(1))
        .optional("normalization_factor", &Params::normalization_factor,
                  "divisor of the result; null: the area of a mask")
        .optional("psa_softmax", &Params::psa_softmax, "masks are normalised by a softmax");
  }
  PSAHead(const Params& p, const std::vector<FeatureInfo>& inputs) : DecodeHead(p, inputs), p_(p) {
    const int64_t area = p.mask_size[0] * p.mask_size[1];
    factor_ = 1 / p.normalization_factor.value_or(static_cast<double>(area));
    const auto branch = [&](const std::string& suffix) {
      Branch out;
      out.reduce = register_module("reduce" + suffix, head_conv(p, in_channels(), p.channels));
      out.attention = std::make_shared<Sequential>();
      out.attention->push_back(head_conv(p, p.channels, p.channels));
      out.attention->push_back(std::make_shared<Conv2d>(
          ConvOptions{.in_channels = p.channels, .out_channels = area, .bias = false}));
      register_module("attention" + suffix, out.attention);
      return out;
    };
    const bool both = p.psa_type == "bi-direction";
    branches_.push_back(branch(""));
    branches_.back().collects = p.psa_type != "distribute";
    if (both) branches_.push_back(branch("_p"));
    // A 1x1 convolution with padding, as in MMSegmentation.
    proj_ = register_module("proj", std::make_shared<ConvModule>(ConvModuleOptions{
                                        .in_channels = p.channels * (both ? 2 : 1),
                                        .out_channels = in_channels(),
                                        .padding = 1,
                                        .conv_cfg = p.conv_cfg,
                                        .norm_cfg = p.norm_cfg,
                                        .act_cfg = p.act_cfg}));
    bottleneck_ = register_module("bottleneck", head_conv(p, 2 * in_channels(), p.channels, 3));
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto x = select_one(features);
    Size2 size = map_size(x);
    bool align = align_corners();
    if (p_.shrink_factor != 1) {
      const int64_t s = p_.shrink_factor;
      align = size.h % s != 0 && size.w % s != 0;
      size =
          align ? Size2((size.h - 1) / s + 1, (size.w - 1) / s + 1) : Size2(size.h / s, size.w / s);
    }
    std::vector<torch::Tensor> maps;
    for (Branch& branch : branches_) {
      auto small = branch.reduce->forward(x);
      if (p_.shrink_factor != 1) small = resize(small, size, align);
      auto mask = placed(branch.attention->forward(small), branch.collects);  // [N, h*w, h*w]
      if (p_.psa_softmax) mask = mask.softmax(1);
      maps.push_back(at::bmm(small.flatten(2), mask).view_as(small) * factor_);
    }
    const auto out = resize(proj_->forward(joined_maps(maps)), map_size(x), align);
    return cls_seg(bottleneck_->forward(joined_maps({x, out})));
  }

 private:
  struct Branch {
    bool collects = false;
    std::shared_ptr<ConvModule> reduce;
    std::shared_ptr<Sequential> attention;
  };

  /// Masks [N, mask area, h, w] placed around their positions: [N, h*w, h*w], by source and
  /// position for "collect", by position and source for "distribute"; 0 outside the mask.
  torch::Tensor placed(const torch::Tensor& mask, bool collects) const {
    const int64_t n = mask.size(0), h = mask.size(2), w = mask.size(3);
    if (p_.compact) {
      if (mask.size(1) != h * w) {
        throw DataError(text("compact masks of ", p_.mask_size[0], "x", p_.mask_size[1],
                             " do not fit maps of ", h, "x", w,
                             ": set mask_size of PSAHead to that, or the crop size"));
      }
      const auto flat = mask.reshape({n, h * w, h * w});
      // Which of them is transposed is MMSegmentation's choice.
      return collects == (branches_.size() == 1) ? flat.transpose(1, 2) : flat;
    }
    const int64_t mask_h = p_.mask_size[0], mask_w = p_.mask_size[1];
    const auto options = mask.options().dtype(at::kLong);
    const auto rows = at::arange(h, options), columns = at::arange(w, options);
    const auto row = rows.view({-1, 1}) - rows.view({1, -1}) + (mask_h - 1) / 2;           // [h, h]
    const auto column = columns.view({-1, 1}) - columns.view({1, -1}) + (mask_w - 1) / 2;  // [w, w]
    const auto row_in = (row >= 0) & (row < mask_h), column_in = (column >= 0) & (column < mask_w);
    const auto inside = (row_in.view({h, 1, h, 1}) & column_in.view({1, w, 1, w}))
                            .reshape({1, h * w, h * w});  // by source and position
    const auto index =
        (row.view({h, 1, h, 1}) * mask_w + column.view({1, w, 1, w})).reshape({1, h * w, h * w});
    const auto out = mask.flatten(2)
                         .gather(1, index.masked_fill(~inside, 0).expand({n, -1, -1}))
                         .masked_fill(~inside, 0);
    return collects ? out : out.transpose(1, 2);
  }

  Params p_;
  double factor_ = 1;
  std::vector<Branch> branches_;
  std::shared_ptr<ConvModule> proj_, bottleneck_;
};

SEG_REGISTER(DecodeHead, PSAHead);

}  // namespace seg
