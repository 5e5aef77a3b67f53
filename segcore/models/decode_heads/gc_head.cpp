#include "segcore/models/blocks/context_block.hpp"
#include "segcore/models/decode_heads/fcn_head.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct GCHeadParams : FCNHeadParams, ContextBlockOptions {};

/// A global context block between two convolutions.
class GCHead final : public MiddleModuleHead {
 public:
  using Params = GCHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Global context network.")
        .source("Cao et al. 2019, arXiv:1904.11492")
        .include(FCNHead::options(/*with_num_convs=*/false))
        .optional("ratio", &Params::ratio, "width inside the block to that of the map", above(0))
        .optional("pooling_type", &Params::pooling_type, "by attention or by the mean",
                  one_of({"att", "avg"}))
        .optional("fusion_types", &Params::fusion_types, "how context and map are combined",
                  one_of({"channel_add", "channel_mul"}));
  }
  GCHead(const Params& p, const std::vector<FeatureInfo>& inputs) : MiddleModuleHead(p, inputs) {
    block_ = register_module("gc_block", std::make_shared<ContextBlock>(p.channels, p));
  }

 private:
  torch::Tensor middle(const torch::Tensor& x) override { return block_->forward(x); }
  std::shared_ptr<ContextBlock> block_;
};

SEG_REGISTER(DecodeHead, GCHead);

}  // namespace seg
