#include "segcore/models/backbones/vgg.hpp"

#include <algorithm>
#include <map>

#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/conv_backbone.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {

std::vector<int64_t> vgg_convs(int64_t depth) {
  static const std::map<int64_t, std::vector<int64_t>> convs{
      {11, {1, 1, 2, 2, 2}}, {13, {2, 2, 2, 2, 2}}, {16, {2, 2, 3, 3, 3}}, {19, {2, 2, 4, 4, 4}}};
  const auto found = convs.find(depth);
  return found == convs.end() ? std::vector<int64_t>{} : found->second;
}

int64_t VGGLayers::width(size_t stage) { return std::min<int64_t>(int64_t{64} << stage, 512); }

VGGLayers::VGGLayers(const VGGLayersOptions& o) {
  const auto convs = vgg_convs(o.depth);
  const auto norm = Spec<Norm>::of("{type: BN}");
  int64_t in = o.in_channels;
  size_t number = 0;
  for (size_t stage = 0; stage < static_cast<size_t>(o.num_stages); ++stage) {
    auto& layers = stages_.emplace_back();
    const auto push = [&](const std::shared_ptr<Layer>& layer) {
      layers.push_back(register_module(text(number++), layer));
    };
    for (int64_t i = 0; i < convs.at(stage); ++i) {
      const int64_t dilation = o.dilations.at(stage);
      push(std::make_shared<Conv2d>(ConvOptions{.in_channels = in,
                                                .out_channels = width(stage),
                                                .kernel_size = 3,
                                                .padding = dilation,
                                                .dilation = dilation}));
      if (o.with_bn) push(norm.build(width(stage)));
      push(std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); }));
      in = width(stage);
    }
    ++number;  // the pooling
  }
}

torch::Tensor VGGLayers::run_stage(size_t stage, const torch::Tensor& x) {
  const auto run = [&layers = stages_.at(stage)](const torch::Tensor& in) {
    auto out = in;
    for (const auto& layer : layers) out = layer->forward(out);
    return out;
  };
  return run_block(*this, run, x);
}

void VGGLayers::freeze_stage(size_t stage) {
  for (const auto& layer : stages_.at(stage)) freeze_module(*layer);
}

struct VGGParams {
  int64_t depth = 16;
  bool with_bn = false;
  int64_t in_channels = 3;
  int64_t num_stages = 5;
  std::vector<int64_t> strides{2, 2, 2, 2, 2};
  std::vector<int64_t> dilations{1, 1, 1, 1, 1};
  std::vector<int64_t> out_indices{0, 1, 2, 3, 4};
  int64_t frozen_stages = -1;
  bool norm_eval = false;
  bool ceil_mode = false;
  bool with_last_pool = true;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

/// VGG, each of whose maps is that of a stage after its pooling, as FCN and DeepLab take it.
class VGG final : public Backbone {
 public:
  using Params = VGGParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("VGG, whose maps are those of its stages after their pooling.")
        .source("Simonyan and Zisserman 2014, arXiv:1409.1556")
        .optional("depth", &P::depth, "layers with weights of the classifier", one_of_vgg_depths())
        .optional("with_bn", &P::with_bn, "batch norms after convolutions")
        .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
        .optional("num_stages", &P::num_stages, "stages", in_range(1, 5))
        .optional("strides", &P::strides,
                  "of the pooling after each stage; 1: over 3x3 pixels, as in DeepLab",
                  in_range(1, 2))
        .optional("dilations", &P::dilations, "of the convolutions of each stage", at_least(1))
        .optional("out_indices", &P::out_indices, "stages whose maps are given", in_range(0, 4))
        .optional("frozen_stages", &P::frozen_stages, "stages that are not trained, -1 for none",
                  in_range(-1, 5))
        .optional("norm_eval", &P::norm_eval, "batch norms keep their running statistics")
        .optional("ceil_mode", &P::ceil_mode, "pooling rounds odd sides up")
        .optional("with_last_pool", &P::with_last_pool, "pool after the last stage, too")
        .optional("pretrained", &P::pretrained, "checkpoint to start from; older form of init_cfg")
        .optional("init_cfg", &P::init_cfg, "initialisation")
        .validate([](const P& p, Problems& problems) {
          const auto count = static_cast<size_t>(p.num_stages);
          if (p.strides.size() < count) {
            problems.error("strides", text("needs a value for each of ", count, " stages"));
          }
          if (p.dilations.size() < count) {
            problems.error("dilations", text("needs a value for each of ", count, " stages"));
          }
          for (const int64_t i : p.out_indices) {
            if (i >= p.num_stages) {
              problems.error("out_indices", text("there is no stage ", i, " of ", count));
            }
          }
        });
  }

  explicit VGG(const Params& p)
      : Backbone(conv_backbone_init(p.init_cfg, p.pretrained)),
        params_(p),
        features_(register_module("features", std::make_shared<VGGLayers>(
                                                  VGGLayersOptions{.depth = p.depth,
                                                                   .with_bn = p.with_bn,
                                                                   .in_channels = p.in_channels,
                                                                   .dilations = p.dilations,
                                                                   .num_stages = p.num_stages}))) {
    freeze();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    std::vector<torch::Tensor> out;
    auto x = images;
    for (size_t i = 0; i < features_->num_stages(); ++i) {
      x = features_->run_stage(i, x);
      if (pools(i)) x = pooled(x, params_.strides[i]);
      if (gives_stage(params_.out_indices, i)) out.push_back(x);
    }
    return out;
  }
  std::vector<FeatureInfo> features() const override {
    std::vector<FeatureInfo> out;
    int64_t stride = 1;
    for (size_t i = 0; i < features_->num_stages(); ++i) {
      if (pools(i)) stride *= params_.strides[i];
      if (gives_stage(params_.out_indices, i)) out.push_back({VGGLayers::width(i), stride});
    }
    return out;
  }
  void train(bool on = true) override {
    Backbone::train(on);
    if (on && params_.norm_eval) freeze_batch_norms(*this);
    if (on) freeze();
  }

 private:
  bool pools(size_t stage) const {
    return params_.with_last_pool || stage + 1 < features_->num_stages();
  }
  torch::Tensor pooled(const torch::Tensor& x, int64_t stride) const {
    return stride == 2 ? at::max_pool2d(x, 2, 2, 0, 1, params_.ceil_mode)
                       : at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/1, /*padding=*/1);
  }
  void freeze() {
    for (int64_t i = 0; i < std::min(params_.frozen_stages, params_.num_stages); ++i) {
      features_->freeze_stage(static_cast<size_t>(i));
    }
  }

  Params params_;
  std::shared_ptr<VGGLayers> features_;
};
SEG_REGISTER(Backbone, VGG);

}  // namespace seg
