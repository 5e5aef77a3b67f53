#include "segcore/models/blocks/point_sample.hpp"
#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/decode_heads/several_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct PointHeadParams : DecodeHeadParams {
  PointHeadParams() {
    conv_cfg = Spec<Conv2d>::of("{type: Conv1d}");
    act_cfg = act_cfg_of("{type: ReLU, inplace: false}");
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{0};
    init_cfg = init_cfg_of("{type: Normal, std: 0.01, override: {name: fc_seg}}");
  }
  int64_t num_fcs = 3;
  bool coarse_pred_each_layer = true;
};

namespace {

/// How close the two best classes are. [N, C, ...] -> [N, ...]
torch::Tensor point_uncertainty(const torch::Tensor& logits) {
  const auto best = std::get<0>(logits.topk(2, /*dim=*/1));
  return best.select(1, 1) - best.select(1, 0);
}

}  // namespace

/// Classifies single points where the head before is least certain.
class PointHead final : public CascadeDecodeHead, public DrawsRandomNumbers {
 public:
  using Params = PointHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Refines single points; second in a cascade.")
        .source("PointRend, Kirillov et al. 2019, arXiv:1912.08193")
        .include(DecodeHead::base_schema())
        .optional("num_fcs", &Params::num_fcs, "layers before the classifier", at_least(0))
        .optional("coarse_pred_each_layer", &Params::coarse_pred_each_layer,
                  "each layer takes the coarse prediction, too")
        .validate(check_several_maps);
  }
  PointHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : CascadeDecodeHead(p, inputs), each_layer_(p.coarse_pred_each_layer) {
    int64_t width = p.num_classes;
    for (const auto& input : CascadeDecodeHead::inputs()) width += input.channels;
    fcs_ = register_module("fcs", std::make_shared<ListOf<ConvModule>>());
    for (int64_t i = 0; i < p.num_fcs; ++i) {
      fcs_->push_back(head_conv(p, width, p.channels));
      width = p.channels + (each_layer_ ? p.num_classes : 0);
    }
    fc_seg_ = register_module("fc_seg",
                              build_conv(Spec<Conv2d>::of("{type: Conv1d}"),
                                         {.in_channels = width, .out_channels = p.num_classes}));
    if (p.dropout_ratio > 0) {
      unregister_module("dropout");
      CascadeDecodeHead::dropout_ = nullptr;
      point_dropout_ = register_module("dropout", std::make_shared<Dropout>(p.dropout_ratio));
    }
    remove_conv_seg();
  }

  void configure(const TrainCfg& train_cfg, const TestCfg& test_cfg) override {
    train_cfg_ = train_cfg;
    test_cfg_ = test_cfg;
  }

  using CascadeDecodeHead::forward;
  using CascadeDecodeHead::loss;
  using CascadeDecodeHead::predict;

  /// The coarse logits, enlarged step by step and corrected at their least certain points.
  torch::Tensor forward(const std::vector<torch::Tensor>& features,
                        const torch::Tensor& previous) override {
    const auto maps = select(features);
    auto refined = previous;
    for (int64_t step = 0; step < test_cfg_.subdivision_steps; ++step) {
      refined = resize_by(refined, test_cfg_.scale_factor, align_corners());
      const int64_t height = refined.size(2), width = refined.size(3);
      const int64_t count = std::min(height * width, test_cfg_.subdivision_num_points);
      const auto best =
          std::get<1>(point_uncertainty(refined).flatten(1).topk(count, /*dim=*/1));  // [N, P]
      const auto type =
          previous.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
      const auto x = ((best % width).to(type) + 0.5) / static_cast<double>(width);
      const auto y = (best.div(width, "floor").to(type) + 0.5) / static_cast<double>(height);
      const auto logits = classify(maps, previous, at::stack({x, y}, 2));  // [N, C, P]
      refined =
          refined.flatten(2)
              .scatter(2, best.unsqueeze(1).expand_as(logits), logits.to(refined.scalar_type()))
              .view_as(refined);
    }
    return refined;
  }

  LossMap loss(const std::vector<torch::Tensor>& features, const torch::Tensor& previous,
               const Targets& targets) override {
    torch::Tensor points;
    {
      const torch::NoGradGuard no_grad;
      points = uncertain_points(previous, point_uncertainty,
                                {.num_points = train_cfg_.num_points,
                                 .oversample_ratio = train_cfg_.oversample_ratio,
                                 .importance_sample_ratio = train_cfg_.importance_sample_ratio},
                                random_source());
    }
    const auto logits = classify(select(features), previous, points).unsqueeze(3);  // [N, C, P, 1]
    const auto labels = point_sample(targets.labels.unsqueeze(1).to(points.scalar_type()), points,
                                     align_corners(), /*nearest=*/true)
                            .to(torch::kLong)
                            .transpose(1, 2);  // [N, P, 1]
    LossMap out;
    for (const auto& one : losses_) {
      add_loss(out, "point" + one->loss_name(), one->forward(logits, labels, {}, ignore_index()));
    }
    out.emplace_back("acc_point", pixel_accuracy(logits, labels, ignore_index()));
    return out;
  }

 private:
  /// Logits of points, [N, C, P].
  torch::Tensor classify(const std::vector<torch::Tensor>& maps, const torch::Tensor& previous,
                         const torch::Tensor& points) {
    std::vector<torch::Tensor> values;
    for (const auto& map : maps) values.push_back(point_sample(map, points, align_corners()));
    const auto coarse = point_sample(previous, points, align_corners());
    values.push_back(coarse);
    auto x = at::cat(values, 1);
    for (const auto& fc : *fcs_) {
      x = fc->forward(x);
      if (each_layer_) x = at::cat({x, coarse}, 1);
    }
    return fc_seg_->forward(point_dropout_ ? point_dropout_->forward(x) : x);
  }

  bool each_layer_;
  TrainCfg train_cfg_;
  TestCfg test_cfg_;
  std::shared_ptr<ListOf<ConvModule>> fcs_;
  std::shared_ptr<Conv2d> fc_seg_;
  std::shared_ptr<Dropout> point_dropout_;  ///< may be null
};

SEG_REGISTER(DecodeHead, PointHead);

}  // namespace seg
