#include "segcore/models/decode_heads/pre_norm_block.hpp"
#include "segcore/models/weights/conv_init.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct PIDHeadParams : DecodeHeadParams {
  PIDHeadParams() { norm_cfg = norm_cfg_of("{type: BN}"); }
};

namespace {

/// Probability of a boundary above which a pixel counts in the loss near boundaries.
constexpr double kSurelyBoundary = 0.8;

/// For the base, which would check all losses against the number of classes.
DecodeHeadParams without_losses(DecodeHeadParams p) {
  p.loss_decode = {};
  return p;
}

}  // namespace

/// Classifies the joined map of PIDNet; in training also the map of its detail branch, and finds
/// boundaries in that of its boundary branch.
///
/// Xu et al. 2022, arXiv:2206.02066, section 3.4.
class PIDHead final : public DecodeHead {
 public:
  using Params = PIDHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Classifies the maps of PIDNet and finds boundaries.")
        .source("Xu et al. 2022, arXiv:2206.02066")
        .include(DecodeHead::base_schema())
        .validate([](const Params& p, Problems& problems) {
          check_head_of_branches(p,
                                 {"of the detail branch's map", "of the joined map",
                                  "of the boundaries", "of the joined map near boundaries"},
                                 problems);
          if (!p.ignore_index) {
            problems.error("ignore_index",
                           "must be a label: it replaces those far from boundaries");
          }
        });
  }

  PIDHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : DecodeHead(without_losses(p), inputs) {
    const int64_t in = in_channels(), out = out_channels();
    auto losses = register_module("loss_decode", std::make_shared<ListOf<Loss>>());
    BuildErrors errors;
    for (size_t i = 0; i < p.loss_decode.values.size(); ++i) {
      errors.attempt([&] {
        const int64_t channels = i == kBoundaryLoss ? 1 : out;
        losses_.push_back(losses->push_back(build_loss(p.loss_decode.values[i], channels)));
      });
    }
    errors.throw_if_any();
    check_branches("PIDHead", inputs, in, 2);
    const std::array<std::string, 3> names{"conv", "norm", "act"};
    i_head_ = register_module("i_head", pre_norm_block(p, in, p.channels, names));
    p_head_ = register_module("p_head", pre_norm_block(p, in / 2, p.channels, names));
    DecodeHeadParams boundary = p;
    boundary.act_cfg = relu_cfg();
    d_head_ = register_module("d_head", pre_norm_block(boundary, in / 2, in / 4, names));
    p_cls_seg_ = register_module("p_cls_seg", classifier(p.channels, out));
    d_cls_seg_ = register_module("d_cls_seg", classifier(in / 4, 1));
  }

  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    return cls_seg(i_head_->forward(features.at(2)));
  }

  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    const auto& labels = targets.labels;
    if (!targets.edges.defined()) {
      throw DataError(
          "PIDHead learns from maps of boundaries, which the samples lack: put a {type: "
          "GenerateEdge, edge_width: 4} before the PackSegInputs of the training pipeline");
    }
    const auto detail = p_cls_seg_->forward(p_head_->forward(features.at(0)));
    const auto boundary =
        resize(full_precision(d_cls_seg_->forward(d_head_->forward(features.at(1)))),
               map_size(labels), align_corners());
    const auto joined = forward(features);
    const auto near = at::where(boundary.detach().squeeze(1).sigmoid() > kSurelyBoundary, labels,
                                at::full_like(labels, ignore_index()));
    const auto loss = [&](size_t i, const torch::Tensor& logits, const torch::Tensor& truth) {
      return losses_of({losses_[i]}, /*sampler=*/nullptr, logits, truth, ignore_index(),
                       align_corners());
    };
    const auto of_joined = loss(1, joined, labels);
    return {
        {"loss_sem_p", loss(0, detail, labels).at(0).second},
        {"loss_sem_i", of_joined.at(0).second},
        {"loss_bd", losses_[kBoundaryLoss]->forward(boundary, targets.edges, {}, ignore_index())},
        {"loss_sem_bd", loss(3, joined, near).at(0).second},
        of_joined.at(1)};
  }

  void init_weights() override { kaiming_convs_init(*this); }

 private:
  static constexpr size_t kBoundaryLoss = 2;

  static std::shared_ptr<Conv2d> classifier(int64_t in, int64_t out) {
    return std::make_shared<Conv2d>(
        ConvOptions{.in_channels = in, .out_channels = out, .kernel_size = 1});
  }

  std::shared_ptr<Sequential> i_head_, p_head_, d_head_;
  std::shared_ptr<Conv2d> p_cls_seg_, d_cls_seg_;
};

SEG_REGISTER(DecodeHead, PIDHead);

}  // namespace seg
