#include "segcore/models/blocks/non_local.hpp"
#include "segcore/models/decode_heads/fcn_head.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

template <class P>
NonLocalOptions non_local_options(const P& p) {
  return {.reduction = p.reduction,
          .use_scale = p.use_scale,
          .conv_cfg = p.conv_cfg,
          .norm_cfg = p.norm_cfg,
          .mode = p.mode};
}

template <class P>
Schema<P> non_local_schema(const std::string& summary) {
  return Schema<P>(summary)
      .include(FCNHead::options(/*with_num_convs=*/false))
      .optional("reduction", &P::reduction, "divisor of the width of the attention", at_least(1))
      .optional("use_scale", &P::use_scale, "divide scores by the root of the width")
      .optional("mode", &P::mode, "how positions are compared",
                one_of({"gaussian", "embedded_gaussian", "dot_product", "concatenation"}));
}

}  // namespace

struct NLHeadParams : FCNHeadParams {
  int64_t reduction = 2;
  bool use_scale = true;
  std::string mode = "embedded_gaussian";
};

/// Attention of every position to every other between two convolutions.
class NLHead final : public MiddleModuleHead {
 public:
  using Params = NLHeadParams;
  static Schema<Params> schema() {
    return non_local_schema<Params>("Non-local network.")
        .source("Wang et al. 2017, arXiv:1711.07971");
  }
  NLHead(const Params& p, const std::vector<FeatureInfo>& inputs) : MiddleModuleHead(p, inputs) {
    block_ =
        register_module("nl_block", std::make_shared<NonLocal2d>(p.channels, non_local_options(p)));
  }

 private:
  torch::Tensor middle(const torch::Tensor& x) override { return block_->forward(x); }
  std::shared_ptr<NonLocal2d> block_;
};

SEG_REGISTER(DecodeHead, NLHead);

struct DNLHeadParams : NLHeadParams {
  double temperature = 0.05;
};

/// The same, comparing differences from the mean, with a term common to all positions.
class DNLHead final : public MiddleModuleHead {
 public:
  using Params = DNLHeadParams;
  static Schema<Params> schema() {
    return non_local_schema<Params>("Disentangled non-local network.")
        .source("Yin et al. 2020, arXiv:2006.06668")
        .optional("temperature", &Params::temperature, "divisor of the scores", above(0));
  }
  DNLHead(const Params& p, const std::vector<FeatureInfo>& inputs) : MiddleModuleHead(p, inputs) {
    block_ = register_module("dnl_block", std::make_shared<DisentangledNonLocal2d>(
                                              p.channels, non_local_options(p), p.temperature));
  }

 private:
  torch::Tensor middle(const torch::Tensor& x) override { return block_->forward(x); }
  std::shared_ptr<DisentangledNonLocal2d> block_;
};

SEG_REGISTER(DecodeHead, DNLHead);

}  // namespace seg
