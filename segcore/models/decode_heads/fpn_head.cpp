#include "segcore/models/decode_heads/fpn_head.hpp"

#include <algorithm>
#include <cmath>

#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/decode_heads/several_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<FPNHeadParams> FPNHeadParams::schema(const std::string& summary) {
  using Params = FPNHeadParams;
  return Schema<Params>(summary)
      .include(DecodeHead::base_schema())
      .required("feature_strides", &Params::feature_strides,
                "stride of each map to the image, finest first", at_least(1))
      .validate([](const Params& p, Problems& problems) {
        check_several_maps(p, problems);
        const auto* maps = std::get_if<std::vector<int64_t>>(&p.in_index);
        if (maps && maps->size() != p.feature_strides.size()) {
          problems.error("feature_strides", text("has ", p.feature_strides.size(), " values for ",
                                                 maps->size(), " maps"));
        }
        for (const int64_t stride : p.feature_strides) {
          if (stride < p.feature_strides[0]) {
            problems.error("feature_strides", "the first must be the smallest");
            break;
          }
        }
      });
}

int64_t FPNHeadParams::doublings(size_t i) const {
  return static_cast<int64_t>(std::log2(feature_strides[i]) - std::log2(feature_strides[0]));
}

Schema<FPNHeadParams> FPNHead::schema() {
  return FPNHeadParams::schema("Semantic branch of panoptic feature pyramids.")
      .source("Kirillov et al. 2019, arXiv:1901.02446");
}

FPNHead::FPNHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all) {
  scale_heads_ = register_module("scale_heads", std::make_shared<ListOf<Sequential>>());
  for (size_t i = 0; i < p.feature_strides.size(); ++i) {
    auto row = std::make_shared<Sequential>();
    for (int64_t k = 0; k < std::max<int64_t>(1, p.doublings(i)); ++k) {
      row->push_back(head_conv(p, k == 0 ? inputs()[i].channels : p.channels, p.channels, 3));
      if (p.feature_strides[i] != p.feature_strides[0]) {
        row->push_back(std::make_shared<Lambda>([align = p.align_corners](const torch::Tensor& x) {
          return resize(x, {2 * x.size(2), 2 * x.size(3)}, align);
        }));
      }
    }
    scale_heads_->push_back(row);
  }
}

torch::Tensor FPNHead::forward(const std::vector<torch::Tensor>& features) {
  const auto maps = select(features);
  auto sum = (*scale_heads_)[0].forward(maps[0]);
  for (size_t i = 1; i < maps.size(); ++i) {
    sum = sum + resize((*scale_heads_)[i].forward(maps[i]), map_size(sum), align_corners());
  }
  return cls_seg(sum);
}

SEG_REGISTER(DecodeHead, FPNHead);

}  // namespace seg
