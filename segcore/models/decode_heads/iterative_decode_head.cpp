#include "segcore/models/decode_head.hpp"
#include "segcore/models/decode_heads/kernel_update_head.hpp"
#include "segcore/models/nn/plain_list.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct IterativeDecodeHeadParams {
  int64_t num_stages = 0;
  Spec<DecodeHead> kernel_generate_head;
  std::vector<Spec<KernelUpdateStage>> kernel_update_head;
  InitCfg init_cfg;
};

/// A head whose classifier's kernels are updated several times by the features they gather.
class IterativeDecodeHead final : public DecodeHead {
 public:
  using Params = IterativeDecodeHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("K-Net: kernels updated by the features they gather.")
        .source("Zhang et al. 2021, arXiv:2106.14855")
        .required("num_stages", &Params::num_stages, "updates", at_least(1))
        .required("kernel_generate_head", &Params::kernel_generate_head,
                  "the head whose classifier holds the first kernels")
        .required("kernel_update_head", &Params::kernel_update_head, "one for each update")
        .optional("init_cfg", &Params::init_cfg, "how weights are filled")
        .validate([](const Params& p, Problems& problems) {
          if (static_cast<int64_t>(p.kernel_update_head.size()) != p.num_stages) {
            problems.error("kernel_update_head",
                           text("needs ", p.num_stages, " entries (num_stages), got ",
                                p.kernel_update_head.size()));
          }
        });
  }
  static DecodeHeadFacts facts(const Params& p) {
    const DecodeHeadFacts head = p.kernel_generate_head.facts();
    return {head.num_classes, "kernel_generate_head." + head.option};
  }
  IterativeDecodeHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : IterativeDecodeHead(p, inputs, p.kernel_generate_head.build(inputs)) {}

  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return stages(features).back();
  }
  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    LossMap out;
    const auto logits = stages(features);
    for (size_t i = 0; i < logits.size(); ++i) {
      for (auto& [name, value] : generate_->loss_by_feat(logits[i], targets.labels)) {
        out.emplace_back(text(name, ".s", i), value);
      }
    }
    return out;
  }

 private:
  IterativeDecodeHead(const Params& p, const std::vector<FeatureInfo>& inputs,
                      std::shared_ptr<DecodeHead> generate)
      : DecodeHead(base_params(p, *generate), inputs) {
    if (!generate->conv_seg()) {
      throw OptionError("kernel_generate_head", "has no classifier of its own");
    }
    generate_ = register_module("kernel_generate_head", std::move(generate));
    update_ =
        register_module("kernel_update_head", std::make_shared<PlainListOf<KernelUpdateStage>>());
    for (const auto& spec : p.kernel_update_head) update_->push_back(spec.build());
  }

  static DecodeHeadParams base_params(const Params& p, const DecodeHead& generate) {
    DecodeHeadParams out;
    out.num_classes = generate.num_classes();
    out.align_corners = generate.align_corners();
    out.dropout_ratio = 0;
    out.init_cfg = p.init_cfg;
    return out;
  }

  /// The logits of the first head and of each update.
  std::vector<torch::Tensor> stages(const std::vector<torch::Tensor>& features) {
    const auto x = generate_->forward_feature(features);
    KernelUpdate state;
    state.masks = generate_->cls_seg(x);
    state.kernels = generate_->conv_seg()->weight.unsqueeze(0).expand({x.size(0), -1, -1, -1, -1});
    std::vector<torch::Tensor> out{state.masks};
    for (const auto& stage : *update_) {
      state = stage->forward(x, state);
      out.push_back(state.masks);
    }
    return out;
  }

  std::shared_ptr<DecodeHead> generate_;
  std::shared_ptr<PlainListOf<KernelUpdateStage>> update_;
};

SEG_REGISTER(DecodeHead, IterativeDecodeHead);

}  // namespace seg
