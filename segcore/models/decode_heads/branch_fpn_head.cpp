#include <algorithm>

#include "segcore/models/decode_heads/fpn_head.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct BranchFPNHeadParams : FPNHeadParams {
  double cate_w = 0.4;
};

/// Semantic FPN that also learns the class scores that a backbone gives behind its maps, one for
/// each.
class BranchFPNHead final : public FPNHead {
 public:
  using Params = BranchFPNHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Semantic FPN for backbones that give class scores of their own.")
        .source("SeMask, Jain et al. 2021, arXiv:2112.12782")
        .include(FPNHeadParams::schema(""))
        .optional("cate_w", &Params::cate_w, "weight of the loss of the backbone's scores",
                  at_least(0));
  }

  BranchFPNHead(const Params& p, const std::vector<FeatureInfo>& all)
      : FPNHead(p, all), p_(p), maps_(static_cast<int64_t>(all.size() / 2)) {
    for (const int64_t i : std::get<std::vector<int64_t>>(p.in_index)) {
      const auto place = static_cast<size_t>(scores_place(i));
      if (place < all.size() && all[place].channels == p.num_classes) continue;
      throw OptionError("num_classes",
                        text("is ", p.num_classes,
                             ", but the backbone gives no scores of as many "
                             "classes for map ",
                             i, ": take SeMaskSwinTransformer with num_cls ", p.num_classes));
    }
  }

  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    LossMap out = loss_by_feat(forward(features), targets.labels);
    for (auto& [name, value] : out) {
      // As in the repository, where ignored pixels count as wrong.
      if (name == "acc_seg") value = value * (targets.labels != ignore_index()).to(value).mean();
    }
    torch::Tensor sum;
    for (const auto& [name, value] :
         losses_of(losses_, /*sampler=*/nullptr, backbone_scores(features), targets.labels,
                   ignore_index(), align_corners())) {
      if (name.find("loss") == std::string::npos) continue;
      sum = sum.defined() ? sum + value : value;
    }
    out.emplace_back("loss_cate", p_.cate_w * sum);
    return out;
  }

 private:
  int64_t scores_place(int64_t map) const { return maps_ + (map < 0 ? map + maps_ : map); }

  /// The backbone's scores at the size of the first ones, added.
  torch::Tensor backbone_scores(const std::vector<torch::Tensor>& features) const {
    const auto& chosen = std::get<std::vector<int64_t>>(p_.in_index);
    torch::Tensor sum;
    for (size_t i = 0; i < chosen.size(); ++i) {
      auto scores = features[static_cast<size_t>(scores_place(chosen[i]))];
      if (!sum.defined()) {
        sum = scores;
        continue;
      }
      for (int64_t k = 0; k < p_.doublings(i); ++k) {
        scores = resize(scores, {2 * scores.size(2), 2 * scores.size(3)}, align_corners());
      }
      sum = sum + resize(scores, map_size(sum), align_corners());
    }
    return sum;
  }

  Params p_;
  int64_t maps_;  ///< of the backbone, without its scores
};

SEG_REGISTER(DecodeHead, BranchFPNHead);

}  // namespace seg
