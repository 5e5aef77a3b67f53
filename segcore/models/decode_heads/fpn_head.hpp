/// Semantic FPN: maps of a pyramid, convolved, brought to one size and added.
#pragma once
#include <typeinfo>

#include <memory>
#include <string>
#include <vector>

#include "segcore/models/decode_head.hpp"

namespace seg {

struct FPNHeadParams : DecodeHeadParams {
  FPNHeadParams() {
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{0, 1, 2, 3};
  }
  std::vector<int64_t> feature_strides;

  static Schema<FPNHeadParams> schema(const std::string& summary);
  /// How often map i is doubled.
  int64_t doublings(size_t i) const;
};

/// Each map is convolved and doubled until it has the size of the first; then all are added.
class FPNHead : public DecodeHead {
 public:
  using Params = FPNHeadParams;
  static Schema<Params> schema();
  FPNHead(const Params& p, const std::vector<FeatureInfo>& all);
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override;

 protected:
  /// Not of heads that derive from it, which may have another loss.
  bool learns_from_output() const override { return typeid(*this) == typeid(FPNHead); }

 private:
  std::shared_ptr<ListOf<Sequential>> scale_heads_;
};

}  // namespace seg
